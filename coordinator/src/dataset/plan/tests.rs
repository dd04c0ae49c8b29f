use std::collections::HashSet;

use artel_common::rng::Rng;
use proptest::prelude::*;

use super::*;

/// The rule as it is told: for each batch walk over all rows left, in order, and take what shares no text with it.
fn told(texts: &TextIds, seed: u64, epoch: u32, size: usize, drop_last: bool) -> (Vec<Vec<u32>>, usize) {
    let mut left: Vec<u32> = (0..texts.num_rows() as u32).collect();
    Rng::stream("batch plan", &[seed, u64::from(epoch)]).shuffle(&mut left);
    let own = |row: &u32| texts.row(*row).iter().collect::<HashSet<_>>().len() == texts.num_columns;
    left.retain(own);
    let min_rows = if drop_last { size } else { 4 - texts.num_columns.min(3) };
    let mut batches = Vec::new();
    while !left.is_empty() {
        let mut in_batch: HashSet<u32> = HashSet::new();
        let mut batch = Vec::new();
        left.retain(|&row| {
            let takes = batch.len() < size && texts.row(row).iter().all(|text| !in_batch.contains(text));
            if takes {
                batch.push(row);
                in_batch.extend(texts.row(row));
            }
            !takes
        });
        if batch.len() >= min_rows {
            batches.push(batch);
        }
    }
    let num_used: usize = batches.iter().map(Vec::len).sum();
    (batches, texts.num_rows() - num_used)
}

/// DUP-1 over a whole plan: no text twice in a batch, no row twice in the epoch, every row used or counted as left out.
fn check(plan: &EpochPlan, texts: &TextIds, size: usize, drop_last: bool) {
    let mut rows_seen = vec![false; texts.num_rows()];
    for batch in plan.batches() {
        assert!(batch.len() <= size && (!drop_last || batch.len() == size));
        let mut texts_seen = HashSet::new();
        for &row in batch {
            assert!(!std::mem::replace(&mut rows_seen[row as usize], true), "row {row} twice");
            assert!(texts.row(row).iter().all(|text| texts_seen.insert(*text)), "a text of row {row} twice");
        }
    }
    assert_eq!(rows_seen.iter().filter(|seen| !**seen).count(), plan.left_out as usize);
    assert_eq!(EpochPlan::from_bytes(&plan.to_bytes()).unwrap(), *plan);
}

fn texts(num_columns: usize, max_rows: usize) -> impl Strategy<Value = TextIds> {
    (1..40u32, 1..60u32).prop_flat_map(move |(few, many)| {
        let column = |index: usize| if index == 0 { (0..few).boxed() } else { (0..many).boxed() };
        let row: Vec<_> = (0..num_columns).map(column).collect();
        prop::collection::vec(row, 1..max_rows)
            .prop_map(move |rows| TextIds::from_numbers(rows.concat(), num_columns, few.max(many) as usize))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Goal: the fast plan is the told rule's, batch for batch. Method: random rows full of repeated texts, both ways of drop_last.
    #[test]
    fn equals_the_told_rule(
        texts in prop_oneof![texts(2, 120), texts(3, 120)], seed in 0..4u64, size in 1..20usize, drop_last: bool
    ) {
        let (batches, left_out) = told(&texts, seed, 1, size, drop_last);
        match plan_rows(&texts, seed, 1, size, drop_last) {
            Ok(plan) => {
                check(&plan, &texts, size, drop_last);
                prop_assert_eq!(plan.batches().map(<[u32]>::to_vec).collect::<Vec<_>>(), batches);
                prop_assert_eq!(plan.left_out as usize, left_out);
            }
            Err(_) => prop_assert!(size > texts.num_rows() || batches.is_empty()),
        }
    }
}

fn random_rows(num_rows: usize, text: impl Fn(&mut Rng, usize, usize) -> u32, num_columns: usize) -> TextIds {
    let mut rng = Rng::stream("test rows", &[]);
    let mut ids = Vec::new();
    for row in 0..num_rows {
        ids.extend((0..num_columns).map(|column| text(&mut rng, row, column)));
    }
    let num_texts = ids.iter().max().map_or(0, |&id| id as usize + 1);
    TextIds::from_numbers(ids, num_columns, num_texts)
}

/// Goal: DUP-1 for a plan of 65,536 pairs, exhaustively (every batch, every text, every row), and quickly whatever is
/// repeated. Method: shapes of repetition from none to half the rows under one question, batches of 4 to 4,096; each plan is
/// gone through whole, and its time printed.
#[test]
fn plans_of_65536_rows() {
    const ROWS: usize = 65_536;
    type Shape = (&'static str, Box<dyn Fn(&mut Rng, usize, usize) -> u32>);
    let unique = |row: usize, column: usize| (10_000 + row * 3 + column) as u32;
    let shapes: [Shape; 5] = [
        ("no repeats", Box::new(move |_, row, column| unique(row, column))),
        (
            "one text in ten from a pool of 1,000",
            Box::new(move |rng, row, column| if rng.below(10) == 0 { rng.below(1000) as u32 } else { unique(row, column) }),
        ),
        (
            "half the rows under one question",
            Box::new(move |rng, row, column| if column == 0 && rng.below(2) == 0 { 0 } else { unique(row, column) }),
        ),
        ("256 questions times 256 passages", Box::new(|rng, _, column| (column as u32) * 256 + rng.below(256) as u32)),
        (
            "questions as zipf",
            Box::new(
                move |rng, row, column| {
                    if column == 0 { (10_000 / (1 + rng.below(10_000))) as u32 } else { unique(row, column) }
                },
            ),
        ),
    ];
    for (name, shape) in shapes {
        let texts = random_rows(ROWS, &shape, 2);
        for size in [4, 32, 4096] {
            for drop_last in [false, true] {
                let began = std::time::Instant::now();
                let plan = match plan_rows(&texts, 42, 0, size, drop_last) {
                    Ok(plan) => plan,
                    Err(e) => {
                        println!("{name}, batches of {size}, drop_last {drop_last}: {e}");
                        assert!(drop_last && size == 4096, "{e}");
                        continue;
                    }
                };
                let took = began.elapsed();
                check(&plan, &texts, size, drop_last);
                println!(
                    "{name}, batches of {size}, drop_last {drop_last}: {} batches, {} rows left out, {took:?}",
                    plan.num_batches(),
                    plan.left_out
                );
                assert!(took.as_secs() < 5, "{took:?}");
            }
        }
    }
}

/// Goal: SAME-1, the plan is a pure function of data, seed and epoch, and differs between them. Method: plan again and compare.
#[test]
fn is_a_pure_function() {
    let texts = random_rows(1000, |_, row, column| (row * 2 + column) as u32, 2);
    let plan = |seed, epoch| plan_rows(&texts, seed, epoch, 32, true).unwrap();
    assert_eq!(plan(1, 0), plan(1, 0));
    assert_ne!(plan(1, 0).order, plan(2, 0).order);
    assert_ne!(plan(1, 0).order, plan(1, 1).order);
    assert_eq!((plan(1, 0).num_batches(), plan(1, 0).left_out), (31, 8));
    let kept = plan_rows(&texts, 1, 0, 32, false).unwrap();
    assert_eq!((kept.num_batches(), kept.left_out, kept.batch(31).len()), (32, 0, 8));
    assert_eq!(kept.order[..31 * 32], plan(1, 0).order);
}

/// Goal: what cannot be planned is said with the numbers. Method: too large a batch, one text in all rows.
#[test]
fn impossible_plans() {
    let texts = random_rows(10, |_, row, column| if column == 0 { 0 } else { row as u32 + 1 }, 2);
    let error = |size, drop_last| plan_rows(&texts, 0, 0, size, drop_last).unwrap_err().to_string();
    assert!(error(11, false).contains("global_batch_size is 11 but there are 10 training rows; set it to at most 10"));
    assert!(error(4, true).contains("no batch of 4 rows without a repeated text"));
    assert!(error(4, false).contains("no batch of 4 rows"));
    assert!(error(0, false).contains("global_batch_size is 0"));
}

/// Goal: texts are compared across columns, letter for letter. Method: a question that is another row's passage.
#[test]
fn columns_share_one_space() {
    let pair =
        |a: &str, p: &str| Pair { id: String::new(), anchor: a.into(), positive: p.into(), negatives: vec![], group: None };
    let pairs = [pair("x", "y"), pair("y", "z"), pair("X", "w"), pair("v", "v")];
    let texts = TextIds::new(&pairs);
    assert_eq!((texts.row(0), texts.row(1)), (&[0, 1][..], &[1, 2][..]));
    let plan = plan_epoch(&pairs, 0, 0, 2, false).unwrap();
    check(&plan, &texts, 2, false);
    assert!(plan.left_out >= 1, "the row that repeats itself fits nowhere");
}
