//! A child process that cannot outlive its parent, watched by a task of its own.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::Report;
use super::core::{Ended, Seen, Who};
use crate::failure::Failure;

/// Signals on their way to a child: SIGTERM and SIGKILL at most.
const ORDERS_BOUND: usize = 4;
/// Longest error message that is kept of a child.
const LAST_WORDS_BYTES: usize = 16 * 1024;

/// A handle to a running child.
pub struct Handle {
    orders: mpsc::Sender<Signal>,
}

impl Handle {
    /// Sends a signal, unless the child has been reaped.
    pub fn signal(&self, signal: Signal) {
        // A full queue holds a signal already; a closed one has no child.
        let _gone = self.orders.try_send(signal);
    }
}

/// Starts this very program with other arguments. Must be called on the main thread: the death signal is bound to
/// the thread that forks.
///
/// # Errors
/// The system cannot start a process.
pub fn start(who: Who, arguments: &[String], reports: &mpsc::Sender<Report>) -> Result<Handle, Failure> {
    let fail = |e: std::io::Error| Failure::internal(format!("cannot start the {who}: {e}"));
    let program = std::env::current_exe().map_err(fail)?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command.stdout(if who == Who::Coordinator { Stdio::piped() } else { Stdio::null() });
    die_with_parent(&mut command);
    let mut child = command.spawn().map_err(fail)?;
    let (orders, to_child) = mpsc::channel(ORDERS_BOUND);
    let stdout = child.stdout.take().map(|pipe| tokio::spawn(read_events(pipe, reports.clone())));
    let stderr = child.stderr.take().map(|pipe| tokio::spawn(read_talk(who, pipe, reports.clone())));
    tokio::spawn(watch(who, child, to_child, [stdout, stderr], reports.clone()));
    Ok(Handle { orders })
}

/// The kernel kills the child when its parent dies, however that happens.
pub(super) fn die_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    let bind = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() == Some(parent) {
            return Ok(());
        }
        // The parent died before the signal was bound.
        Err(std::io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error()))
    };
    // SAFETY: between fork and exec `bind` makes two system calls; it takes no lock and allocates nothing.
    unsafe { command.pre_exec(bind) };
}

/// Waits for the end of a child and passes signals on until then.
async fn watch(
    who: Who,
    mut child: Child,
    mut orders: mpsc::Receiver<Signal>,
    readers: [Option<tokio::task::JoinHandle<()>>; 2],
    reports: mpsc::Sender<Report>,
) {
    let pid = child.id().unwrap_or(0);
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            order = orders.recv() => match order {
                Some(signal) => deliver(&child, signal),
                None => break child.wait().await,
            },
        }
    };
    for reader in readers.into_iter().flatten() {
        // What a grandchild may still hold open is not waited for: a reader that ends tells all it read.
        let _late = tokio::time::timeout(std::time::Duration::from_secs(1), reader).await;
    }
    let ended = match status {
        Ok(status) => status.code().map_or_else(
            || Ended::Signal(status.signal().unwrap_or(0)),
            |code| Ended::Code(u8::try_from(code).unwrap_or(u8::MAX)),
        ),
        Err(e) => {
            tracing::warn!("cannot wait for the {who}: {e}");
            Ended::Code(1)
        }
    };
    let _supervisor_gone = reports.send(Report { line: None, seen: Some(Seen::Exited { who, pid, ended }) }).await;
}

fn deliver(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let Some(pid) = pid else { return };
    if let Err(e) = rustix::process::kill_process(pid, signal) {
        tracing::debug!("cannot signal process {pid:?}: {e}");
    }
}

/// The coordinator's stdout: a JSON object a line.
async fn read_events(pipe: impl AsyncRead + Unpin, reports: mpsc::Sender<Report>) {
    let mut lines = BufReader::new(pipe).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let seen = serde_json::from_str(&line).ok().map(Seen::Event);
        if reports.send(Report { line: Some(line), seen }).await.is_err() {
            return;
        }
    }
}

/// A child's stderr: warnings are passed on, an error message is kept for the end.
async fn read_talk(who: Who, pipe: impl AsyncRead + Unpin, reports: mpsc::Sender<Report>) {
    let mut lines = BufReader::new(pipe).lines();
    let mut last_words = String::new();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(message) = line.strip_prefix("error: ").filter(|_| last_words.is_empty()) {
            message.clone_into(&mut last_words);
        } else if last_words.is_empty() {
            crate::output::talk(&format!("{who}: {line}"));
        } else if last_words.len() + line.len() < LAST_WORDS_BYTES {
            last_words.push('\n');
            last_words.push_str(&line);
        }
    }
    if !last_words.is_empty() {
        let seen = Seen::LastWords(who, last_words);
        let _supervisor_gone = reports.send(Report { line: None, seen: Some(seen) }).await;
    }
}
