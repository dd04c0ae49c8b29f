//! From TOML to the sections: types, ranges, defaults. docs/reference/spec.md argues each default.

use super::reader::Reader;
use super::{
    Columns, CommunicationType, DataSection, DeviceKind, EvaluateSection, LossKind, MOST_WORKERS, ModelSection, Precision,
    RunSection, RunSpec, SchedulerKind, Strategy, TrainSection, WorkersSection, cleaning, dims, making,
};

const SCHEDULERS: &[(&str, SchedulerKind)] = &[
    ("linear", SchedulerKind::Linear),
    ("cosine", SchedulerKind::Cosine),
    ("constant", SchedulerKind::Constant),
    ("constant_with_warmup", SchedulerKind::ConstantWithWarmup),
];
const STRATEGIES: &[(&str, Strategy)] =
    &[("no", Strategy::No), ("steps", Strategy::Steps), ("epoch", Strategy::Epoch), ("epochs", Strategy::Epoch)];
const COMMUNICATION: &[(&str, CommunicationType)] =
    &[("f32", CommunicationType::F32), ("bf16", CommunicationType::Bf16), ("fp32", CommunicationType::F32)];
const PRECISIONS: &[(&str, Precision)] = &[
    ("f32", Precision::F32),
    ("tf32", Precision::Tf32),
    ("bf16", Precision::Bf16),
    ("fp32", Precision::F32),
    ("float32", Precision::F32),
    ("bfloat16", Precision::Bf16),
];
/// Nothing for what is found by the machine.
const DEVICES: &[(&str, Option<DeviceKind>)] =
    &[("auto", None), ("cpu", Some(DeviceKind::Cpu)), ("cuda", Some(DeviceKind::Cuda))];
/// The least memory that a worker can be given: a smaller figure is a slip of the pen.
const LEAST_MEMORY: u64 = 1_000_000;

/// Reads every section; where a value is wrong its default stands, and the reader has the problem. `gpus` counts those of this machine, where that matters.
pub fn read(reader: &mut Reader<'_, '_>, default_name: &str, gpus: fn() -> usize) -> RunSpec {
    reader.check_names();
    let device = Device::read(reader, gpus);
    let run = RunSection {
        name: reader.string("run", "name").unwrap_or_else(|| default_name.to_owned()),
        store: reader.string("run", "store").unwrap_or_else(|| "file:./artel-store".to_owned()),
    };
    let train = train(reader, device);
    let evaluate = evaluate(reader, &train);
    let documents = making::documents(reader);
    let chunks = making::chunks(reader);
    let questions = making::questions(reader);
    let cleaning = cleaning::cleaning(reader);
    let (chunks, questions) = if documents.is_some() { (Some(chunks), questions) } else { (None, None) };
    let cleaning = documents.is_some().then_some(cleaning);
    RunSpec {
        run,
        documents,
        chunks,
        questions,
        cleaning,
        data: data(reader),
        model: model(reader),
        train,
        evaluate,
        workers: workers(reader, device),
    }
}

fn data(reader: &mut Reader<'_, '_>) -> DataSection {
    reader.check_table("data", "columns");
    let columns = Columns {
        anchor: reader.string("data.columns", "anchor"),
        positive: reader.string("data.columns", "positive"),
        negatives: reader.strings("data.columns", "negatives").unwrap_or_default(),
        group: reader.string("data.columns", "group"),
        id: reader.string("data.columns", "id"),
    };
    if !reader.has("data", "pairs") && !reader.has("", "documents") {
        reader.problem(
            "data",
            "pairs",
            "is missing; name the files of question and passage: pairs = [\"pairs.jsonl\"], or [documents] to make pairs from",
        );
    }
    let share = |share: f64| share > 0.0 && share < 1.0;
    DataSection {
        pairs: reader.strings("data", "pairs").unwrap_or_default(),
        columns,
        limit: reader.integer("data", "limit", 1..=i64::MAX as u64),
        test: reader.string("data", "test"),
        test_fraction: reader.float("data", "test_fraction", "a number above 0 and below 1", share).unwrap_or(0.1),
        drop_leaks: reader.boolean("data", "drop_leaks").unwrap_or(false),
        near_duplicate_threshold: reader
            .float("data", "near_duplicate_threshold", "a number above 0, at most 1,", |t| t > 0.0 && t <= 1.0)
            .unwrap_or(0.8),
        positive: reader.choice("data", "positive", making::POSITIVES).unwrap_or_default(),
    }
}

fn model(reader: &mut Reader<'_, '_>) -> ModelSection {
    if !reader.has("model", "base") {
        let advice = "is missing; name a model folder, a URL or a hub id: base = \"BAAI/bge-base-en-v1.5\" (or \"artel:toy\", which needs no download)";
        reader.problem("model", "base", advice);
    }
    ModelSection {
        base: reader.string("model", "base").unwrap_or_default(),
        revision: reader.string("model", "revision"),
        max_seq_length: reader.integer("model", "max_seq_length", 3..=1 << 20).map(|n| n as usize),
        query_prompt: reader.any_string("model", "query_prompt"),
        passage_prompt: reader.any_string("model", "passage_prompt"),
    }
}

fn train(reader: &mut Reader<'_, '_>, device: Device) -> TrainSection {
    const S: &str = "train";
    let any = 1..=i64::MAX as u64;
    let below_one = |x: f64| (0.0..1.0).contains(&x);
    let (matryoshka_dims, matryoshka_weights) = matryoshka(reader);
    let eval_strategy = reader.choice(S, "eval_strategy", STRATEGIES).unwrap_or(Strategy::Epoch);
    TrainSection {
        global_batch_size: reader.integer(S, "global_batch_size", 2..=1 << 24).unwrap_or(64) as usize,
        gradient_accumulation_steps: reader.integer(S, "gradient_accumulation_steps", 1..=1 << 20).unwrap_or(1) as usize,
        num_train_epochs: reader.integer(S, "num_train_epochs", 1..=9999).unwrap_or(3) as u32,
        max_steps: reader.integer(S, "max_steps", any.clone()),
        learning_rate: reader.float(S, "learning_rate", "a number above 0, at most 1,", |x| x > 0.0 && x <= 1.0).unwrap_or(5e-5),
        lr_scheduler_type: reader.choice(S, "lr_scheduler_type", SCHEDULERS).unwrap_or(SchedulerKind::Linear),
        warmup_ratio: reader.float(S, "warmup_ratio", "a share of the steps, from 0 to below 1,", below_one).unwrap_or(0.0),
        weight_decay: reader.float(S, "weight_decay", "a number, 0 or more,", |x| x >= 0.0).unwrap_or(0.0),
        adam_beta1: reader.float(S, "adam_beta1", "a number from 0 to below 1", below_one).unwrap_or(0.9),
        adam_beta2: reader.float(S, "adam_beta2", "a number from 0 to below 1", below_one).unwrap_or(0.999),
        adam_epsilon: reader.float(S, "adam_epsilon", "a number above 0", |x| x > 0.0).unwrap_or(1e-8),
        max_grad_norm: reader.float(S, "max_grad_norm", "a number, 0 (no clipping) or more,", |x| x >= 0.0).unwrap_or(1.0),
        loss: loss(reader),
        scale: reader.float(S, "scale", "a number above 0", |x| x > 0.0).unwrap_or(20.0),
        matryoshka_dims,
        matryoshka_weights,
        dropout: reader.float(S, "dropout", "a number from 0 to below 1", below_one),
        seed: reader.integer(S, "seed", 0..=i64::MAX as u64).unwrap_or(42),
        drop_last: reader.boolean(S, "drop_last").unwrap_or(false),
        eval_strategy,
        eval_steps: reader.integer(S, "eval_steps", any.clone()),
        save_strategy: reader.choice(S, "save_strategy", STRATEGIES).unwrap_or(Strategy::Epoch),
        save_steps: reader.integer(S, "save_steps", any.clone()),
        save_total_limit: reader.integer(S, "save_total_limit", 1..=u64::from(u32::MAX)).map(|n| n as u32),
        load_best_model_at_end: reader.boolean(S, "load_best_model_at_end").unwrap_or(eval_strategy != Strategy::No),
        logging_steps: reader.integer(S, "logging_steps", any).unwrap_or(10),
        precision: precision(reader, device),
        micro_batch_tokens: reader.integer(S, "micro_batch_tokens", 1..=1 << 20).unwrap_or(1024) as usize,
        gradient_leaves: reader.integer(S, "gradient_leaves", 1..=64).unwrap_or(8) as usize,
    }
}

/// Dims and their weights, widest first.
fn matryoshka(reader: &mut Reader<'_, '_>) -> (Vec<usize>, Vec<f64>) {
    let dims = reader.widths("train", "matryoshka_dims").unwrap_or_default();
    let weights = reader.floats("train", "matryoshka_weights", "a list of numbers above 0", |x| x > 0.0);
    let weights = weights.unwrap_or_else(|| vec![1.0; dims.len()]);
    if weights.len() != dims.len() {
        let what =
            format!("has {} weights, but matryoshka_dims has {} widths; write one weight for each", weights.len(), dims.len());
        reader.problem("train", "matryoshka_weights", what);
    }
    let mut both: Vec<(usize, f64)> = dims.into_iter().zip(weights).collect();
    both.sort_by_key(|(dim, _)| std::cmp::Reverse(*dim));
    both.into_iter().unzip()
}

fn loss(reader: &mut Reader<'_, '_>) -> LossKind {
    let Some(written) = reader.peek("train", "loss") else {
        return reader
            .choice("train", "loss", &[("multiple_negatives_ranking", LossKind::MultipleNegativesRanking)])
            .unwrap_or(LossKind::MultipleNegativesRanking);
    };
    let plain: String = written.to_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
    let advice = match plain.strip_suffix("loss").unwrap_or(&plain) {
        "multiplenegativesranking" | "mnrl" | "mnr" | "infonce" => None,
        "cachedmultiplenegativesranking" => {
            Some("its two passes are chosen by memory, not by a key; write loss = \"multiple_negatives_ranking\"")
        }
        "matryoshka" => Some("write loss = \"multiple_negatives_ranking\" and the widths in matryoshka_dims"),
        "multiplenegativessymmetricranking"
        | "cachedmultiplenegativessymmetricranking"
        | "gist"
        | "cachedgist"
        | "triplet"
        | "contrastive"
        | "onlinecontrastive"
        | "cosinesimilarity"
        | "cosent"
        | "angle"
        | "batchalltriplet"
        | "batchhardtriplet"
        | "batchsemihardtriplet"
        | "batchhardsoftmargintriplet"
        | "megabatchmargin"
        | "softmax"
        | "mse"
        | "marginmse"
        | "distillkldiv"
        | "denoisingautoencoder"
        | "contrastivetension"
        | "adaptivelayer"
        | "matryoshka2d" => Some(
            "a loss of sentence-transformers that Artel does not train with; pairs, with or without negatives, take loss = \"multiple_negatives_ranking\"",
        ),
        _ => Some("no loss is called that; write loss = \"multiple_negatives_ranking\""),
    };
    if let Some(advice) = advice {
        reader.problem("train", "loss", format_args!("{written:?}: {advice}"));
    }
    LossKind::MultipleNegativesRanking
}

fn precision(reader: &mut Reader<'_, '_>, device: Device) -> Precision {
    let written = reader.peek("train", "precision").unwrap_or_default().to_lowercase();
    let of_device = if device.kind == DeviceKind::Cuda { Precision::Bf16 } else { Precision::F32 };
    if ["fp16", "f16", "float16", "half"].contains(&written.as_str()) {
        let why = format!("\"{written}\": the CPU trains in f32, a GPU in bf16, tf32 or f32; leave precision out");
        reader.problem("train", "precision", why);
        return of_device;
    }
    let precision = reader.choice("train", "precision", PRECISIONS).unwrap_or(of_device);
    if of_device == Precision::F32 && precision != of_device && !device.wrong {
        let open = if device.found { ", and this machine, to which the spec leaves the device, shows no GPU" } else { "" };
        let why = format!(
            "\"{written}\" is a format of GPUs{open}; the CPU trains in f32, exactly; leave it out, or write device = \"cuda\" in [workers]"
        );
        reader.problem("train", "precision", why);
        return of_device;
    }
    precision
}

fn evaluate(reader: &mut Reader<'_, '_>, train: &TrainSection) -> EvaluateSection {
    const KEY: &str = "metric_for_best_model";
    let mut measured = reader.widths("evaluate", "dims").unwrap_or_default();
    measured.sort_unstable_by_key(|dim| std::cmp::Reverse(*dim));
    let known = if measured.is_empty() { &train.matryoshka_dims } else { &measured };
    let default = || dims::metric_name(known.first().copied(), "cosine_ndcg@10");
    let metric = match reader.string("evaluate", KEY) {
        None => default(),
        Some(written) => match dims::parse_metric(&written) {
            Err(advice) => {
                reader.problem("evaluate", KEY, format_args!("{written:?}: {advice}"));
                default()
            }
            Ok((Some(dim), _)) if !known.is_empty() && !known.contains(&dim) => {
                let what = format!(
                    "{written:?} is of width {dim}, which is not measured; take one of {known:?} or add it to dims in [evaluate]"
                );
                reader.problem("evaluate", KEY, what);
                default()
            }
            Ok((dim, name)) => dims::metric_name(dim.or(known.first().copied()), name),
        },
    };
    EvaluateSection { metric_for_best_model: metric, dims: measured }
}

/// What computes.
#[derive(Debug, Clone, Copy)]
struct Device {
    kind: DeviceKind,
    /// By the machine, since the spec leaves it open.
    found: bool,
    /// What is written is no device; nothing else is to be told for that.
    wrong: bool,
}

impl Device {
    fn read(reader: &mut Reader<'_, '_>, gpus: fn() -> usize) -> Self {
        let refused = Self { kind: DeviceKind::Cpu, found: false, wrong: true };
        let written = reader.peek("workers", "device").unwrap_or_default().to_lowercase();
        let advice = match written.split(':').next() {
            Some("gpu" | "mps" | "rocm" | "xpu") => {
                Some("write device = \"cuda\" for NVIDIA GPUs, \"cpu\", or \"auto\" for the GPUs where there are some")
            }
            _ if written.starts_with("cuda:") => Some("write device = \"cuda\" and name the GPU in CUDA_VISIBLE_DEVICES"),
            _ => None,
        };
        if let Some(advice) = advice {
            reader.problem("workers", "device", format_args!("\"{written}\": {advice}"));
            return refused;
        }
        match reader.choice("workers", "device", DEVICES) {
            Some(Some(kind)) => Self { kind, found: false, wrong: false },
            None if reader.has("workers", "device") => refused,
            _ => Self { kind: if gpus() > 0 { DeviceKind::Cuda } else { DeviceKind::Cpu }, found: true, wrong: false },
        }
    }
}

fn workers(reader: &mut Reader<'_, '_>, device: Device) -> WorkersSection {
    let count = reader.integer("workers", "count", 1..=MOST_WORKERS as u64);
    WorkersSection {
        count: count.unwrap_or(1) as usize,
        every_gpu: count.is_none() && device.kind == DeviceKind::Cuda,
        device: device.kind,
        device_found: device.found,
        threads: reader.integer("workers", "threads", 1..=1024).map(|n| n as usize),
        memory_limit: reader.bytes("workers", "memory_limit", LEAST_MEMORY),
        allow_insecure: reader.boolean("workers", "allow_insecure").unwrap_or(false),
        communication_data_type: communication(reader, device),
    }
}

fn communication(reader: &mut Reader<'_, '_>, device: Device) -> CommunicationType {
    const KEY: &str = "communication_data_type";
    let found = reader.choice("workers", KEY, COMMUNICATION).unwrap_or_default();
    if found == CommunicationType::Bf16 && device.kind == DeviceKind::Cpu && !device.wrong {
        let why = "\"bf16\": workers on CPUs sum gradients exactly; leave it out, or write device = \"cuda\"";
        reader.problem("workers", KEY, why);
    }
    found
}
