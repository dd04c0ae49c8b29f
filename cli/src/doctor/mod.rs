//! What this machine offers to a run, what is missing, and what to do about it.

mod gpu;
pub mod machine;
pub mod model;
pub mod problems;
mod proc;
mod readers;
pub mod store;
pub mod table;

use serde::Serialize;

pub use self::gpu::GpuCheck;
pub use self::machine::Machine;
pub use self::model::Model;
pub use self::readers::Readers;
pub use self::store::StoreCheck;

/// Everything that was found: the object of `--json`.
#[derive(Debug, Serialize)]
pub struct Findings {
    /// The version of Artel.
    pub version: &'static str,
    /// Processor, memory, files, GPU.
    #[serde(flatten)]
    pub machine: Machine,
    /// What documents are read with.
    pub documents: Readers,
    /// What `--store` asked for.
    pub store: Option<StoreCheck>,
    /// What `--model` asked for.
    pub model: Option<Model>,
    /// What `--gpu` asked for.
    pub gpu_check: Option<GpuCheck>,
    /// Each what is wrong and what to do.
    pub problems: Vec<String>,
}
