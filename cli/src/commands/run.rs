//! `artel run SPEC`: a coordinator and local workers, from pairs to a measured model.

use artel_common::event::Event;
use artel_common::exit::Exit;
use artel_common::layout;
use artel_common::records::Report;
use artel_common::spec::{DeviceKind, WorkersSection};
use artel_common::store::Store;
use artel_trainer::gpu;

use super::device;
use super::spec::{SpecArgs, at_least_one};
use crate::failure::Failure;
use crate::supervise::{Crew, supervise};
use crate::text::shell_word;
use crate::view::View;
use crate::{output, table};

/// Run a spec from pairs to model: a coordinator and local workers, with live progress
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
    /// Local workers to start, instead of the spec's count
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    workers: Option<usize>,
    /// Threads of each worker, instead of the spec's; the cores shared out where neither says
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    threads: Option<usize>,
    /// Print events as JSON, one object a line
    #[arg(long)]
    json: bool,
}

/// Runs it to the end and shows what came of it.
pub fn run(args: Args) -> Result<(), Failure> {
    let mut view = View::new(args.json);
    let outcome = supervised(&args, &mut view);
    view.finish();
    match outcome {
        Ok(report) if !args.json => closing(&report.0, &report.1),
        Ok(_) => Ok(()),
        Err(failure) => Err(told_as_event(failure, &mut view).or_run_again()),
    }
}

/// The report, and the store that it lies in.
fn supervised(args: &Args, view: &mut View) -> Result<(Report, Store), Failure> {
    let mut loaded = args.spec.load(args.workers)?;
    let gpus = device::share_out(&mut loaded.spec, args.workers.is_some())?;
    if loaded.spec.workers.device == DeviceKind::Cuda && gpus == 0 {
        // said before anything is in the store: what is there would be of a run on GPUs
        gpu::open(0, gpu::Precision::default()).map_err(|e| {
            let failure = Failure::from(e);
            let said = failure.message.as_deref().unwrap_or_default();
            Failure::new(failure.exit, format!("{said}; or write device = \"cpu\" in [workers]"))
        })?;
    }
    let workers = loaded.spec.workers.count;
    if gpus > 0 && workers > gpus {
        let found = if loaded.spec.workers.device_found { ", or write device = \"cpu\" in [workers]" } else { "" };
        let why = format!(
            "{workers} workers want a GPU each and this machine has {gpus}; take --workers {gpus}{found}, or start a coordinator and workers on several machines (artel coordinator, artel worker)"
        );
        return Err(Failure::new(Exit::Usage, why));
    }
    output::talk(&format!("device: {}", device::words(&loaded.spec.workers, gpus)));
    let threads = args.threads.or(loaded.spec.workers.threads).unwrap_or_else(|| (super::cores() / workers).max(1));
    let store = loaded.spec.run.store.clone();
    let crew = crew(args, &store, threads, &loaded.spec.workers);
    super::small_runtime()?.block_on(async {
        supervise(crew, view).await?;
        let store = Store::open(&store)?;
        let report = store.get_json::<Report>(layout::REPORT).await?;
        let report =
            report.ok_or_else(|| Failure::internal(format!("the run ended without {} in {}", layout::REPORT, store.url())))?;
        Ok((report, store))
    })
}

/// With `--json` a failure is an event too.
fn told_as_event(failure: Failure, view: &mut View) -> Failure {
    if let Some(message) = failure.message.clone().filter(|_| view.is_json()) {
        let failed = Event::Failed { message, exit_code: failure.exit.code() };
        if let Err(unwritable) = view.own_event(&failed) {
            return unwritable;
        }
    }
    failure
}

fn crew(args: &Args, store: &str, threads: usize, section: &WorkersSection) -> Crew {
    let WorkersSection { count: workers, allow_insecure, .. } = *section;
    let on_gpus = section.device == DeviceKind::Cuda;
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut coordinator = words(&["coordinator", "--listen", "127.0.0.1:0", "--json", "--supervised"]);
    coordinator.extend(words(&["--workers", &workers.to_string(), "--store", store, "--"]));
    coordinator.push(args.spec.spec.display().to_string());
    let worker = |index: usize| {
        let mut worker =
            words(&["worker", "--supervised", "--threads", &threads.to_string(), "--name", &format!("local-{index}")]);
        worker.extend(allow_insecure.then(|| "--allow-insecure".to_owned()));
        worker.extend(words(&["--devices", &index.to_string()]).into_iter().filter(|_| on_gpus));
        worker
    };
    Crew { coordinator, workers: (0..workers).map(worker).collect() }
}

/// The table before and after, and where the model lies: on stdout.
///
/// # Errors
/// stdout cannot be written.
pub fn closing(report: &Report, store: &Store) -> Result<(), Failure> {
    let mut lines = vec![format!("{} (measured on {})", report.name, report.measured_on), String::new()];
    lines.extend(table::before_after(&report.before, &report.after).lines().map(str::to_owned));
    lines.push(String::new());
    lines.push(match store.folder() {
        Some(folder) => format!("model: {}", folder.join(layout::EXPORT).display()),
        None => format!("model: artel export {} --to DIR", shell_word(store.url())),
    });
    lines.iter().try_for_each(|line| output::data(&crate::text::printable(line)))
}
