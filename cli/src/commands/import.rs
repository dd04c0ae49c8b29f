//! `artel import SPEC`: the stages import and split alone, into the store.

use artel_common::clock;
use artel_common::event::{Event, Stage};
use artel_common::exit::Exit;
use artel_common::records::{DatasetManifest, ImportReport};
use artel_common::spec::LoadedSpec;
use artel_common::store::Store;
use artel_coordinator::core::Input;
use artel_coordinator::{Preparation, Ready, prepare};
use tokio::sync::mpsc;

use super::device;
use super::spec::SpecArgs;
use crate::failure::Failure;
use crate::output;
use crate::text::{count, printable};
use crate::view::View;

/// Reports of progress on their way to the screen; those that find no room are not missed.
const PROGRESS_BOUND: usize = 64;

/// Read pairs and base model into the store and split them: a run's first two stages alone
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
}

/// Imports and prints the counts.
pub fn run(args: Args) -> Result<(), Failure> {
    let mut loaded = args.spec.load_aloud(None)?;
    if loaded.spec.documents.is_some() {
        // before the store is touched: a run may be going on in it
        return Err(makes_its_pairs());
    }
    if loaded.spec.workers.device_found {
        // the precision goes with it, and is fixed here
        let gpus = device::share_out(&mut loaded.spec, false)?;
        output::talk(&format!("device: {}", device::words(&loaded.spec.workers, gpus)));
    }
    let mut view = View::new(false);
    let outcome = super::runtime()?.block_on(import(loaded, &mut view));
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

/// Prepares the run as its coordinator would, and shows it.
async fn import(loaded: LoadedSpec, view: &mut View) -> Result<(DatasetManifest, Vec<String>, String), Failure> {
    let store = Store::open(&loaded.spec.run.store)?;
    let make_model = crate::toy::make_model(&loaded)?;
    let writer = format!("import-{}-{}", std::process::id(), clock::unix_seconds());
    let preparation = Preparation { spec: loaded.spec, folder: loaded.folder, make_model, store: store.clone(), writer };
    let (told, mut inputs) = mpsc::channel(PROGRESS_BOUND);
    let tell = move |input| {
        // The next report says more than one that was dropped.
        let _dropped = told.try_send(input);
    };
    let ready = {
        let mut preparing = std::pin::pin!(prepare(&preparation, &tell));
        loop {
            tokio::select! {
                biased;
                Some(input) = inputs.recv() => show(input, view)?,
                ready = &mut preparing => break ready?,
            }
        }
    };
    while let Ok(input) = inputs.try_recv() {
        show(input, view)?;
    }
    match ready {
        Ready::Prepared(prepared, journal) => {
            let warnings = journal.state().prepared.as_ref().map(|record| record.warnings.clone()).unwrap_or_default();
            Ok((prepared.dataset.record, warnings, store.url().to_owned()))
        }
        Ready::Making(..) => Err(makes_its_pairs()),
        Ready::Done(report) => {
            let message = format!("{} holds the finished run {}; name another store", store.url(), report.name);
            Err(Failure::new(Exit::Conflict, message))
        }
    }
}

fn makes_its_pairs() -> Failure {
    Failure::new(Exit::Usage, "this spec makes its pairs from documents, which is workers' work: `artel run` does it".to_owned())
}

fn show(input: Input, view: &mut View) -> Result<(), Failure> {
    match input {
        Input::Stage(stage) => view.own_event(&Event::StageStarted { stage }),
        Input::Progress { done, total, unit } => {
            view.own_event(&Event::Progress { stage: Stage::Import, done, total, unit, detail: String::new() })
        }
        _ => Ok(()),
    }
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
