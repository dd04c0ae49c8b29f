use std::collections::HashMap;

use artel_common::making::{DocumentReport, QuestionsReport};
use artel_common::mining::{MiningRule, PoolQuestion};
use artel_common::records::ImportReport;

use super::*;

fn made(number: usize, document: &str) -> GeneratedPair {
    let (question, answer) = (format!("q{number}"), format!("p{number}"));
    GeneratedPair {
        id: number.to_string(),
        question,
        answer,
        chunk: format!("c{number}").into(),
        document: document.into(),
        score: None,
    }
}

/// Four training pairs of a document, two test pairs of another, and a training row of a file.
fn pooled(num_negatives: u64) -> Pooled {
    let kept: Vec<GeneratedPair> = (0..6).map(|number| made(number, if number < 4 { "a" } else { "b" })).collect();
    let mut rows: Vec<Pair> = kept.iter().map(|pair| pair.clone().into_pair(Default::default())).collect();
    let test = rows.split_off(4);
    rows.push(Pair { id: "f".into(), anchor: "qf".into(), positive: "pf".into(), negatives: Vec::new(), group: None });
    let side = |is_test: bool, rows: &[Pair]| {
        let asked = |(row, pair): (usize, &Pair)| {
            let asked = Asked { is_test, row, checks: pair.id != "f", mines: num_negatives > 0 && !is_test };
            (asked, PoolQuestion { question: pair.anchor.clone(), ..PoolQuestion::default() })
        };
        rows.iter().enumerate().map(asked).collect::<Vec<_>>()
    };
    // of eight pairs that were made the last two were taken out before
    let taken_out = TakenOut::from([("too_short".to_owned(), vec![6, 7])]);
    let (asked, questions) = side(false, &rows).into_iter().chain(side(true, &test)).unzip();
    let document = |source: &str| DocumentReport { source: source.into(), ..DocumentReport::default() };
    let rule =
        MiningRule { round_trip: Some(3), num_negatives, range_min: 0, range_max: 9, max_positives: 1, relative_margin: 0.05 };
    Pooled {
        gathered: Gathered {
            documents: vec![document("a"), document("b")],
            questions: QuestionsReport::default(),
            kept,
            taken_out,
        },
        split: Split {
            train: rows,
            test,
            test_is_train: false,
            report: ImportReport::default(),
            warnings: Vec::new(),
            made: None,
        },
        numbers: (0..6).map(|number| (number.to_string(), number)).collect::<HashMap<_, _>>(),
        lists: Lists {
            rule,
            asked,
            questions,
            passages: ["p0", "p1", "p2", "p3", "pf", "q1"].map(str::to_owned).into(),
            chunks: 0..0,
            candidates: 0..6,
        },
    }
}

fn found(rank: u64, negatives: &[u64]) -> FoundRow {
    FoundRow { rank, negatives: negatives.to_vec(), scores: negatives.iter().map(|&number| number as f32 / 10.0).collect() }
}

/// Goal: each row is dropped by the first rule that it breaks or gets its negatives, on its side, and every count agrees with what is kept. Method: rows of
/// each kind: found and not, with enough negatives and not, a negative that is the question, a row of a file.
#[test]
fn rules_and_counts() {
    // q0 is kept; q1 finds its own question; q2 does not find its chunk; q3 has one negative; the file's row is kept; of the test q4 is kept
    let found = [
        found(1, &[1, 2]),
        found(2, &[0, 5]),
        found(0, &[0, 1]),
        found(3, &[2]),
        found(0, &[2, 3]),
        found(1, &[]),
        found(0, &[]),
    ];
    let Sifted { split, kept, taken_out } = apply(pooled(2), &found).unwrap();
    let ids = |rows: &[Pair]| rows.iter().map(|row| row.id.clone()).collect::<Vec<_>>();
    assert_eq!((ids(&split.train), ids(&split.test)), (vec!["0".to_owned(), "f".to_owned()], vec!["4".to_owned()]));
    assert_eq!(
        (&split.train[0].negatives[..], &split.train[1].negatives[..]),
        (&["p1".into(), "p2".into()][..], &["p2".into(), "p3".into()][..])
    );
    assert!(split.test[0].negatives.is_empty());
    let report = split.made.unwrap();
    let counts: Vec<(&str, u64)> = report.questions.filtered.iter().map(|by| (by.rule.as_str(), by.count)).collect();
    assert_eq!(counts, [("round_trip", 2), ("few_negatives", 2)]);
    assert_eq!(report.questions.filtered[0].examples[0], ["q2".to_owned(), "p2".to_owned()]);
    assert_eq!(report.questions.pairs, 2, "of the pairs that were made");
    assert_eq!(report.documents.iter().map(|document| document.pairs).collect::<Vec<_>>(), [1, 1]);
    let negatives = report.questions.negatives.unwrap();
    assert_eq!((negatives.per_row, negatives.candidates), (2, 6));
    assert!((negatives.mean_score - (0.1 + 0.2 + 0.2 + 0.3) / 4.0).abs() < 1e-6);
    assert_eq!(kept.iter().map(|pair| pair.id.as_str()).collect::<Vec<_>>(), ["0", "1", "3", "4"]);
    let taken: Vec<(&str, &[u64])> = taken_out.iter().map(|(rule, numbers)| (rule.as_str(), &numbers[..])).collect();
    assert_eq!(taken, [("few_negatives", &[1, 3][..]), ("round_trip", &[2, 5]), ("too_short", &[6, 7])]);
    assert!(split.report.split.contains("takes 3 rows to train on and 1 to measure on out again"), "{}", split.report.split);
}

/// Goal: where test is train both sides are the same rows; where too little is left the error names the rules. Method: both, and a run that only checks.
#[test]
fn sides_and_errors() {
    let all = |rank: u64| vec![found(rank, &[0, 1]); 7];
    let mut on_train = pooled(2);
    (on_train.split.test, on_train.split.test_is_train) = (on_train.split.train.clone(), true);
    on_train.lists.asked.truncate(5);
    let Sifted { split, .. } = apply(on_train, &all(1)[..5]).unwrap();
    assert!(split.train == split.test && split.train.iter().all(|row| row.negatives.len() == 2));
    let Sifted { split, kept, .. } = apply(pooled(0), &all(1)).unwrap();
    assert_eq!((split.train.len(), split.test.len(), kept.len()), (5, 2, 6));
    assert_eq!(split.made.unwrap().questions.negatives, None);
    let mut no_test = all(1);
    (no_test[5].rank, no_test[6].rank) = (0, 0);
    let error = apply(pooled(0), &no_test).err().unwrap().to_string();
    assert!(error.contains("of 2 test rows [cleaning] leaves too few: 2 pairs do not find"), "{error}");
    let error = apply(pooled(0), &all(0)).err().unwrap().to_string();
    assert!(error.contains("took all of them: round_trip 6"), "{error}");
}
