//! The maths of Artel: encoder, losses, collectives, optimizer, step, ranking and metrics.
//! It may know `artel-common`, candle tensors and threads: a step runs in a unit test.
//! It must never import an async runtime, gRPC or an object store.

pub mod collective;
pub mod cut;
pub mod dropout;
pub mod embed;
pub mod encode;
pub mod encoder;
pub mod error;
pub mod evaluate;
mod gathered;
pub mod gpu;
pub mod gradient;
pub mod interrupt;
pub mod kernels;
pub mod loss;
pub mod metrics;
pub mod mine;
pub mod model;
pub mod nccl;
pub mod ops;
pub mod optim;
pub mod packed;
pub mod parallel;
pub mod pool;
pub mod rank;
pub mod speed;
pub mod state;
pub mod step;
pub mod team;
pub mod tokens;
pub mod tree;

pub use error::{Error, ErrorKind, Result};
