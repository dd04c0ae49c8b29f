use artel_common::records::ImportReport;
use artel_common::spec::RunSpec;

use super::*;

fn cleaning(lines: &str) -> CleaningSection {
    let text = format!(
        "[documents]\nsources = \"d\"\n[questions]\nprovider = \"offline\"\n[cleaning]\n{lines}\n[model]\nbase = \"b\"\n"
    );
    RunSpec::parse(&text, "spec.toml").unwrap().0.cleaning.unwrap()
}

fn pair(id: &str, anchor: &str, positive: &str) -> Pair {
    Pair { id: id.into(), anchor: anchor.into(), positive: positive.into(), negatives: Vec::new(), group: None }
}

fn split(train: Vec<Pair>, test: Vec<Pair>) -> Split {
    let (report, warnings) = (ImportReport::default(), Vec::new());
    Split { train, test, test_is_train: false, report, warnings, made: None }
}

/// Chunks by a row's id: rows without are of a file.
fn chunk(pair: &Pair) -> Option<&'static str> {
    ["c0", "c1", "c2", "c3"].get(pair.id.parse::<usize>().ok()?).copied()
}

fn rows() -> Split {
    let train = vec![pair("0", "q0", "p0"), pair("1", "q1", "p1"), pair("f", "q0", "p2"), pair("2", "q2", "c0")];
    split(train, vec![pair("3", "q3", "p3")])
}

fn texts<'a>(lists: &'a Lists, range: &Range<u64>) -> Vec<&'a str> {
    lists.passages[range.start as usize..range.end as usize].iter().map(String::as_str).collect()
}

/// Goal: questions are held against the chunks of all pairs, their negatives are training positives, each text is there once, and a question's positives
/// are those of all its rows. Method: rows of chunks and of a file, a chunk that is a positive too, a question with two positives.
#[test]
fn chunks_and_candidates() {
    let split = rows();
    let lists = lists(&cleaning("round_trip = 5\nnum_negatives = 2"), &split, true, chunk).unwrap();
    assert_eq!(texts(&lists, &lists.chunks), ["c1", "c2", "c3", "c0"]);
    assert_eq!(texts(&lists, &lists.candidates), ["c0", "p0", "p1", "p2"]);
    assert_eq!((lists.passages.len(), lists.questions.len()), (7, 5));
    let text = |number: &u64| lists.passages[*number as usize].as_str();
    let seen: Vec<(bool, bool, Option<&str>, Vec<&str>)> = lists
        .asked
        .iter()
        .zip(&lists.questions)
        .map(|(asked, row)| (asked.checks, asked.mines, row.chunk.as_ref().map(text), row.positives.iter().map(text).collect()))
        .collect();
    let expected = [
        (true, true, Some("c0"), vec!["p0", "p2"]),
        (true, true, Some("c1"), vec!["p1"]),
        (false, true, None, vec!["p0", "p2"]),
        (true, true, Some("c2"), vec!["c0"]),
        (true, false, Some("c3"), vec![]),
    ];
    assert_eq!(seen, expected);
    let MiningRule { max_positives, range_max, .. } = lists.rule;
    assert_eq!((max_positives, range_max), (2, 22));
}

/// Goal: what is not wanted is not asked, no test text is a candidate, and negatives of a file's own are refused. Method: either key alone, a test file that
/// shares a text, `test = "train"`, a row with a negative.
#[test]
fn what_is_not_wanted() {
    let only_checks = lists(&cleaning("round_trip = 5"), &rows(), true, chunk).unwrap();
    assert_eq!((only_checks.questions.len(), only_checks.candidates.clone()), (4, 0..0));
    assert_eq!(texts(&only_checks, &only_checks.chunks), ["c0", "c1", "c2", "c3"]);
    let mut shared = rows();
    // a row of a test file may have any id
    shared.test.push(pair("1", "other", "p1"));
    let only_mines = lists(&cleaning("num_negatives = 1\nrange_max = 9"), &shared, false, chunk).unwrap();
    assert_eq!((only_mines.questions.len(), only_mines.chunks.clone(), only_mines.rule.range_max), (4, 0..0, 9));
    assert_eq!(texts(&only_mines, &only_mines.candidates), ["p0", "p2", "c0"]);
    assert_eq!(only_mines.passages[3], "p1", "a positive that is no candidate is embedded all the same");
    let on_train = Split { test: shared.train.clone(), test_is_train: true, ..shared.clone() };
    let on_train = lists(&cleaning("num_negatives = 1"), &on_train, false, chunk).unwrap();
    assert_eq!(texts(&on_train, &on_train.candidates), ["p0", "p1", "p2", "c0"]);
    shared.train[1].negatives.push("n".into());
    let refused = lists(&cleaning("num_negatives = 1"), &shared, false, chunk);
    assert!(refused.err().unwrap().to_string().contains("negatives of its own"));
    assert!(lists(&cleaning("round_trip = 1"), &shared, false, chunk).is_ok());
}
