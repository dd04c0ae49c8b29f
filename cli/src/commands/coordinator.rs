//! `artel coordinator SPEC --listen ADDR`: one run's coordinator; it ends when the run does.

use std::net::SocketAddr;

use artel_common::event::Event;
use artel_common::records::Report;
use artel_common::spec::{DeviceKind, LoadedSpec, WorkersSection};
use artel_common::store::Store;
use tokio::sync::mpsc;

use super::device;
use super::spec::{SpecArgs, at_least_one};
use crate::failure::Failure;
use crate::output;
use crate::signals::{LOSES_WORK, stop_switch};
use crate::view::View;
use artel_coordinator::CoordinatorOptions;

/// Events on their way out; a coordinator that says more waits.
const EVENTS_BOUND: usize = 1024;

/// Start a run's coordinator; workers are started beside it with `artel worker`
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
    /// Address to listen at; port 0 takes any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7071")]
    listen: SocketAddr,
    /// Workers to wait for, instead of the spec's count
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    workers: Option<usize>,
    /// Print events as JSON, one object a line
    #[arg(long)]
    json: bool,
    /// Started by `artel run`: leave Ctrl-C and the last word to it
    #[arg(long, hide = true)]
    supervised: bool,
}

/// Serves the run to its end.
pub fn run(args: Args) -> Result<(), Failure> {
    let mut view = View::new(args.json);
    let outcome = args.spec.load(args.workers).and_then(|loaded| {
        let store = Store::open(&loaded.spec.run.store)?;
        let report = super::runtime()?.block_on(serve(loaded, &args, &mut view))?;
        view.finish();
        if args.json { Ok(()) } else { super::run::closing(&report, &store) }
    });
    view.finish();
    let outcome = outcome.map_err(|failure| last_event(failure, &args, &mut view));
    if args.supervised { outcome } else { outcome.map_err(Failure::or_run_again) }
}

/// With `--json` the failure is an event too; under a supervisor it is that alone.
fn last_event(failure: Failure, args: &Args, view: &mut View) -> Failure {
    let Some(message) = failure.message.clone().filter(|_| args.json) else { return failure };
    let failed = Event::Failed { message, exit_code: failure.exit.code() };
    if view.own_event(&failed).is_ok() && args.supervised {
        return Failure { message: None, ..failure };
    }
    failure
}

/// Says what the run computes on where workers come from other machines; gives a warning where one GPU alone would.
fn say_device(section: &WorkersSection, args: &Args) -> Option<String> {
    if args.supervised {
        return None;
    }
    let why = match section.device {
        _ if !section.device_found => "",
        DeviceKind::Cpu => "; the spec leaves it open and this machine shows no GPU, so workers with GPUs are refused",
        DeviceKind::Cuda => "; the spec leaves it open and this machine shows GPUs",
    };
    output::talk(&format!("device: {}{why}", device::words(section, section.count)));
    (section.every_gpu && args.workers.is_none()).then(|| {
        "one worker is waited for, so one GPU computes; write count in [workers], or --workers N, for the GPUs of all machines together".to_owned()
    })
}

async fn serve(mut loaded: LoadedSpec, args: &Args, view: &mut View) -> Result<Report, Failure> {
    let stop = stop_switch(args.supervised, LOSES_WORK)?;
    let make_model = crate::toy::make_model(&loaded)?;
    loaded.warnings.extend(say_device(&loaded.spec.workers, args));
    let options = CoordinatorOptions { spec: loaded, listen: args.listen, supervised: args.supervised, make_model };
    for message in options.spec.warnings.clone() {
        view.own_event(&Event::Warning { message })?;
    }
    let (events, mut inbox) = mpsc::channel(EVENTS_BOUND);
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(100));
    let mut serving = std::pin::pin!(artel_coordinator::serve(options, events, stop));
    let result = loop {
        tokio::select! {
            biased;
            event = inbox.recv(), if !inbox.is_closed() || !inbox.is_empty() => show(event, view)?,
            result = &mut serving => break result,
            _ = ticks.tick() => view.tick(),
        }
    };
    while let Ok(event) = inbox.try_recv() {
        show(Some(event), view)?;
    }
    Ok(result?)
}

/// A failure is told by the process's end, once.
fn show(event: Option<Event>, view: &mut View) -> Result<(), Failure> {
    match event {
        Some(Event::Failed { .. }) | None => Ok(()),
        Some(event) => view.own_event(&event),
    }
}
