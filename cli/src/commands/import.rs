//! `artel import SPEC`: the stages import and split alone, into the store.

use std::time::Duration;

use artel_common::clock;
use artel_common::event::{Event, Stage};
use artel_common::records::{DatasetManifest, ImportReport};
use artel_common::spec::LoadedSpec;
use artel_common::store::Store;
use artel_coordinator::dataset::{commit, read_rows, split};
use tokio::sync::mpsc;

use super::spec::SpecArgs;
use crate::failure::Failure;
use crate::output;
use crate::text::{count, printable};
use crate::view::View;

/// Reports of progress on their way to the screen; those that find no room are not missed.
const PROGRESS_BOUND: usize = 16;

/// Read the pairs into the store and split them: a run's first two stages alone
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
}

/// Imports and prints the counts.
pub fn run(args: Args) -> Result<(), Failure> {
    let loaded = args.spec.load_aloud(None)?;
    let mut view = View::new(false);
    let outcome = super::runtime()?.block_on(import(&loaded, &mut view));
    view.finish();
    let (manifest, warnings, url) = outcome?;
    for warning in &warnings {
        output::talk(&format!("warning: {warning}"));
    }
    for row in &manifest.import.bad_rows {
        output::talk(&format!("left out: {} line {}: {}", row.file, row.line, row.reason));
    }
    lines(&manifest, &url).iter().try_for_each(|line| output::data(&printable(line)))
}

async fn import(loaded: &LoadedSpec, view: &mut View) -> Result<(DatasetManifest, Vec<String>, String), Failure> {
    let store = Store::open(&loaded.spec.run.store)?;
    store.probe().await?;
    let began = clock::now();
    view.own_event(&Event::StageStarted { stage: Stage::Import })?;
    let (told, mut progress) = mpsc::channel(PROGRESS_BOUND);
    let tell = move |done, total| {
        // The next report says more than one that was dropped.
        let _dropped = told.try_send((done, total));
    };
    let rows = {
        let mut reading = std::pin::pin!(read_rows(&loaded.spec.data, &loaded.folder, &tell));
        loop {
            tokio::select! {
                rows = &mut reading => break rows?,
                Some((done, total)) = progress.recv() => {
                    view.own_event(&Event::Progress { stage: Stage::Import, done, total, unit: "bytes".to_owned() })?;
                }
            }
        }
    };
    finished(view, Stage::Import, began, format!("{} rows", count(rows.report.rows_read)))?;
    let began = clock::now();
    view.own_event(&Event::StageStarted { stage: Stage::Split })?;
    let split = split(rows, &loaded.spec.data, loaded.spec.train.seed)?;
    let manifest = commit(&split, &store).await?;
    finished(view, Stage::Split, began, manifest.import.split.clone())?;
    Ok((manifest, split.warnings, store.url().to_owned()))
}

fn finished(view: &mut View, stage: Stage, began: Duration, note: String) -> Result<(), Failure> {
    let wall_s = clock::now().saturating_sub(began).as_secs_f64();
    view.own_event(&Event::StageFinished { stage, wall_s, note })
}

/// What the store holds now, and what was left out.
fn lines(manifest: &DatasetManifest, url: &str) -> Vec<String> {
    let import = &manifest.import;
    let mut lines = vec![
        format!("store      {url}"),
        format!("read       {} rows of {} files", count(import.rows_read), import.files.len()),
        format!("train      {} rows", count(manifest.train.num_rows)),
        format!("test       {} rows", count(manifest.test.num_rows)),
        format!("split      {}", import.split),
    ];
    lines.extend(left_out(import));
    lines
}

/// What an import left out, and what its two sides share; nothing where there is nothing of the kind.
pub(super) fn left_out(import: &ImportReport) -> Vec<String> {
    let overlap = &import.overlap;
    let counts = [
        ("left out", import.rows_bad, "bad rows"),
        ("left out", import.rows_not_available, "rows marked N/A"),
        ("left out", import.exact_duplicates, "exact copies"),
        ("left out", overlap.dropped, "training rows that share a text with the test rows"),
        ("shared", overlap.questions, "training rows have a test question"),
        ("shared", overlap.texts, "training rows have a test passage"),
        ("shared", overlap.near_duplicates, "training rows are near-duplicates of a test row"),
    ];
    let said = counts.into_iter().filter(|(_, number, _)| *number > 0);
    said.map(|(title, number, what)| format!("{title:<9}  {} {what}", count(number))).collect()
}
