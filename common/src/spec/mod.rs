//! The run spec: what a user writes in TOML. One struct a section; unknown keys are refused.
//!
//! [`RunSpec::load`] reads a file and reports every problem at once; what it returns has every default filled in.
//! docs/reference/spec.md says what each key means.

mod check;
mod cleaning;
mod dims;
mod identity;
mod keys;
mod load;
mod making;
mod reader;
mod sections;
mod size;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use cleaning::CleaningSection;
pub use dims::{METRIC_NAMES, Width};
pub use load::LoadedSpec;
pub use making::{
    ChunkUnit, ChunksSection, DocumentsSection, Positive, ProviderKind, QueryStyle, QuestionsSection, ReadStrategy,
};

/// A whole spec, with every default filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSpec {
    /// `[run]`
    pub run: RunSection,
    /// `[documents]`: there where pairs are made from documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documents: Option<DocumentsSection>,
    /// `[chunks]`, with `[documents]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks: Option<ChunksSection>,
    /// `[questions]`, with `[documents]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub questions: Option<QuestionsSection>,
    /// `[cleaning]`, with `[documents]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleaning: Option<CleaningSection>,
    /// `[data]`
    pub data: DataSection,
    /// `[model]`
    pub model: ModelSection,
    /// `[train]`
    pub train: TrainSection,
    /// `[evaluate]`
    pub evaluate: EvaluateSection,
    /// `[workers]`
    pub workers: WorkersSection,
}

/// `[run]`: what the run is called and where it lies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunSection {
    /// Its name, for people.
    pub name: String,
    /// `file:PATH`, `s3://BUCKET/PREFIX`, `gs://...`, `az://...`; one store is one run. A loaded spec's path is absolute.
    pub store: String,
}

/// Which columns of the files mean what.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Columns {
    /// Column of the questions; recognised (`anchor`, `Question`, ...) where it is not said.
    pub anchor: Option<String>,
    /// Column of the passages; recognised (`positive`, `Answer`, ...) where it is not said.
    pub positive: Option<String>,
    /// Columns of hard negatives.
    pub negatives: Vec<String>,
    /// Column of the document that a row came from.
    pub group: Option<String>,
    /// Column of the row's id (default `id`, if there is one).
    pub id: Option<String>,
}

/// `[data]`: the pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataSection {
    /// Files: CSV, JSON Lines or Parquet; local or in a bucket; globs. Relative to the spec's folder.
    pub pairs: Vec<String>,
    /// Which columns mean what.
    pub columns: Columns,
    /// Only the first rows.
    pub limit: Option<u64>,
    /// A file of pairs to measure on, or `train`.
    pub test: Option<String>,
    /// Else this share of the documents is kept aside (default 0.1).
    pub test_fraction: f64,
    /// Leave training rows out that share a text with the test file.
    pub drop_leaks: bool,
    /// How alike two texts' word 5-grams must be (Jaccard) to be near-duplicates.
    pub near_duplicate_threshold: f64,
    /// The positive of pairs that are made from documents.
    #[serde(default, skip_serializing_if = "Positive::is_answer")]
    pub positive: Positive,
}

/// `[model]`: what is tuned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelSection {
    /// Folder, `file:` or `s3:` URL, hub id, or `artel:toy`.
    pub base: String,
    /// Hub revision.
    pub revision: Option<String>,
    /// Longest text in tokens; the model's own where it is not said.
    pub max_seq_length: Option<usize>,
    /// Put before each anchor (a BGE query instruction, say), in training, evaluation and export.
    pub query_prompt: Option<String>,
    /// Put before each passage.
    pub passage_prompt: Option<String>,
}

/// Which loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// In-batch negatives (InfoNCE).
    MultipleNegativesRanking,
}

/// How the learning rate goes after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchedulerKind {
    /// Half a cosine to zero.
    Cosine,
    /// A line to zero.
    Linear,
    /// Flat, warm-up included (`constant` has none).
    ConstantWithWarmup,
    /// Flat from the first step.
    Constant,
}

/// When to do a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Never.
    No,
    /// Every so many steps.
    Steps,
    /// After each pass over the data.
    Epoch,
}

/// Number format of the matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floats.
    F32,
    /// 32-bit floats of which matrix products take 10 bits of mantissa: a GPU's.
    Tf32,
    /// 16-bit floats with f32's range, summed in f32: a GPU's.
    Bf16,
}

/// `[train]`: sentence-transformers' vocabulary where it has one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainSection {
    /// Rows that share negatives, over all workers.
    pub global_batch_size: usize,
    /// Batches whose gradients are averaged before an update.
    pub gradient_accumulation_steps: usize,
    /// Passes over the data.
    pub num_train_epochs: u32,
    /// Stop after so many updates.
    pub max_steps: Option<u64>,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Its course.
    pub lr_scheduler_type: SchedulerKind,
    /// Share of the steps that warm up.
    pub warmup_ratio: f64,
    /// AdamW's decoupled decay.
    pub weight_decay: f64,
    /// AdamW's first beta.
    pub adam_beta1: f64,
    /// AdamW's second beta.
    pub adam_beta2: f64,
    /// AdamW's epsilon.
    pub adam_epsilon: f64,
    /// Greatest gradient norm; 0 is no clipping.
    pub max_grad_norm: f64,
    /// Which loss.
    pub loss: LossKind,
    /// Factor on the cosine.
    pub scale: f64,
    /// Widths that the loss sums over, widest first; empty means the model's full width alone.
    pub matryoshka_dims: Vec<usize>,
    /// Weight of each width; as many as there are widths.
    pub matryoshka_weights: Vec<f64>,
    /// Replaces the model's own dropout, hidden and attention.
    pub dropout: Option<f64>,
    /// Of the shuffle and of dropout.
    pub seed: u64,
    /// Leave a last batch out that is not full.
    pub drop_last: bool,
    /// When to measure.
    pub eval_strategy: Strategy,
    /// With `steps`: how often.
    pub eval_steps: Option<u64>,
    /// When to save.
    pub save_strategy: Strategy,
    /// With `steps`: how often.
    pub save_steps: Option<u64>,
    /// How many checkpoints to keep.
    pub save_total_limit: Option<u32>,
    /// Export the best evaluation's weights, not the last.
    pub load_best_model_at_end: bool,
    /// How often a step is logged.
    pub logging_steps: u64,
    /// Number format.
    pub precision: Precision,
    /// Tokens of a micro-batch on the CPU (DESIGN section 7).
    pub micro_batch_tokens: usize,
    /// Leaves of the gradient's summation tree (DESIGN section 7).
    pub gradient_leaves: usize,
}

/// `[evaluate]`: how the model is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvaluateSection {
    /// Which metric says `best`: `dim_128_cosine_ndcg@10`, or `cosine_ndcg@10` of the widest; never with `eval_` in front.
    pub metric_for_best_model: String,
    /// Widths to measure, widest first; the trained ones where nothing is said.
    pub dims: Vec<usize>,
}

/// The most workers of a run.
pub(crate) const MOST_WORKERS: usize = 1024;

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

impl RunSpec {
    /// How many workers can take part: one for each gradient leaf at most; on GPUs, which share the batch by rows, as many as may be written.
    pub fn most_workers(&self) -> usize {
        match self.workers.device {
            DeviceKind::Cpu => self.train.gradient_leaves,
            DeviceKind::Cuda => MOST_WORKERS,
        }
    }
}

/// What gradients are rounded to on their way between GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommunicationType {
    /// Not rounded.
    #[default]
    F32,
    /// Half the bytes.
    Bf16,
}

/// `[workers]`: who computes; changes no weights, but that a GPU's precision is another one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkersSection {
    /// How many.
    pub count: usize,
    /// Nothing was said of how many, and they compute on GPUs: `artel run` starts one for each.
    #[serde(skip)]
    pub every_gpu: bool,
    /// On what.
    pub device: DeviceKind,
    /// By what the machine had that read the spec, since the spec leaves it open.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub device_found: bool,
    /// Threads of each; the machine's cores shared out where nothing is said.
    pub threads: Option<usize>,
    /// Bytes that each may take; what the machine has where nothing is said.
    pub memory_limit: Option<u64>,
    /// Bind and reach other addresses than loopback without TLS (a private network).
    pub allow_insecure: bool,
    /// What gradients are on their way between GPUs.
    #[serde(default)]
    pub communication_data_type: CommunicationType,
}
