//! Model folders: configuration, pooling, weights, tokenizer, export.

pub mod config;
pub mod json;
pub mod layout;
pub mod pooling;
pub mod toy;

pub use config::{Activation, BertConfig};
pub use layout::{ParamEntry, ParamLayout};
pub use pooling::{Pooling, PoolingMode};
