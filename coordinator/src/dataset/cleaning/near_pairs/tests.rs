use super::*;

const LEAST: Likeness = Likeness { question: 0.55, answer: 0.6 };

/// Words of this stream, each of its own.
fn words(stream: &str, num_words: usize) -> String {
    (0..num_words).map(|place| format!("{stream}{}", hex(place))).collect::<Vec<_>>().join(" ")
}

/// A number in letters: digits would make it a number of the question.
fn hex(number: usize) -> String {
    format!("{number:03}").bytes().map(|digit| char::from(digit - b'0' + b'a')).collect()
}

fn originals(pairs: &[[String; 3]]) -> Vec<Option<u32>> {
    let texts: Vec<PairTexts<'_>> = pairs.iter().map(|pair| [pair[0].as_str(), pair[1].as_str(), pair[2].as_str()]).collect();
    let found = near_duplicates(&texts, LEAST);
    assert_eq!(found.num_cut_short, 0);
    found.originals
}

/// Pairs about nothing else, so that words have weights.
fn others() -> Vec<[String; 3]> {
    (0..200)
        .map(|n| [format!("What is the {} of it?", words(&hex(n), 2)), words(&format!("z{}", hex(n)), 40), String::new()])
        .collect()
}

fn pair(question: &str, answer: &str, chunk: &str) -> [String; 3] {
    [question.to_owned(), answer.to_owned(), chunk.to_owned()]
}

/// Goal: a pair goes only if both texts are alike, and stays where names, numbers or the answer differ. Method: one pair of each
/// kind behind its original.
#[test]
fn what_a_near_duplicate_is() {
    let answer = words("answer", 40);
    let changed = answer.replace("answeraab", "other").replace("answerabc", "another");
    let question = "What is the warranty period of pump alpha in dusty places?";
    let kinds = [
        (pair(question, &answer, "about pump alpha"), None),
        (pair("What is the warranty time of pump alpha in dusty places?", &changed, "about pump alpha"), Some(0)),
        (pair("What is the warranty period of pump beta in dusty places?", &changed, "about pump beta"), None),
        (pair("What is the warranty period of pump alpha 2 in dusty places?", &changed, "about pump alpha"), None),
        (pair(question, &words("unlike", 40), "about pump alpha"), None),
        (pair("Who repairs broken seals when nobody answers calls?", &answer, "about pump alpha"), None),
    ];
    let (pairs, wanted): (Vec<_>, Vec<_>) = kinds.into_iter().unzip();
    let found = originals(&[pairs, others()].concat());
    assert_eq!(&found[..wanted.len()], wanted);
    assert!(found[wanted.len()..].iter().all(Option::is_none));
}

/// Goal: what goes always has a pair that stays in its place, in a chain of small changes too. Method: 30 pairs, each one word
/// from the one before.
#[test]
fn originals_stay() {
    let mut chain = vec![pair(&words("q", 10), &words("a", 40), "")];
    for step in 0..30 {
        let [question, answer, chunk] = chain[step].clone();
        let answer = answer.replacen(&format!("a{}", hex(step)), &format!("b{}", hex(step)), 1);
        chain.push([question, answer, chunk]);
    }
    let found = originals(&[chain, others()].concat());
    assert!(found.iter().flatten().all(|&original| found[original as usize].is_none()));
    let num_left = found[..31].iter().filter(|original| original.is_none()).count();
    assert!((2..=5).contains(&num_left), "{num_left}");
}

/// Goal: a thousand questions about one answer are compared by their rare words, and near-duplicates among them are found.
/// Method: one answer, 1,000 names, and each tenth question again in other words.
#[test]
fn one_answer_for_many() {
    let answer = words("answer", 40);
    let mut pairs: Vec<_> = (0..1000).map(|n| pair(&format!("Is {} inherited?", words(&hex(n), 2)), &answer, "")).collect();
    for n in (0..1000).step_by(10) {
        pairs.push(pair(&format!("Can {} be inherited?", words(&hex(n), 2)), &answer, ""));
    }
    let found = originals(&pairs);
    let (first, again) = found.split_at(1000);
    assert!(first.iter().all(Option::is_none));
    let wanted: Vec<_> = (0..1000).step_by(10).map(Some).collect();
    assert_eq!(again, wanted);
}
