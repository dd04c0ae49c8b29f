//! What was measured and logged: the CSV files that sentence-transformers' evaluator writes, and the steps.

use artel_common::layout;
use artel_trainer::metrics::{csv_header, csv_row};

use crate::session::{Session, TaskResult};

/// Rank 0 puts a CSV file for each width, with a line for every evaluation so far.
pub(crate) fn put_csv(session: &mut Session) -> TaskResult<()> {
    let world = session.world()?;
    if world.rank != 0 {
        return Ok(());
    }
    let file = |dim: usize| {
        let rows = world.evaluations.iter().map(|done| csv_row(done.epoch, done.step, dim, &done.metrics));
        let lines: Vec<String> = std::iter::once(csv_header()).chain(rows).collect();
        (layout::evaluation_csv(dim), lines.join("\n") + "\n")
    };
    let files: Vec<(String, String)> = world.dims.iter().map(|&dim| file(dim)).collect();
    for (key, text) in files {
        session.wait(session.store.put(&key, text.into()))?;
    }
    Ok(())
}

/// Rank 0 puts the steps logged so far.
pub(crate) fn put_steps(session: &mut Session) -> TaskResult<()> {
    let world = session.world()?;
    if world.rank == 0 {
        let steps = world.steps.clone();
        session.wait(session.store.put(layout::STEPS, steps.into()))?;
    }
    Ok(())
}
