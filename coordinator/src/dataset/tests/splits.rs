//! Splits that share nothing, and what a test file shares.

use std::collections::HashSet;

use artel_common::records::DatasetManifest;
use artel_common::rng::Rng;
use artel_common::shard::decode_shard;
use artel_common::store::Store;
use proptest::prelude::*;

use super::super::overlap::find_leaks;
use super::*;

/// A passage of its own: words that no other number's passage has in the same order.
fn passage(number: usize, length: usize) -> String {
    let mut rng = Rng::stream("passage", &[number as u64]);
    (0..length).map(|_| format!("w{}", rng.below(5000))).collect::<Vec<_>>().join(" ")
}

fn distinct(number: usize) -> Pair {
    Pair {
        id: number.to_string(),
        group: Some(format!("doc {}", number / 3)),
        ..pair(&format!("question {number} ?"), &passage(number, 30))
    }
}

/// Goal: train and test share no document, question, text or near-duplicate, rows are neither lost nor doubled, and the
/// wanted share is reached. Method: 3,000 pairs in documents of three with repeated questions, passages that differ in case and
/// in one word of thirty, and exact copies.
#[test]
fn nothing_is_shared() {
    let mut pairs: Vec<Pair> = (0..3000).map(distinct).collect();
    for number in 0..150 {
        let base = &pairs[number * 17].clone();
        pairs.push(Pair {
            id: format!("case {number}"),
            group: None,
            ..pair(&format!("asks {number}"), &base.positive.to_uppercase())
        });
        let edited = base.positive.replacen(' ', ", ", 3) + " more";
        pairs.push(Pair { id: format!("near {number}"), group: None, ..pair(&format!("wants {number}"), &edited) });
        pairs.push(Pair { id: format!("question {number}"), group: None, ..pair(&base.anchor, &passage(90_000 + number, 30)) });
        pairs.push(Pair { id: format!("copy {number}"), ..base.clone() });
    }
    let done = split(rows(pairs.clone(), None), &data(&[]), 7).unwrap();
    println!("{}", done.report.split);
    assert_eq!((done.report.exact_duplicates, done.train.len() + done.test.len()), (150, 3450));
    assert_eq!(done.test.len(), 345);
    assert!(done.warnings.is_empty() && !done.test_is_train);
    let groups: HashSet<_> = done.test.iter().filter_map(|pair| pair.group.as_deref()).collect();
    assert!(done.train.iter().filter_map(|pair| pair.group.as_deref()).all(|group| !groups.contains(group)));
    let leaks = find_leaks(&done.train, &done.test, 0.8);
    assert_eq!((leaks.overlap.questions, leaks.overlap.texts, leaks.overlap.near_duplicates), (0, 0, 0));
    let again = split(rows(pairs.clone(), None), &data(&[]), 7).unwrap();
    assert_eq!((again.train, again.test), (done.train.clone(), done.test.clone()));
    assert_ne!(split(rows(pairs, None), &data(&[]), 8).unwrap().test, done.test);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Goal: whatever the ties, the split is sound or an error says why. Method: few questions, passages and documents at random.
    #[test]
    fn sound_or_refused(rows_of in prop::collection::vec((0..30u32, 0..30u32, 0..40u32, 0..30u32), 1..60), share in 0.05..0.9f64) {
        let build = |(index, (q, p, group, negative)): (usize, &(u32, u32, u32, u32))| Pair {
            id: index.to_string(),
            anchor: format!("question {q}"),
            positive: format!("passage {p}"),
            negatives: vec![format!("passage {}", 30 + negative)],
            group: (*group < 20).then(|| group.to_string()),
        };
        let pairs: Vec<Pair> = rows_of.iter().enumerate().map(build).collect();
        let data = DataSection { test_fraction: share, ..data(&[]) };
        let Ok(done) = split(rows(pairs.clone(), None), &data, 1) else { return Ok(()) };
        prop_assert!(done.train.len() >= 2 && !done.test.is_empty());
        prop_assert_eq!(done.train.len() + done.test.len() + done.report.exact_duplicates as usize, pairs.len());
        let texts = |pairs: &[Pair]| pairs.iter().flat_map(|p| [p.anchor.clone(), p.positive.clone()]).collect::<HashSet<_>>();
        prop_assert!(texts(&done.train).is_disjoint(&texts(&done.test)));
        let groups = |pairs: &[Pair]| pairs.iter().filter_map(|p| p.group.clone()).collect::<HashSet<_>>();
        prop_assert!(groups(&done.train).is_disjoint(&groups(&done.test)));
        let wanted = (share * (done.train.len() + done.test.len()) as f64).round() as usize;
        prop_assert!(done.test.len() <= wanted.max(1) || done.test.len() * 2 <= done.train.len() + done.test.len());
    }
}

/// Goal: rows that all hang together are refused with the reason, a large part of them is warned of. Method: one document for
/// all rows, for half of them with the rest in two, and near-duplicates of one template.
#[test]
fn large_components() {
    let grouped = |group: fn(usize) -> usize| -> Vec<Pair> {
        (0..100).map(|n| Pair { group: Some(group(n).to_string()), ..distinct(n) }).collect()
    };
    let error = message(split(rows(grouped(|_| 0), None), &data(&[]), 0));
    assert!(error.contains("of 100 rows, 100 hang together") && error.contains("data.test"), "{error}");
    let done = split(rows(grouped(|n| n / 34), None), &data(&[]), 0).unwrap();
    assert_eq!(done.test.len(), 32);
    let done = split(rows(grouped(|n| if n < 99 { 0 } else { n }), None), &data(&[]), 0).unwrap();
    assert_eq!(done.test.len(), 1);
    assert!(
        done.warnings[0].starts_with("1 test rows are set aside where data.test_fraction asks for 10: 99 of 100"),
        "{:?}",
        done.warnings
    );
    let template: Vec<Pair> =
        (0..50).map(|n| pair(&format!("question {n}"), &format!("{} number {n}", passage(1, 200)))).collect();
    assert!(message(split(rows(template, None), &data(&[]), 0)).contains("near_duplicate_threshold (now 0.8)"));
}

/// Goal: negatives keep rows together where that leaves a split, and are warned of where not. Method: negatives of the own
/// document, then negatives that chain all rows.
#[test]
fn negatives_as_ties() {
    let with_negative = |n: usize, negative: usize| Pair { negatives: vec![passage(negative, 30)], group: None, ..distinct(n) };
    let pairs: Vec<Pair> = (0..200).map(|n| with_negative(n, n ^ 1)).collect();
    let done = split(rows(pairs, None), &data(&[]), 3).unwrap();
    assert_eq!((done.test.len(), done.report.overlap.texts, done.warnings.len()), (20, 0, 0));
    let chained: Vec<Pair> = (0..200).map(|n| with_negative(n, (n + 1) % 200)).collect();
    let done = split(rows(chained, None), &data(&[]), 3).unwrap();
    assert_eq!(done.test.len(), 20);
    assert!(done.report.overlap.texts > 0);
    assert!(done.warnings[0].contains("have a test passage among their negatives"), "{:?}", done.warnings);
}

/// Goal: a test file moves nothing; what is shared is counted, warned of, and left out if asked. Method: one training row of each kind.
#[test]
fn test_file_overlap() {
    let test: Vec<Pair> = (0..5).map(distinct).collect();
    let near = format!("{} more", test[3].positive);
    let train = vec![
        distinct(100),
        distinct(101),
        pair(&test[0].anchor, "another passage"),
        pair("another question", &test[1].positive),
        pair(&test[2].anchor, &test[2].positive),
        pair("third question", &near),
        pair(&test[4].anchor.to_uppercase(), "yet another passage"),
        distinct(100),
    ];
    let done = split(rows(train.clone(), Some(test.clone())), &data(&[]), 0).unwrap();
    assert_eq!((done.train.len(), done.test == test, done.report.exact_duplicates), (7, true, 1));
    let overlap = &done.report.overlap;
    assert_eq!((overlap.questions, overlap.texts, overlap.near_duplicates, overlap.dropped), (2, 2, 2, 0));
    let wanted = "5 of 7 training rows share a text with the test file: 2 a question, 2 a passage, 2 a near-duplicate; \
                  the metrics after training are flattered by them (data.drop_leaks = true leaves them out of training)";
    assert_eq!(done.warnings, [wanted]);
    let strict = DataSection { drop_leaks: true, ..data(&[]) };
    let done = split(rows(train.clone(), Some(test.clone())), &strict, 0).unwrap();
    assert_eq!((done.train.len(), done.report.overlap.dropped), (2, 5));
    assert!(done.warnings[0].ends_with("they are left out of training (data.drop_leaks)"));
    let error = message(split(rows(train[2..5].to_vec(), Some(test)), &strict, 0));
    assert!(error.contains("no rows are left to train on after rows that share a text"), "{error}");
}

/// Goal: `test = "train"` measures on the training rows and says so; too few rows are refused. Method: two rows, one row, one row twice.
#[test]
fn on_train_and_too_few() {
    let on_train = DataSection { test: Some("train".into()), ..data(&[]) };
    let done = split(rows(vec![distinct(0), distinct(9)], None), &on_train, 0).unwrap();
    assert!(done.test_is_train && done.test == done.train);
    assert!(done.warnings[0].contains("say nothing about unseen ones"));
    let error = message(split(rows(vec![distinct(0)], None), &on_train, 0));
    assert!(error.starts_with("1 row is left to train on"), "{error}");
    assert!(message(split(rows(vec![distinct(0), distinct(0)], None), &on_train, 0)).starts_with("1 row is left"));
    for (test_fraction, near_duplicate_threshold) in [(0.0, 0.8), (1.0, 0.8), (f64::NAN, 0.8), (0.1, 0.0), (0.1, 1.5)] {
        let data = DataSection { test_fraction, near_duplicate_threshold, ..data(&[]) };
        assert!(matches!(split(rows(vec![distinct(0), distinct(9)], None), &data, 0), Err(Error::Spec(_))));
    }
}

/// Goal: what is committed is what was split, in shards of at most 4,096 rows. Method: read the shards back; commit again, under another
/// term, which leaves the first one's objects as they are.
#[test]
fn committed() {
    let folder = folder(&[]);
    let store = Store::open(&folder.path().join("store").display().to_string()).unwrap();
    let pairs: Vec<Pair> = (0..5000).map(|n| pair(&format!("q{n}"), &format!("p{n}"))).collect();
    let done = split(rows(pairs, Some((0..10).map(distinct).collect())), &data(&[]), 0).unwrap();
    let stored = runtime().block_on(commit(&done, &store, 1)).unwrap();
    let manifest = &stored.record;
    let train: Vec<_> = manifest.train.shards.iter().map(|shard| (shard.first_row, shard.num_rows)).collect();
    assert_eq!(train, [(0, 4096), (4096, 904)]);
    assert_eq!((manifest.train.num_rows, manifest.train.num_columns, manifest.test.num_rows), (5000, 2, 10));
    for (side, wanted) in [(&manifest.train, &done.train), (&manifest.test, &done.test)] {
        let mut found = Vec::new();
        for shard in &side.shards {
            found.extend(decode_shard(runtime().block_on(store.get_verified(&shard.object)).unwrap()).unwrap());
        }
        assert_eq!(found, *wanted);
    }
    let other = Split { train: done.train[1..].to_vec(), ..done.clone() };
    assert_ne!(runtime().block_on(commit(&other, &store, 2)).unwrap().object, stored.object);
    let read: DatasetManifest = runtime().block_on(store.get_json_verified(&stored.object)).unwrap();
    assert_eq!(read, *manifest);
    for shard in &manifest.train.shards {
        runtime().block_on(store.get_verified(&shard.object)).unwrap();
    }
    let on_train = Split { test: done.train.clone(), test_is_train: true, ..done };
    let other_store = Store::open(&folder.path().join("other").display().to_string()).unwrap();
    let manifest = runtime().block_on(commit(&on_train, &other_store, 1)).unwrap().record;
    assert_eq!(manifest.train, manifest.test);
}
