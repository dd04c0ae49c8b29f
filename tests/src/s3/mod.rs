//! A real S3 server for tests, which fails in the ways that a test asks for.

mod exclusive;
mod faults;
mod layer;
mod pace;
mod server;

pub use faults::{Fault, Faults, Rule};
pub use layer::Seen;
pub use server::S3Server;
