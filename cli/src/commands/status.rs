//! `artel status STORE`: how far a run has come, from its store alone, whether it is alive or not.

use artel_common::journal::{Journal, RunState};
use artel_common::records::{Attempt, DatasetManifest, Metrics, Report};
use artel_common::spec::RunSpec;
use artel_common::store::Store;
use serde::Serialize;

use crate::failure::Failure;
use crate::text::{bytes, count, printable};
use crate::{output, table};

/// Tell how far a run has come, from its store alone
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run's store: a URL or a folder
    #[arg(value_name = "STORE")]
    store: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What a store tells.
#[derive(Debug, Serialize)]
struct Status {
    store: String,
    name: String,
    /// Terms of the coordinator so far: how often a command worked on this store.
    term: u64,
    /// Seconds since 1970, when the last of them began.
    began_unix_s: u64,
    /// What comes next, or `done`.
    next: String,
    train_rows: Option<u64>,
    test_rows: Option<u64>,
    /// The update that a resume begins from, and all updates, as far as they are known.
    step: u64,
    total_steps: Option<u64>,
    attempts: Vec<Attempt>,
    checkpoints: Vec<Checkpoint>,
    /// Checkpoints passed over: step and what was found.
    damaged: Vec<(u64, String)>,
    evaluations: usize,
    report: Option<Report>,
}

/// A checkpoint that a resume can begin from.
#[derive(Debug, Serialize)]
struct Checkpoint {
    step: u64,
    bytes: u64,
    /// The metric that says which is the best, where it was measured.
    best_metric: Option<f64>,
}

/// Reads and prints.
pub fn run(args: Args) -> Result<(), Failure> {
    let status = super::small_runtime()?.block_on(read(&args.store))?;
    if args.json {
        let line = serde_json::to_string(&status).map_err(|e| Failure::internal(format!("cannot write the status: {e}")))?;
        return output::data(&line);
    }
    lines(&status).iter().try_for_each(|line| output::data(&printable(line)))
}

/// What the journal of a store adds up to.
///
/// # Errors
/// There is none, or it cannot be read.
pub(super) async fn journal(store: &Store) -> Result<RunState, Failure> {
    Journal::read(store).await?.ok_or_else(|| {
        let message = format!("{} holds no run; `artel run SPEC --store URL` begins one", store.url());
        Failure::new(artel_common::exit::Exit::Store, message)
    })
}

async fn read(url: &str) -> Result<Status, Failure> {
    let store = Store::open(url)?;
    let run = journal(&store).await?;
    let mut dataset: Option<DatasetManifest> = None;
    if let Some(prepared) = &run.prepared {
        dataset = Some(store.get_json_verified(&prepared.dataset).await?);
    }
    let metric = run.prepared.as_ref().map(|prepared| prepared.spec.evaluate.metric_for_best_model.clone());
    let checkpoints = run.checkpoints.iter().map(|known| Checkpoint {
        step: known.step,
        bytes: known.bytes,
        best_metric: value(run.evaluation_at(known.step).map(|evaluation| &evaluation.metrics), metric.as_deref()),
    });
    Ok(Status {
        store: store.url().to_owned(),
        name: run.name.clone(),
        term: run.term,
        began_unix_s: run.began_unix_s,
        next: next(&run),
        train_rows: dataset.as_ref().map(|dataset| dataset.train.num_rows),
        test_rows: dataset.as_ref().map(|dataset| dataset.test.num_rows),
        step: run.last_checkpoint().map_or(0, |last| last.step),
        total_steps: run.prepared.as_ref().map(|prepared| prepared.total_steps),
        attempts: run.attempts.clone(),
        checkpoints: checkpoints.collect(),
        damaged: run.damaged.clone(),
        evaluations: run.evaluations.len(),
        report: run.done.clone().map(|report| *report),
    })
}

fn value(metrics: Option<&Metrics>, metric: Option<&str>) -> Option<f64> {
    metrics?.get(metric?).copied()
}

/// What the same command would do next, and why it waits where nobody has given it.
fn next(run: &RunState) -> String {
    let what = match (&run.prepared, &run.done) {
        (_, Some(_)) => return "done".to_owned(),
        (None, _) if run.making.is_some() => making(run),
        (None, _) => "import: pairs and base model are not in the store yet".to_owned(),
        (Some(prepared), None) => after_import(run, &prepared.spec, prepared.total_steps),
    };
    format!("{what}; where no process works on it, it waits for `artel run` with its spec and this store")
}

/// How far documents are on their way to pairs.
fn making(run: &RunState) -> String {
    let Some(making) = &run.making else { return String::new() };
    let read: u64 = making.read.iter().map(|piece| piece.count).sum();
    let chunks: u64 = making.read.iter().map(|piece| piece.num_chunks).sum();
    let asked: u64 = making.asked.iter().map(|piece| piece.count).sum();
    if read < making.documents {
        format!("read documents: {} of {} are read", count(read), count(making.documents))
    } else if asked < chunks {
        format!("ask about chunks: {} of {} are asked about", count(asked), count(chunks))
    } else if let Some(mining) = &making.mining {
        let texts = mining.record.questions + mining.record.passages;
        let embedded: u64 = mining.embedded.iter().map(|piece| piece.count).sum();
        let searched: u64 = mining.searched.iter().map(|piece| piece.count).sum();
        let (embedded, searched) = (count(embedded), count(searched));
        format!(
            "mine: {embedded} of {} texts are embedded, {searched} of {} questions searched",
            count(texts),
            count(mining.record.questions)
        )
    } else {
        "split: every chunk is asked about".to_owned()
    }
}

fn after_import(run: &RunState, spec: &RunSpec, total: u64) -> String {
    let step = run.last_checkpoint().map_or(0, |last| last.step);
    if run.tokens.is_none() {
        "tokenise".to_owned()
    } else if run.evaluation_at(0).is_none() {
        "evaluate the base model".to_owned()
    } else if step < total {
        let every = match (spec.train.save_strategy, spec.train.save_steps) {
            (artel_common::spec::Strategy::Steps, Some(steps)) => format!(", saving every {steps} steps"),
            _ => String::new(),
        };
        format!("train on from step {step} of {total}{every}")
    } else if run.evaluation_at(total).is_none() {
        "evaluate the trained model".to_owned()
    } else if run.exported.is_none() {
        "export".to_owned()
    } else {
        "report".to_owned()
    }
}

fn lines(status: &Status) -> Vec<String> {
    let mut lines = vec![format!("store    {}", status.store)];
    let mut say = |title: &str, words: Option<String>| lines.extend(words.map(|words| format!("{title:<8} {words}")));
    say("run", Some(status.name.clone()));
    say("next", Some(status.next.clone()));
    say(
        "rows",
        status.train_rows.zip(status.test_rows).map(|(train, test)| format!("{} train, {} test", count(train), count(test))),
    );
    for (number, attempt) in status.attempts.iter().enumerate() {
        let Attempt { from_step, to_step, workers } = attempt;
        let beyond = if status.report.is_none() && number + 1 == status.attempts.len() { " or beyond" } else { "" };
        say("attempt", Some(format!("{}: steps {from_step} to {to_step}{beyond}, {workers} workers", number + 1)));
    }
    for checkpoint in &status.checkpoints {
        let measured = checkpoint.best_metric.map_or(String::new(), |value| format!(", measured {value:.4}"));
        say("saved", Some(format!("step {}, {}{measured}", checkpoint.step, bytes(checkpoint.bytes))));
    }
    for (step, reason) in &status.damaged {
        say("damaged", Some(format!("step {step}, passed over: {reason}")));
    }
    if let Some(report) = &status.report {
        say("measured", Some(format!("on {}", report.measured_on)));
        say("weights", Some(format!("{} (update {} of {})", report.weights_digest, report.exported_step, report.steps)));
        say(
            "speed",
            Some(format!("{} pairs/s, {:.0} MB at most", crate::text::rate(report.pairs_per_second), report.peak_memory_mb)),
        );
        lines.push(String::new());
        lines.extend(table::before_after(&report.before, &report.after).lines().map(str::to_owned));
    }
    lines
}
