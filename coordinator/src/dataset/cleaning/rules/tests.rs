use super::super::{Cleaned, EXACT_DUPLICATE, NEAR_DUPLICATE, clean};
use super::*;

const CHUNK: &str = "The warranty of the pump ends after 24 months. Whoever opens the housing loses the warranty. Spare parts are sold for ten years.";

fn pair(id: usize, question: &str, answer: &str) -> GeneratedPair {
    GeneratedPair {
        id: id.to_string(),
        question: question.into(),
        answer: answer.into(),
        chunk: CHUNK.into(),
        document: "manual.pdf".into(),
        score: None,
    }
}

fn cleaned(pairs: &[(&str, &str)]) -> Cleaned {
    let pairs = pairs.iter().enumerate().map(|(id, (question, answer))| pair(id, question, answer)).collect();
    clean(pairs, &CleanSettings::default())
}

/// Goal: each rule takes out what it is for, counts it once and shows it; what breaks none stays in its order. Method: a pair for each rule.
#[test]
fn one_of_each() {
    let good = ("How long is the warranty of the pump?", "The warranty ends after 24 months.");
    let key = format!("The key is AIza{}", "Sy0123456789abcdefghijklmnopqrstuvw");
    let done = cleaned(&[
        good,
        ("What is the key of the pump?", &key),
        ("Question: what is it of the pump?", "The warranty ends after 24 months."),
        ("Warranty?", "The warranty ends after 24 months."),
        ("Does the warranty end after 24 months?", "The warranty end after 24 months?"),
        ("What does the text say about the warranty?", "The warranty ends after 24 months."),
        ("Wer darf das Gehäuse öffnen und wieder schließen?", "Whoever opens the housing loses the warranty."),
        ("How long is the warranty of a pump abroad?", "The warranty ends after 36 months."),
        ("Who discovered America with his ships?", "Columbus discovered America sailing westwards."),
        ("how long is the warranty, of the pump", "Another answer: the warranty ends after 24 months."),
        ("How long are spare parts sold?", "Spare parts are sold for ten years."),
    ]);
    assert_eq!(done.kept.iter().map(|pair| pair.id.as_str()).collect::<Vec<_>>(), ["0", "10"]);
    let counts: Vec<_> = done.filtered.iter().map(|filtered| (filtered.rule.as_str(), filtered.count)).collect();
    let wanted = [
        (HAS_SECRET, 1),
        (COPIES_PROMPT, 1),
        (TOO_SHORT, 1),
        (QUESTION_IS_ANSWER, 1),
        (REFERS_TO_TEXT, 1),
        (WRONG_LANGUAGE, 1),
        (NOT_SUPPORTED, 2),
        (JUDGE, 0),
        (EXACT_DUPLICATE, 1),
        (NEAR_DUPLICATE, 0),
    ];
    assert_eq!(counts, wanted);
    let reasons: Vec<_> =
        done.filtered.iter().flat_map(|filtered| &filtered.examples).map(|example| example.reason.as_str()).collect();
    assert!(reasons.contains(&"the answer's number 36 is not in the chunk"), "{reasons:?}");
    assert!(reasons.contains(&"the question is in German, its chunk in English"), "{reasons:?}");
    assert!(!serde_json::to_string(&done.filtered).unwrap().contains("AIzaSy"));
}

/// Goal: a pair that was judged too low is taken out by that rule, unless another one has it; one that was not judged stays. Method: scores around
/// a threshold, and the same without one.
#[test]
fn judged_pairs() {
    let answer = "The warranty ends after 24 months.";
    let judged = |id, question: &str, score| GeneratedPair { score, ..pair(id, question, answer) };
    let pairs = vec![
        judged(0, "How long is the warranty of the pump?", Some(4)),
        judged(1, "After which time does a claim lapse?", Some(3)),
        judged(2, "When is it too late for free repairs?", None),
        judged(3, "Warranty?", Some(1)),
        judged(4, "What does the maker promise about failures?", Some(5)),
    ];
    let settings = CleanSettings { judge_threshold: Some(4), near_duplicates: false, ..CleanSettings::default() };
    assert_eq!(settings.problems(), Vec::<String>::new());
    let done = clean(pairs.clone(), &settings);
    assert_eq!(done.kept.iter().map(|pair| pair.id.as_str()).collect::<Vec<_>>(), ["0", "2", "4"]);
    assert_eq!((done.count(JUDGE), done.count(TOO_SHORT)), (1, 1));
    let by_judge = done.filtered.iter().find(|filtered| filtered.rule == JUDGE).unwrap();
    assert_eq!(by_judge.examples[0].reason, "it was judged 3 of 5; 4 are needed");
    let without = clean(pairs, &CleanSettings { judge_threshold: None, ..settings.clone() });
    assert_eq!(without.kept.len(), 4);
    assert_eq!(CleanSettings { judge_threshold: Some(6), ..settings }.problems().len(), 1);
}

/// Goal: counts are whole, examples are three and cut. Method: a thousand pairs that are too short, with long answers.
#[test]
fn examples_are_few() {
    let long = "Ä".repeat(5000);
    let done = cleaned(&vec![("Why?", long.as_str()); 1000]);
    let short = done.filtered.iter().find(|filtered| filtered.rule == TOO_SHORT).unwrap();
    assert_eq!((done.kept.len(), short.count, short.examples.len()), (0, 1000, 3));
    assert_eq!(short.examples[0].answer, format!("{}...", "Ä".repeat(200)));
    assert!(clean(Vec::new(), &CleanSettings::default()).kept.is_empty());
}

/// Goal: settings turn rules off, and say where they are out of range. Method: all rules off leaves everything but copies.
#[test]
fn settings() {
    let off = CleanSettings {
        min_question_words: 0,
        min_question_letters: 0,
        min_answer_words: 0,
        min_answer_letters: 0,
        refers_to_text: false,
        min_support: 0.0,
        numbers_supported: false,
        same_language: false,
        secrets: false,
        same_question: false,
        near_duplicates: false,
        ..CleanSettings::default()
    };
    let pairs = vec![
        pair(0, "This text?", "9 elephants"),
        pair(1, "This text?", "8 elephants"),
        pair(2, "This text", "9 elephants!"),
        pair(3, "", "x"),
    ];
    let done = clean(pairs, &off);
    assert_eq!(done.kept.iter().map(|pair| pair.id.as_str()).collect::<Vec<_>>(), ["0", "1", "3"]);
    assert!(off.problems().is_empty());
    let wrong = CleanSettings { min_support: 1.5, near_answer: f64::NAN, near_question: 0.0, ..off };
    assert_eq!(wrong.problems().len(), 3, "{:?}", wrong.problems());
    let read: CleanSettings = serde_json::from_str(r#"{"min_answer_words": 5}"#).unwrap();
    assert_eq!(read, CleanSettings { min_answer_words: 5, ..CleanSettings::default() });
}
