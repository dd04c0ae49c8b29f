//! The workers of one machine's GPUs: a process each, which end together.

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use artel_common::exit::Exit;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::child::die_with_parent;
use crate::failure::Failure;
use crate::output;
use crate::signals::{Asked, LOSES_WORK, Signals};

/// How often the workers are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How long workers have to leave, once they are told to.
const PATIENCE: Duration = Duration::from_secs(30);

/// A worker's process.
struct Worker {
    gpu: usize,
    child: Child,
    /// How it ended.
    ended: Option<Exit>,
}

/// Runs this program once for each GPU, with `arguments(gpu)`, until all have ended. Where one fails the others are told to leave: the run goes on when this command is
/// run again. SIGTERM and Ctrl-C are handed on.
///
/// # Errors
/// The first worker's that ended otherwise than in order: it has said why.
pub async fn each_gpu(gpus: &[usize], arguments: impl Fn(usize) -> Vec<String>) -> Result<(), Failure> {
    let mut signals = Signals::catch()?;
    let mut workers = Vec::new();
    for &gpu in gpus {
        match start(&arguments(gpu)) {
            Ok(child) => workers.push(Worker { gpu, child, ended: None }),
            // those that were started go with this process
            Err(error) => return Err(Failure::internal(format!("cannot start the worker of GPU {gpu}: {error}"))),
        }
    }
    let mut ticks = tokio::time::interval(TICK);
    // the first failure, the first signal, when those that are told to leave are to have left
    let (mut failed, mut asked, mut deadline) = (None, None::<Asked>, None::<Instant>);
    loop {
        let signalled = tokio::select! {
            by = signals.next() => Some(by),
            _ = ticks.tick() => None,
        };
        for worker in &mut workers {
            let Some(exit) = worker.look()? else { continue };
            if exit != Exit::Done && failed.is_none() {
                failed = Some(exit);
                if asked.is_none() {
                    output::talk(&format!(
                        "the worker of GPU {} ended with exit code {}; the others leave",
                        worker.gpu,
                        exit.code()
                    ));
                }
            }
        }
        if workers.iter().all(|worker| worker.ended.is_some()) {
            return match failed {
                None => Ok(()),
                // each has said its own; this process says how to go on
                Some(Exit::Preempted) => Err(Failure::new(Exit::Preempted, "the workers have left")),
                Some(exit) => Err(Failure { message: None, exit }),
            };
        }
        if let Some(by) = signalled {
            if asked.is_some() {
                workers.iter().for_each(|worker| worker.signal(Signal::KILL));
                return Err(Failure::new(by.exit_at_once(), format!("left at once: {LOSES_WORK}")));
            }
            asked = Some(by);
        }
        match deadline {
            None if asked.is_some() || failed.is_some() => {
                deadline = Some(Instant::now() + PATIENCE);
                workers.iter().for_each(|worker| worker.signal(Signal::TERM));
            }
            Some(deadline) if Instant::now() > deadline => workers.iter().for_each(|worker| worker.signal(Signal::KILL)),
            _ => {}
        }
    }
}

fn start(arguments: &[String]) -> std::io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).stdin(std::process::Stdio::null()).kill_on_drop(true);
    die_with_parent(&mut command);
    command.spawn()
}

impl Worker {
    /// How it has ended, once it is seen.
    fn look(&mut self) -> Result<Option<Exit>, Failure> {
        if self.ended.is_some() {
            return Ok(None);
        }
        let status = self.child.try_wait();
        let status = status.map_err(|e| Failure::internal(format!("cannot watch the worker of GPU {}: {e}", self.gpu)))?;
        self.ended = status.map(|status| match status.code() {
            Some(code) => u8::try_from(code).ok().and_then(Exit::from_code).unwrap_or(Exit::Internal),
            None => {
                let signal = status.signal().unwrap_or_default();
                output::talk(&format!("error: the worker of GPU {} was ended by signal {signal}", self.gpu));
                Exit::WorkerLost
            }
        });
        Ok(self.ended)
    }

    fn signal(&self, signal: Signal) {
        // one that has been looked at has no process any more
        let pid = self.child.id().and_then(|id| Pid::from_raw(id as i32)).filter(|_| self.ended.is_none());
        let _gone = pid.map(|pid| kill_process(pid, signal));
    }
}
