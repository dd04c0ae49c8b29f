//! What was measured and logged: the CSV files that sentence-transformers' evaluator writes, and the steps.

use artel_common::layout;
use artel_trainer::metrics::{csv_header, csv_row};

use crate::session::{Session, TaskResult};
use crate::training::learning_rate;

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
    if world.rank != 0 {
        return Ok(());
    }
    let every = world.spec.train.logging_steps.max(1);
    let line = |(index, (loss, grad_norm)): (usize, (&f64, &f64))| {
        let step = index as u64 + 1;
        let (rate, epoch) = (learning_rate(&world.spec, &world.schedule, index as u64), world.schedule.epoch_at(step));
        let line = serde_json::json!({
            "step": step, "loss": loss, "grad_norm": grad_norm, "learning_rate": rate, "epoch": epoch
        });
        step.is_multiple_of(every).then(|| format!("{line}\n"))
    };
    let steps: String = world.history.losses.iter().zip(&world.history.grad_norms).enumerate().filter_map(line).collect();
    session.wait(session.store.put(layout::STEPS, steps.into()))?;
    Ok(())
}
