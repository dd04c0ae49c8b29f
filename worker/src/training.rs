//! The stages train and evaluate, on one rank.

use std::time::Instant;

use artel_common::records::Evaluation;
use artel_proto::v1::{self, report_request::Report};
use artel_trainer::encode::Encoding;
use artel_trainer::evaluate;
use artel_trainer::optim::{lr_factor, warmup_steps};

use crate::join::World;
use crate::session::{Reporter, TaskError, TaskResult};

/// Applies the updates that the task names.
pub(crate) fn train(world: &mut World, task: &v1::Train, report: &Reporter) -> TaskResult<v1::Trained> {
    if world.trainer.state.step != task.from_step {
        return Err(TaskError::internal(format!(
            "this rank has applied {} updates, the task begins at {}",
            world.trainer.state.step, task.from_step
        )));
    }
    let mut losses = Vec::with_capacity((task.to_step - task.from_step) as usize);
    for step in task.from_step..task.to_step {
        let begun = Instant::now();
        let rate = learning_rate(world, step);
        let at =
            world.schedule.batches(step).ok_or_else(|| TaskError::internal(format!("the plan has no update {}", step + 1)))?;
        let plan = &world.plans[at.epoch as usize];
        let batches: Vec<&[u32]> = (at.first..at.first + at.count).map(|batch| plan.batch(batch as usize)).collect();
        let num_pairs: usize = batches.iter().map(|batch| batch.len()).sum();
        let outcome = world.trainer.step(&world.table, &batches, rate)?;
        losses.push(outcome.loss);
        let done = step + 1;
        if world.rank == 0 && done % world.spec.train.logging_steps.max(1) == 0 {
            let line = serde_json::json!({
                "step": done, "loss": outcome.loss, "grad_norm": outcome.grad_norm, "learning_rate": rate, "epoch": world.schedule.epoch_at(done)
            });
            world.steps.push_str(&format!("{line}\n"));
            report(Report::Step(v1::StepReport {
                step: done,
                loss: outcome.loss,
                grad_norm: outcome.grad_norm,
                learning_rate: rate,
                pairs_per_second: num_pairs as f64 / begun.elapsed().as_secs_f64(),
            }));
        }
        if world.rank == 0 {
            report(Report::Progress(v1::Progress { done, total: world.schedule.total(), unit: "steps".into() }));
        }
    }
    let params_digest = world.trainer.state.params_digest()?.to_string();
    Ok(v1::Trained { to_step: task.to_step, losses, params_digest })
}

/// The learning rate of the update after `step` updates.
fn learning_rate(world: &World, step: u64) -> f64 {
    let train = &world.spec.train;
    let total = world.schedule.total();
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
    };
    let total = (world.queries.texts.len() + world.corpus.texts.len()) as u64;
    let ranks = collective.world_size();
    let progress = |done: usize| {
        if world.rank == 0 {
            let done = ((done * ranks) as u64).min(total);
            report(Report::Progress(v1::Progress { done, total, unit: "texts".into() }));
        }
    };
    let metrics = evaluate::evaluate(&encoding, &world.eval_texts, &world.queries, &world.corpus, &world.dims, &progress)?;
    let step = world.trainer.state.step;
    let epoch = world.schedule.epoch_at(step);
    world.evaluations.push(Evaluation { step, epoch, metrics: metrics.clone() });
    Ok(v1::Evaluated { metrics: metrics.into_iter().collect() })
}
