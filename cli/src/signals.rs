//! Ctrl-C and SIGTERM, as something that a command can wait for.

use artel_common::exit::Exit;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::failure::Failure;

/// Who asked the process to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM: a scheduler, or the supervisor.
    Terminate,
}

impl Asked {
    /// How a process ends that was asked so twice, and leaves at once.
    pub fn exit_at_once(self) -> Exit {
        match self {
            Self::Interrupt => Exit::Interrupted,
            Self::Terminate => Exit::Preempted,
        }
    }
}

/// Both signals of this process, caught from now on.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Starts to catch them; inside a tokio runtime only.
    ///
    /// # Errors
    /// The system refuses.
    pub fn catch() -> Result<Self, Failure> {
        let of = |kind| signal(kind).map_err(|e| Failure::internal(format!("cannot catch signals: {e}")));
        Ok(Self { interrupt: of(SignalKind::interrupt())?, terminate: of(SignalKind::terminate())? })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Interrupt,
            _ = self.terminate.recv() => Asked::Terminate,
        }
    }
}

/// What a run loses that is left at once.
pub const LOSES_WORK: &str = "only what was under way is lost (steps since the last checkpoint, pieces of documents, requests)";

/// A switch that the first signal turns: the work is to save its state and leave. The second one ends the process at once, and tells what
/// that `loses`. A supervised process leaves Ctrl-C, which reaches the whole process group, to its supervisor.
///
/// # Errors
/// The system refuses.
pub fn stop_switch(supervised: bool, loses: &'static str) -> Result<watch::Receiver<bool>, Failure> {
    let mut signals = Signals::catch()?;
    let (turn, stop) = watch::channel(false);
    tokio::spawn(async move {
        loop {
            let by = signals.next().await;
            if supervised && by == Asked::Interrupt {
                continue;
            }
            if *turn.borrow() {
                let failure = Failure::new(by.exit_at_once(), format!("left at once: {loses}"));
                // how to go on is said by the supervisor, whose command it is
                let failure = if supervised { failure } else { failure.or_run_again() };
                crate::output::talk(&format!("error: {}", failure.message.unwrap_or_default()));
                std::process::exit(i32::from(by.exit_at_once().code()));
            }
            turn.send_replace(true);
        }
    });
    Ok(stop)
}
