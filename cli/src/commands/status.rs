//! `artel status STORE`: how far a run has come, from its store alone.

use artel_common::event::Stage;
use artel_common::layout;
use artel_common::records::{DatasetManifest, Report, RunRecord};
use artel_common::store::Store;
use serde::Serialize;

use crate::failure::Failure;
use crate::text::{count, printable};
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
    name: Option<String>,
    /// The last stage whose result lies in the store.
    reached: Option<Stage>,
    train_rows: Option<u64>,
    test_rows: Option<u64>,
    /// The last update that the log of steps knows.
    step: Option<u64>,
    loss: Option<f64>,
    report: Option<Report>,
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

async fn read(url: &str) -> Result<Status, Failure> {
    let store = Store::open(url)?;
    let run: Option<RunRecord> = store.get_json(layout::RUN).await?;
    let dataset: Option<DatasetManifest> = store.get_json(layout::DATASET_MANIFEST).await?;
    let model = store.get_opt(layout::MODEL_MANIFEST).await?.is_some();
    let tokens = store.get_opt(layout::TOKENS_MANIFEST).await?.is_some();
    let base = store.get_opt(&layout::evaluation(0)).await?.is_some();
    let export = store.get_opt(layout::EXPORT_MANIFEST).await?.is_some();
    let report: Option<Report> = store.get_json(layout::REPORT).await?;
    let last = last_step(store.get_opt(layout::STEPS).await?.as_deref());
    if run.is_none() && dataset.is_none() && !model && report.is_none() {
        let message = format!("{} holds no run; `artel run SPEC --store` begins one", store.url());
        return Err(Failure::new(artel_common::exit::Exit::Store, message));
    }
    let reached = [
        (report.is_some(), Stage::Report),
        (export, Stage::Export),
        (last.is_some(), Stage::Train),
        (base, Stage::EvaluateBase),
        (tokens, Stage::Tokenise),
        (dataset.is_some(), Stage::Split),
        (model, Stage::Import),
    ];
    Ok(Status {
        store: store.url().to_owned(),
        name: run.as_ref().map(|run| run.spec.run.name.clone()),
        reached: reached.into_iter().find(|(there, _)| *there).map(|(_, stage)| stage),
        train_rows: dataset.as_ref().map(|dataset| dataset.train.num_rows),
        test_rows: dataset.as_ref().map(|dataset| dataset.test.num_rows),
        step: last.map(|(step, _)| step),
        loss: last.map(|(_, loss)| loss),
        report,
    })
}

/// Step and loss of the log's last whole line.
fn last_step(log: Option<&[u8]>) -> Option<(u64, f64)> {
    let text = String::from_utf8_lossy(log?).into_owned();
    let last: serde_json::Value = text.lines().rev().find_map(|line| serde_json::from_str(line).ok())?;
    Some((last.get("step")?.as_u64()?, last.get("loss")?.as_f64()?))
}

fn lines(status: &Status) -> Vec<String> {
    let mut lines = vec![format!("store    {}", status.store)];
    let mut say = |title: &str, words: Option<String>| lines.extend(words.map(|words| format!("{title:<8} {words}")));
    say("run", status.name.clone());
    let reached = match status.reached {
        Some(Stage::Report) => "done".to_owned(),
        Some(Stage::Train) => "train (not finished, or not yet measured)".to_owned(),
        Some(stage) => format!("{} is done, the next stage is not", stage.name()),
        None => "nothing is done yet".to_owned(),
    };
    say("state", Some(reached));
    say(
        "rows",
        status.train_rows.zip(status.test_rows).map(|(train, test)| format!("{} train, {} test", count(train), count(test))),
    );
    say("step", status.step.zip(status.loss).map(|(step, loss)| format!("{step}, loss {loss:.4}")));
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
