//! `artel check SPEC`: every problem of a spec at once, the spec with every default filled in, and what a run will do.

use std::path::Path;

use artel_common::spec::{LoadedSpec, RunSpec};
use artel_common::store::local_folder;
use artel_coordinator::dataset::{Split, plan_epoch, read_rows, split};
use artel_trainer::model::folder::ModelFolder;

use super::import::left_out;
use super::spec::SpecArgs;
use crate::failure::Failure;
use crate::output;
use crate::text::{count, printable};

/// Check a spec: every problem at once, the effective spec, and what a run of it will do
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
}

/// Prints the effective spec as TOML, and as comments below it what a run will do. Nothing is written to the store.
pub fn run(args: Args) -> Result<(), Failure> {
    let loaded = args.spec.load_aloud(None)?;
    output::data(loaded.spec.effective_toml()?.trim_end())?;
    let data = super::small_runtime()?.block_on(read_rows(&loaded.spec.data, &loaded.folder, &|_, _| {}));
    let split = data.and_then(|rows| split(rows, &loaded.spec.data, loaded.spec.train.seed));
    let plan = split.map_err(Failure::from).and_then(|split| plan_lines(&loaded.spec, &split));
    let model = model_lines(&loaded);
    let mut lines = vec![String::new()];
    let mut failures = Vec::new();
    for part in [plan, model] {
        match part {
            Ok(part) => lines.extend(part.into_iter().map(|line| format!("# {line}"))),
            Err(failure) => failures.push(failure),
        }
    }
    lines.iter().try_for_each(|line| output::data(&printable(line)))?;
    all_at_once(failures)
}

/// The problems as one failure, under the first one's exit code.
fn all_at_once(failures: Vec<Failure>) -> Result<(), Failure> {
    let Some(first) = failures.first() else { return Ok(()) };
    let messages: Vec<_> = failures.iter().filter_map(|failure| failure.message.as_deref()).collect();
    Err(Failure::new(first.exit, messages.join("\n")))
}

/// Rows, batches, updates, negatives.
fn plan_lines(spec: &RunSpec, split: &Split) -> Result<Vec<String>, Failure> {
    let train = &spec.train;
    let plan = plan_epoch(&split.train, train.seed, 0, train.global_batch_size, train.drop_last)?;
    let batches = plan.num_batches() as u64;
    let updates = batches.div_ceil(train.gradient_accumulation_steps as u64);
    let all = updates * u64::from(train.num_train_epochs);
    let all = train.max_steps.map_or(all, |most| most.min(all));
    let hard = split.train.first().map_or(0, |pair| pair.negatives.len());
    let fullest = plan.batches().map(<[u32]>::len).max().unwrap_or(0);
    let negatives = (fullest.saturating_sub(1) + hard * fullest) as u64;
    for warning in &split.warnings {
        output::talk(&format!("warning: {warning}"));
    }
    let (rows, tests) = (count(split.train.len() as u64), count(split.test.len() as u64));
    let mut lines =
        vec![format!("rows       {rows} to train on, {tests} to measure on"), format!("split      {}", split.report.split)];
    lines.extend(left_out(&split.report));
    lines.push(format!(
        "batches    {} an epoch of up to {fullest} rows, {} rows left out of the first",
        count(batches),
        plan.left_out
    ));
    lines.push(format!("updates    {} in all, {} an epoch", count(all), count(updates)));
    lines.push(format!("negatives  {} for each anchor of a full batch", count(negatives)));
    Ok(lines)
}

/// The model, where it lies in a local folder; others are looked at when the run fetches them.
fn model_lines(loaded: &LoadedSpec) -> Result<Vec<String>, Failure> {
    let base = &loaded.spec.model.base;
    let Some(folder) = local_model(base, &loaded.folder) else {
        return Ok(vec![format!("model      {base}: looked at when the run begins")]);
    };
    let model = ModelFolder::open(&folder)?;
    loaded.spec.check_dims(model.config.hidden_size)?;
    for warning in &model.warnings {
        output::talk(&format!("warning: {warning}"));
    }
    let (hidden, layers) = (model.config.hidden_size, model.config.num_hidden_layers);
    let length = loaded.spec.model.max_seq_length.unwrap_or(model.max_seq_length);
    let parameters = count(model.layout.total as u64);
    Ok(vec![format!(
        "model      {base}: {parameters} parameters, {layers} layers of width {hidden}, texts of up to {length} tokens"
    )])
}

/// The folder that a base names, if it is one.
fn local_model(base: &str, spec_folder: &Path) -> Option<std::path::PathBuf> {
    let folder = spec_folder.join(local_folder(base)?);
    folder.is_dir().then_some(folder)
}
