//! `artel plan`: what a step would take on so many GPUs, before any is paid for.

use std::path::PathBuf;

use artel_trainer::encoder::Encoder;
use artel_trainer::gpu;
use artel_trainer::gpu::forecast::{ASSUMPTIONS, Cluster, Forecast, GpuKind, KINDS, Work, forecast};
use artel_trainer::model::config::BertConfig;
use artel_trainer::model::layout::ParamLayout;
use artel_trainer::model::pooling::Pooling;
use serde::Serialize;

use super::spec::at_least_one;
use crate::failure::Failure;
use crate::output;
use crate::text::{bytes, count, printable};

/// The most workers of a run.
const MOST_GPUS: usize = 1024;

/// Foretell time, memory and cost of training on GPUs, from what was measured on one
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Numbers of GPUs to compare
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_value = "1,8,64", value_parser = at_least_one)]
    gpus: Vec<usize>,
    /// Rows of the global batch
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = rows)]
    global_batch_size: usize,
    /// Kind of GPU
    #[arg(long, value_name = "KIND", default_value = "h200", value_parser = KINDS.map(|kind| kind.name))]
    kind: String,
    /// Model folder, of which config.json alone is read; BGE-base's shape where nothing is said
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// Mean tokens of a question, of a passage, and of each negative
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_value = "15,176", value_parser = at_least_one)]
    tokens: Vec<usize>,
    /// GPUs of a machine
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    gpus_per_machine: usize,
    /// GB a second of the network between machines, for each GPU
    #[arg(long, value_name = "GB", default_value_t = 50.0, value_parser = above_zero)]
    network: f64,
    /// Training pairs of an epoch, for its time and cost
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pairs: Option<usize>,
    /// Price of a GPU for an hour
    #[arg(long, value_name = "PRICE", requires = "pairs", value_parser = above_zero)]
    price: Option<f64>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The object of `--json`.
#[derive(Debug, Serialize)]
struct Plan {
    kind: &'static str,
    global_batch_size: usize,
    parameters: usize,
    plans: Vec<Row>,
    assumptions: [&'static str; 6],
}

/// One number of GPUs; without times where the training does not fit into their memory.
#[derive(Debug, Serialize)]
struct Row {
    gpus: usize,
    fits: bool,
    step_seconds: Option<f64>,
    encoder_seconds: Option<f64>,
    loss_seconds: Option<f64>,
    exposed_exchange_seconds: Option<f64>,
    pairs_per_second: Option<f64>,
    efficiency: Option<f64>,
    memory_bytes: f64,
    embedded: Option<f64>,
    epoch_seconds: Option<f64>,
    epoch_cost: Option<f64>,
}

/// Rows of a batch, as a spec may have them.
fn rows(text: &str) -> Result<usize, String> {
    let found = text.parse().ok().filter(|rows| (2..=1 << 24).contains(rows));
    found.ok_or_else(|| "from 2 to 16777216 rows are wanted".to_owned())
}

fn above_zero(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err("not a number above zero".to_owned()),
    }
}

/// Foretells and prints.
pub fn run(args: Args) -> Result<(), Failure> {
    let config = match &args.model {
        Some(folder) => BertConfig::read(&folder.join("config.json"))?,
        None => BertConfig::bert(12, 768),
    };
    if args.tokens.len() < 2 {
        return Err(Failure::usage("--tokens: name the mean tokens of a question and of a passage at least, as in 15,176"));
    }
    let kind = KINDS.into_iter().find(|kind| kind.name == args.kind);
    let kind = kind.ok_or_else(|| Failure::usage(format!("--kind {}: not known", args.kind)))?;
    gpu::check_model(&config)?;
    let longest = config.max_position_embeddings;
    if let Some(tokens) = args.tokens.iter().find(|tokens| **tokens > longest) {
        return Err(Failure::usage(format!("--tokens {tokens}: the model reads {longest} tokens of a text at the most")));
    }
    if let Some(gpus) = args.gpus.iter().find(|gpus| **gpus > MOST_GPUS.min(args.global_batch_size)) {
        let batch = args.global_batch_size;
        return Err(Failure::usage(format!(
            "--gpus {gpus}: at most {MOST_GPUS} workers take part in a run, and no more of them have work than the {batch} rows of the global batch"
        )));
    }
    let layout = ParamLayout::bert(&config);
    let parameters = layout.total;
    let encoder = Encoder::new(config, Pooling::mean(), layout)?;
    let tokens = args.tokens.iter().map(|len| *len as f64).collect();
    let work = Work { encoder: &encoder, global_batch_size: args.global_batch_size, tokens };
    let plans = args.gpus.iter().map(|&gpus| row(&args, &work, kind, gpus)).collect();
    let plan = Plan { kind: kind.name, global_batch_size: args.global_batch_size, parameters, plans, assumptions: ASSUMPTIONS };
    if args.json {
        let line = serde_json::to_string(&plan).map_err(|e| Failure::internal(format!("cannot write the plan: {e}")))?;
        return output::data(&line);
    }
    lines(&plan, kind).iter().try_for_each(|line| output::data(&printable(line)))
}

fn row(args: &Args, work: &Work<'_>, kind: GpuKind, gpus: usize) -> Row {
    let cluster = Cluster { kind, gpus, gpus_per_machine: args.gpus_per_machine, network: args.network * 1e9 };
    let found @ Forecast { seconds, memory, fits, .. } = forecast(work, &cluster);
    let epoch_seconds = args.pairs.filter(|_| fits).map(|pairs| pairs.div_ceil(args.global_batch_size) as f64 * seconds);
    let epoch_cost = args.price.zip(epoch_seconds).map(|(price, seconds)| price * gpus as f64 * seconds / 3600.0);
    Row {
        gpus,
        fits,
        step_seconds: fits.then_some(seconds),
        encoder_seconds: fits.then_some(found.encoder_seconds),
        loss_seconds: fits.then_some(found.loss_seconds),
        exposed_exchange_seconds: fits.then_some(found.exposed_seconds),
        pairs_per_second: fits.then_some(found.pairs_per_second),
        efficiency: fits.then_some(found.efficiency),
        memory_bytes: memory,
        embedded: fits.then_some(found.embedded),
        epoch_seconds,
        epoch_cost,
    }
}

/// The table for people.
fn lines(plan: &Plan, kind: GpuKind) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{} parameters, global batch {}, {} of {} each",
            count(plan.parameters as u64),
            count(plan.global_batch_size as u64),
            plan.kind,
            bytes(kind.memory as u64)
        ),
        String::new(),
        format!(
            "{:>6} {:>10} {:>10} {:>10} {:>12} {:>11} {:>10} {:>9} {:>11} {:>10}",
            "GPUs", "step ms", "loss ms", "waits ms", "pairs/s", "efficiency", "memory", "embedded", "epoch s", "cost"
        ),
    ];
    lines.extend(plan.plans.iter().map(|row| line(row, kind)));
    lines.push(String::new());
    lines.extend(plan.assumptions.iter().map(|assumption| format!("assumed: {assumption}")));
    lines
}

/// One number of GPUs, for people.
fn line(row: &Row, kind: GpuKind) -> String {
    if !row.fits {
        let (least, has) = (bytes(row.memory_bytes as u64), bytes(kind.memory as u64));
        return format!(
            "{:>6}   does not fit: parameters, gradients and moments with the least micro-batch take {least} of {has}",
            row.gpus
        );
    }
    let known = |value: Option<f64>, factor: f64, digits: usize| {
        value.map_or("-".to_owned(), |value| format!("{:.digits$}", factor * value))
    };
    format!(
        "{:>6} {:>10} {:>10} {:>10} {:>12} {:>10}% {:>10} {:>9} {:>11} {:>10}",
        row.gpus,
        known(row.step_seconds, 1e3, 1),
        known(row.loss_seconds, 1e3, 1),
        known(row.exposed_exchange_seconds, 1e3, 1),
        count(row.pairs_per_second.unwrap_or_default() as u64),
        known(row.efficiency, 100.0, 0),
        bytes(row.memory_bytes as u64),
        row.embedded.map_or("-".to_owned(), |times| format!("{times:.2}x")),
        known(row.epoch_seconds, 1.0, 2),
        known(row.epoch_cost, 1.0, 2)
    )
}
