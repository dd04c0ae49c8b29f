//! Optimizer, clipping and learning-rate schedules.

mod adamw;
mod norm;
mod schedule;

pub use adamw::{AdamW, Update};
pub use norm::{grad_norm, sum_squares};
pub use schedule::{lr_factor, warmup_steps};
