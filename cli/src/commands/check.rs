//! `artel check SPEC`: every problem of a spec at once, the spec with every default filled in, and what a run will do.

use artel_common::exit::Exit;
use artel_common::making::open_answers;
use artel_common::spec::{CleaningSection, DeviceKind, DocumentsSection, LoadedSpec, ProviderKind, RunSpec};
use artel_coordinator::dataset::{Split, plan_epoch, read_rows, split};
use artel_coordinator::documents;
use artel_coordinator::model_import::{check_base, local_model};
use artel_trainer::gpu;
use artel_trainer::model::folder::ModelFolder;
use artel_trainer::model::toy;

use super::device;
use super::import::left_out;
use super::spec::SpecArgs;
use crate::failure::Failure;
use crate::output;
use crate::text::{bytes, count, printable};

/// Check a spec: every problem at once, the effective spec, and what a run of it will do
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
}

/// Prints the effective spec as TOML, and as comments below it what a run will do. Nothing is written to the store.
pub fn run(args: Args) -> Result<(), Failure> {
    let mut loaded = args.spec.load_aloud(None)?;
    let gpus = device::share_out(&mut loaded.spec, false)?;
    output::data(loaded.spec.effective_toml()?.trim_end())?;
    let (mut lines, mut failures) = match &loaded.spec.documents {
        Some(section) => documents_lines(&loaded, section),
        None => {
            let data = super::small_runtime()?.block_on(read_rows(&loaded.spec.data, &loaded.folder, &|_, _| {}));
            let split = data.and_then(|rows| split(rows, &loaded.spec.data, loaded.spec.train.seed));
            match split.map_err(Failure::from).and_then(|split| plan_lines(&loaded.spec, &split)) {
                Ok(lines) => (lines, Vec::new()),
                Err(failure) => (Vec::new(), vec![failure]),
            }
        }
    };
    match model_lines(&loaded) {
        Ok(model) => lines.extend(model),
        Err(failure) => failures.push(failure),
    }
    lines.push(format!("device     {}", device::words(&loaded.spec.workers, gpus)));
    output::data("")?;
    lines.iter().try_for_each(|line| output::data(&format!("# {}", printable(line))))?;
    all_at_once(failures)
}

/// The problems as one failure, under the first one's exit code.
fn all_at_once(failures: Vec<Failure>) -> Result<(), Failure> {
    let Some(first) = failures.first() else { return Ok(()) };
    let messages: Vec<_> = failures.iter().filter_map(|failure| failure.message.as_deref()).collect();
    Err(Failure::new(first.exit, messages.join("\n")))
}

/// What is read, and what it may cost: how many pairs come of it is known when it is read. The lines, and every problem.
fn documents_lines(loaded: &LoadedSpec, section: &DocumentsSection) -> (Vec<String>, Vec<Failure>) {
    let parts = [documents_line(loaded, section), files_lines(loaded), questions_lines(loaded), answers_lines(loaded)];
    let (mut lines, mut failures) = (Vec::new(), Vec::new());
    for part in parts {
        match part {
            Ok(part) => lines.extend(part),
            Err(failure) => failures.push(failure),
        }
    }
    lines.extend(loaded.spec.mining().map(cleaning_line));
    (lines, failures)
}

fn documents_line(loaded: &LoadedSpec, section: &DocumentsSection) -> Result<Vec<String>, Failure> {
    let found = super::small_runtime()?.block_on(documents::names(section, &loaded.folder))?;
    let size: u64 = found.iter().map(|(_, bytes)| bytes).sum();
    Ok(vec![format!("documents  {}, {}", count(found.len() as u64), bytes(size))])
}

/// Files of pairs beside the documents: they are told of where something is wrong with them.
fn files_lines(loaded: &LoadedSpec) -> Result<Vec<String>, Failure> {
    super::small_runtime()?.block_on(artel_coordinator::check_files(&loaded.spec, &loaded.folder))?;
    Ok(Vec::new())
}

fn questions_lines(loaded: &LoadedSpec) -> Result<Vec<String>, Failure> {
    let Some(questions) = &loaded.spec.questions else { return Ok(Vec::new()) };
    if questions.provider == ProviderKind::Offline {
        return Ok(vec!["questions  by inverse cloze: no language model, no cost".to_owned()]);
    }
    let warning = artel_worker::check_questions(questions).map_err(|problem| Failure::new(Exit::Usage, problem))?;
    if let Some(warning) = warning {
        output::talk(&format!("warning: {warning}"));
    }
    let most = questions.max_requests.map_or(String::new(), |most| format!(", at most {} requests", count(most)));
    let cost = questions.max_cost.map_or(", no limit of cost".to_owned(), |cost| format!(", at most {cost} dollars"));
    let judged = questions
        .judge()
        .map_or(String::new(), |(model, least)| format!(" and one a pair, judged by {model} (kept from {least} of 5)"));
    Ok(vec![format!("questions  by {}, one request a chunk{judged}{most}{cost}", questions.model)])
}

fn answers_lines(loaded: &LoadedSpec) -> Result<Vec<String>, Failure> {
    let questions = loaded.spec.questions.as_ref().filter(|questions| questions.provider != ProviderKind::Offline);
    let Some(from) = questions.and_then(|questions| questions.answers_from.as_ref()) else { return Ok(Vec::new()) };
    super::small_runtime()?.block_on(open_answers(from))?;
    Ok(vec![format!("answers    taken from {from} where it has them, at no cost")])
}

/// What the base model is asked about the pairs.
fn cleaning_line(cleaning: &CleaningSection) -> String {
    let found = cleaning.round_trip.map(|rank| format!("questions must find their chunks within rank {rank}"));
    let mined = (cleaning.num_negatives > 0).then(|| format!("{} hard negatives a training row", cleaning.num_negatives));
    let wanted: Vec<String> = found.into_iter().chain(mined).collect();
    format!("cleaning   by the base model: {}", wanted.join(", "))
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
        if crate::toy::make_model(loaded)?.is_some() {
            return Ok(vec![format!("model      {base}: made when the run begins, {} wide", toy::HIDDEN_SIZE)]);
        }
        check_base(base, loaded.spec.model.revision.as_deref(), &loaded.folder)?;
        return Ok(vec![format!("model      {base}: looked at when the run begins")]);
    };
    let model = ModelFolder::open(&folder)?;
    loaded.spec.check_dims(model.config.hidden_size)?;
    loaded.spec.check_length(model.config.max_position_embeddings)?;
    for warning in &model.warnings {
        output::talk(&format!("warning: {warning}"));
    }
    if loaded.spec.workers.device == DeviceKind::Cuda {
        gpu::check_model(&model.config)?;
    }
    let (hidden, layers) = (model.config.hidden_size, model.config.num_hidden_layers);
    let length = loaded.spec.model.max_seq_length.unwrap_or(model.max_seq_length);
    let parameters = count(model.layout.total as u64);
    Ok(vec![format!(
        "model      {base}: {parameters} parameters, {layers} layers of width {hidden}, texts of up to {length} tokens"
    )])
}
