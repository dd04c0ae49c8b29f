//! Asks work that runs on other threads to end early.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// A request to end; it is never taken back.
#[derive(Debug, Default)]
pub struct Interrupt {
    leave: AtomicBool,
    give_up: AtomicBool,
}

impl Interrupt {
    /// Asks that no step is begun after the present one. Ranks tell one another, so that all end after the same step.
    pub fn leave(&self) {
        self.leave.store(true, Ordering::Relaxed);
    }

    /// Asks that the present step is given up too, between two pieces of its work: the state stays what it was before it.
    pub fn give_up(&self) {
        self.leave();
        self.give_up.store(true, Ordering::Relaxed);
    }

    /// Whether work is to end.
    pub fn is_leaving(&self) -> bool {
        self.leave.load(Ordering::Relaxed)
    }

    /// To be called between two parts of a step.
    ///
    /// # Errors
    /// [`Error::Left`] once the step is to be given up.
    pub fn check(&self) -> Result<()> {
        if self.give_up.load(Ordering::Relaxed) { Err(Error::Left) } else { Ok(()) }
    }

    /// To be called between two parts of work that can be done again from its beginning.
    ///
    /// # Errors
    /// [`Error::Left`] once work is to end.
    pub fn check_leave(&self) -> Result<()> {
        if self.is_leaving() { Err(Error::Left) } else { Ok(()) }
    }
}
