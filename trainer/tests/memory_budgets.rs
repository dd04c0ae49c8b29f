//! One pass, two, and all between: what is kept changes no bit.

mod common;

use common::{BATCH, table, trainer};

/// Goal: SAME-3, whatever is kept and however many threads there are, loss and gradient have the same bits. Method: a batch with
/// everything kept on one thread, against budgets for nothing, for half and for all, on one to three threads.
#[test]
fn what_is_kept_changes_no_bit() {
    let table = table();
    let rows: Vec<u32> = (0..BATCH as u32).collect();
    let whole = trainer(1, usize::MAX.into()).gradient(&table, &rows).unwrap();
    assert_eq!(whole.kept.0, whole.kept.1);
    let tokens: usize = rows.iter().map(|&row| table.row_len(row as usize)).sum();
    let bytes = trainer(1, usize::MAX.into()).encoder().activation_bytes(tokens);
    for threads in 1..4 {
        for (budget, share) in [(0, 0.0), (bytes / 2, 0.5), (bytes, 1.0)] {
            let mut trainer = trainer(threads, budget.into());
            // a second time with the memory of the first
            for _ in 0..2 {
                let found = trainer.gradient(&table, &rows).unwrap();
                let kept = found.kept.0 as f64 / found.kept.1 as f64;
                assert!((kept - share).abs() < 0.2, "{:?} kept of a budget for {share}", found.kept);
                assert_eq!(found.loss.to_bits(), whole.loss.to_bits(), "{threads} threads, {share} kept");
                assert!(found.grad == whole.grad, "{threads} threads, {share} kept: another gradient");
            }
            trainer.release_memory();
            assert!(trainer.gradient(&table, &rows).unwrap().grad == whole.grad);
        }
    }
}
