//! The stages train and evaluate, and saving, on one rank.

use std::time::Instant;

use artel_common::records::Evaluation;
use artel_common::schedule::Schedule;
use artel_common::spec::RunSpec;
use artel_proto::v1::{self, FailureKind, report_request::Report};
use artel_trainer::encode::Encoding;
use artel_trainer::encoder::Workspaces;
use artel_trainer::evaluate;
use artel_trainer::gpu::Next;
use artel_trainer::optim::{lr_factor, warmup_steps};
use artel_trainer::step::StepOutcome;

use crate::join::World;
use crate::session::{Reporter, Session, TaskError, TaskResult};

/// Applies the updates that the task names, or those up to where the run leaves; saves the state where it says.
pub(crate) fn train(session: &mut Session, task: &v1::Train, report: &Reporter) -> TaskResult<v1::Trained> {
    let (world, saver) = session.world_and_saver()?;
    if world.trainer.state.step != task.from_step {
        return Err(TaskError::internal(format!(
            "this rank has applied {} updates, the task begins at {}",
            world.trainer.state.step, task.from_step
        )));
    }
    let mut losses = Vec::with_capacity((task.to_step - task.from_step) as usize);
    for step in task.from_step..task.to_step {
        let outcome = match one_step(world, step, report) {
            // the state is what it was before the step, on every rank: none can have applied it without all
            Err(error)
                if has_left(&error) || (error.kind == FailureKind::Collective && world.trainer.interrupt().is_leaving()) =>
            {
                world.trainer.collective().abort();
                break;
            }
            outcome => outcome?,
        };
        losses.push(outcome.loss);
        saver.check()?;
        if task.save_at.contains(&(step + 1)) {
            world.trainer.settle()?;
            saver.begin(world.seat, &world.trainer.state, &world.history, report)?;
        }
        fail::fail_point!("train::after_step");
        if outcome.leave {
            world.trainer.interrupt().leave();
            break;
        }
    }
    // evaluation, saving and export need memory too
    world.trainer.release_memory();
    world.trainer.settle()?;
    let params_digest = world.trainer.state.params_digest()?.to_string();
    Ok(v1::Trained { to_step: world.trainer.state.step, losses, params_digest })
}

fn has_left(error: &TaskError) -> bool {
    error.kind == FailureKind::Left
}

/// One update, told as the spec wants it.
fn one_step(world: &mut World, step: u64, report: &Reporter) -> TaskResult<StepOutcome> {
    let begun = Instant::now();
    let rate = learning_rate(&world.spec, &world.schedule, step);
    let batches_of = |step| {
        let at = world.schedule.batches(step)?;
        let plan = &world.plans[at.epoch as usize];
        Some((at.first..at.first + at.count).map(|batch| plan.batch(batch as usize)).collect::<Vec<&[u32]>>())
    };
    let batches = batches_of(step).ok_or_else(|| TaskError::internal(format!("the plan has no update {}", step + 1)))?;
    let num_pairs: usize = batches.iter().map(|batch| batch.len()).sum();
    let next = batches_of(step + 1).and_then(|batches| batches.first().map(|rows| Next { table: &world.table, rows }));
    let outcome = world.trainer.step_before(&world.table, &batches, rate, next)?;
    world.history.push(outcome.loss, outcome.grad_norm);
    let done = step + 1;
    if world.rank == 0 {
        if done.is_multiple_of(world.spec.train.logging_steps.max(1)) {
            report(Report::Step(v1::StepReport {
                step: done,
                loss: outcome.loss,
                grad_norm: outcome.grad_norm,
                learning_rate: rate,
                pairs_per_second: num_pairs as f64 / begun.elapsed().as_secs_f64(),
            }));
        }
        report(Report::Progress(v1::Progress { done, total: world.schedule.total(), unit: "steps".into() }));
    }
    Ok(outcome)
}

/// Puts this rank's part of the present state into the store; returns when the checkpoint is whole.
pub(crate) fn save(session: &mut Session, step: u64, report: &Reporter) -> TaskResult<()> {
    let leaving = session.interrupt.is_leaving();
    let (world, saver) = session.world_and_saver()?;
    if world.trainer.state.step != step {
        return Err(TaskError::internal(format!("asked to save step {step}, this rank is at {}", world.trainer.state.step)));
    }
    if leaving {
        return saver.last(world.seat, &world.trainer.state, &world.history, report);
    }
    if saver.in_flight() != Some(step) {
        saver.begin(world.seat, &world.trainer.state, &world.history, report)?;
    }
    saver.settle()
}

/// The learning rate of the update after `step` updates.
pub(crate) fn learning_rate(spec: &RunSpec, schedule: &Schedule, step: u64) -> f64 {
    let train = &spec.train;
    let total = schedule.total();
    train.learning_rate * lr_factor(train.lr_scheduler_type, step, warmup_steps(total, train.warmup_ratio), total)
}

/// Measures the weights as they are.
pub(crate) fn evaluate(world: &mut World, report: &Reporter) -> TaskResult<v1::Evaluated> {
    let trainer = &world.trainer;
    let collective = trainer.collective();
    let encoding = Encoding {
        encoder: trainer.encoder(),
        params: &trainer.state.params,
        collective: collective.as_ref(),
        threads: trainer.settings().threads,
        micro_batch_tokens: trainer.settings().micro_batch_tokens,
        workspaces: &Workspaces::default(),
        interrupt: trainer.interrupt(),
        device: trainer.device().map(|device| device as _),
    };
    let total = (world.queries.texts.len() + world.corpus.texts.len()) as u64;
    let ranks = collective.world_size();
    let progress = |done: usize| {
        if world.rank == 0 {
            let done = ((done * ranks) as u64).min(total);
            report(Report::Progress(v1::Progress { done, total, unit: "texts".into() }));
        }
    };
    let metrics = evaluate::evaluate(&encoding, &world.eval_texts, &world.queries, &world.corpus, &world.dims, &progress);
    let metrics = metrics.inspect_err(|error| {
        if error.kind() == artel_trainer::ErrorKind::Left {
            // the others wait in an exchange that this rank will not come to
            collective.abort();
        }
    })?;
    let step = world.trainer.state.step;
    let epoch = world.schedule.epoch_at(step);
    world.evaluations.retain(|known| known.step != step);
    world.evaluations.push(Evaluation { step, epoch, metrics: metrics.clone() });
    Ok(v1::Evaluated { metrics: metrics.into_iter().collect() })
}
