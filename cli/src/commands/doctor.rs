//! `artel doctor`: what this machine offers to a run, what is missing, and what to do about it.

use std::path::PathBuf;

use artel_common::exit::Exit;

use crate::doctor::{Findings, GpuCheck, Machine, Model, Readers, StoreCheck, problems, table};
use crate::failure::Failure;
use crate::output;
use crate::text::printable;

/// Tell what this machine offers, how fast it is, what is missing and what to do about it
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Store to try as well: a URL or a folder; nothing is left behind in it
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Model folder to open as well, and to measure
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Compare the first GPU with the CPU as well: every kernel, forward and backward, and whole updates
    #[arg(long)]
    gpu: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Looks, measures, prints; fails where something that was asked for is of no use.
pub fn run(args: Args) -> Result<(), Failure> {
    output::talk("measuring for some seconds; other work on this machine lowers the figures");
    let cores = super::cores();
    let machine = Machine::examine(cores)?;
    let store = match &args.store {
        Some(url) => Some(super::small_runtime()?.block_on(StoreCheck::examine(url))),
        None => None,
    };
    let model = args.model.as_deref().map(|path| Model::examine(path, cores));
    let gpu_check = args.gpu.then(GpuCheck::examine);
    let mut problems = problems::of_machine(&machine, cfg!(debug_assertions));
    problems.extend(store.as_ref().and_then(|store| store.error.clone()));
    problems.extend(model.as_ref().and_then(|model| model.error.clone()));
    problems.extend(gpu_check.as_ref().and_then(|gpu| gpu.error.clone()));
    let findings = Findings {
        version: env!("CARGO_PKG_VERSION"),
        machine,
        documents: Readers::examine(),
        store,
        model,
        gpu_check,
        problems,
    };
    if args.json {
        let line = serde_json::to_string(&findings);
        output::data(&line.map_err(|e| Failure::internal(format!("cannot write the findings: {e}")))?)?;
    } else {
        table::lines(&findings).iter().try_for_each(|line| output::data(&printable(line)))?;
    }
    verdict(&findings)
}

/// The failure of what was asked for, under the first one's exit code; what is wrong stands among the problems.
fn verdict(findings: &Findings) -> Result<(), Failure> {
    let store = findings.store.as_ref().map(|store| (store.exit, "the store"));
    let model = findings.model.as_ref().map(|model| (model.exit, "the model"));
    let gpu = findings.gpu_check.as_ref().map(|gpu| (gpu.exit, "the GPU"));
    let failed: Vec<_> = [store, model, gpu].into_iter().flatten().filter(|(exit, _)| *exit != Exit::Done).collect();
    let Some((exit, _)) = failed.first() else { return Ok(()) };
    let names: Vec<_> = failed.iter().map(|(_, name)| *name).collect();
    Err(Failure::new(*exit, format!("{} cannot be used; the problems on standard output say why", names.join(" and "))))
}
