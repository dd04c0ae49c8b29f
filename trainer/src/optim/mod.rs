//! Optimizer, clipping and learning-rate schedules.

mod adamw;
mod norm;
mod schedule;

pub use adamw::AdamW;
pub use norm::grad_norm;
pub use schedule::{lr_factor, warmup_steps};
