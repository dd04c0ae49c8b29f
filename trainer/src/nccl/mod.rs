//! NCCL, loaded when it is first wanted: communicators that never wait without a deadline.
//!
//! NCCL's own non-blocking mode is used throughout: what it begins is polled for, together with its asynchronous errors. A call that hangs all
//! the same is noticed by a watchdog, which aborts the communicator from another thread and, where that hangs too, ends the
//! process: killing it is the abort that always works. After an error a communicator is of no more use, and the step is
//! thrown away whole.
//!
//! The library is opened by name at run time, not linked (docs/adr/nccl-at-run-time.md): one program serves machines with it and
//! without.

mod comm;
mod library;
#[cfg(test)]
mod tests;
mod watchdog;

pub use comm::{Bind, Comm, Deadlines, Element, GiveUp, Seat};
pub use library::{Library, UniqueId};
