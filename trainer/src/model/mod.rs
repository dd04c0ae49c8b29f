//! Model folders: configuration, pooling, weights, tokenizer, export.

pub mod card;
pub mod config;
pub mod digest;
pub mod export;
pub mod folder;
pub mod json;
pub mod layout;
pub mod pooling;
pub mod prompts;
pub mod safetensors;
#[cfg(test)]
mod testing;
pub mod tokenizer;
pub mod tokenizer_files;
pub mod toy;
pub mod weights;

pub use card::CardFacts;
pub use config::{Activation, BertConfig};
pub use export::ExportOptions;
pub use folder::ModelFolder;
pub use layout::{ParamEntry, ParamLayout};
pub use pooling::{Pooling, PoolingMode};
pub use prompts::Prompts;
pub use tokenizer::{Prompt, Tokenizer};
