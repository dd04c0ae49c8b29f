//! The parent's side: one loop feeds the child, takes what it says, and ends it in time.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// Bytes of standard error that are kept, the last ones.
const KEPT_TALK: usize = 4096;
/// How often a child is looked at that says nothing.
const LOOK: Duration = Duration::from_millis(100);
/// How long a killed child's pipes are read: they stay open only if something left its process group.
const DRAIN: Duration = Duration::from_secs(1);

/// How the child came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// By itself, or by a signal that is not ours.
    Own,
    /// Its time was over.
    Late,
    /// It said too much.
    Loud,
}

/// What is known of a child that is no more.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) end: End,
    pub(super) status: ExitStatus,
    /// All of its standard output, within the limit.
    pub(super) output: Vec<u8>,
    /// The last of its standard error.
    pub(super) talk: Vec<u8>,
}

/// Writes `input` to the child and reads what it says, until it ends or has to; then kills its process group.
pub(super) fn watch(mut child: Child, input: [&[u8]; 2], time: Duration, output_bytes: u64) -> io::Result<Watched> {
    let deadline = Instant::now().checked_add(time);
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let mut pipes = Pipes::new(&mut child, input);
    let end = pipes.as_mut().map_or(Ok(End::Own), |pipes| attend(pipes, pid, deadline, output_bytes));
    // The group before its leader is waited for: until then its number is taken by no other.
    if let Some(pid) = pid {
        let _ = kill_process_group(pid, Signal::KILL);
    }
    let _ = child.kill();
    let drained = Instant::now() + DRAIN;
    if let Ok(pipes) = &mut pipes {
        pipes.stdin = None;
        while pipes.are_open() && pipes.output.len() as u64 <= output_bytes && Instant::now() < drained {
            pipes.serve(LOOK, output_bytes)?;
        }
    }
    let status = child.wait()?;
    let pipes = pipes?;
    Ok(Watched { end: end?, status, output: pipes.output, talk: pipes.talk })
}

fn attend(pipes: &mut Pipes<'_>, pid: Option<Pid>, deadline: Option<Instant>, output_bytes: u64) -> io::Result<End> {
    let mut pause = Duration::from_micros(200);
    loop {
        let left = deadline.map_or(LOOK, |deadline| deadline.saturating_duration_since(Instant::now()));
        if pipes.output.len() as u64 > output_bytes {
            return Ok(End::Loud);
        }
        if has_ended(pid)? {
            return Ok(End::Own);
        }
        if left.is_zero() {
            return Ok(End::Late);
        }
        if pipes.are_open() {
            pipes.serve(left.min(LOOK), output_bytes)?;
        } else {
            // It has closed its pipes and is about to end, or is up to no good.
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(LOOK);
        }
    }
}

/// Whether the child has ended; it stays to be waited for.
fn has_ended(pid: Option<Pid>) -> io::Result<bool> {
    let Some(pid) = pid else { return Ok(false) };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(waitid(WaitId::Pid(pid), options)?.is_some())
}

/// The child's three pipes; none of them ever blocks.
struct Pipes<'a> {
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    /// What is to be written.
    input: [&'a [u8]; 2],
    output: Vec<u8>,
    talk: Vec<u8>,
    buffer: Vec<u8>,
}

impl<'a> Pipes<'a> {
    fn new(child: &mut Child, input: [&'a [u8]; 2]) -> io::Result<Self> {
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let fds = [stdin.as_ref().map(AsFd::as_fd), stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)];
        for fd in fds.into_iter().flatten() {
            fcntl_setfl(fd, OFlags::NONBLOCK)?;
        }
        Ok(Self { stdin, stdout, stderr, input, output: Vec::new(), talk: Vec::new(), buffer: vec![0; 64 << 10] })
    }

    /// Whether the child can still say something.
    fn are_open(&self) -> bool {
        self.stdout.is_some() || self.stderr.is_some()
    }

    /// Waits for a pipe that is ready, at most this long, and serves all that are.
    fn serve(&mut self, most: Duration, output_bytes: u64) -> io::Result<()> {
        let time =
            Timespec { tv_sec: i64::try_from(most.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(most.subsec_nanos()) };
        let fds = [
            (self.stdin.as_ref().map(AsFd::as_fd), PollFlags::OUT),
            (self.stdout.as_ref().map(AsFd::as_fd), PollFlags::IN),
            (self.stderr.as_ref().map(AsFd::as_fd), PollFlags::IN),
        ];
        let waited = fds.into_iter().filter_map(|(fd, flags)| Some(PollFd::from_borrowed_fd(fd?, flags)));
        let mut waited: Vec<PollFd<'_>> = waited.collect();
        match poll(&mut waited, Some(&time)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        self.write();
        let room = output_bytes.saturating_sub(self.output.len() as u64).saturating_add(1);
        let room = usize::try_from(room).unwrap_or(usize::MAX).min(self.buffer.len());
        if let Some(length) = read(&mut self.stdout, &mut self.buffer[..room]) {
            self.output.extend_from_slice(&self.buffer[..length]);
        }
        if let Some(length) = read(&mut self.stderr, &mut self.buffer) {
            self.talk.extend_from_slice(&self.buffer[..length]);
            let old = self.talk.len().saturating_sub(KEPT_TALK);
            self.talk.drain(..old);
        }
        Ok(())
    }

    /// Writes what the child takes; closes its input when all is written, or when it does not listen.
    fn write(&mut self) {
        let Some(stdin) = &mut self.stdin else { return };
        while let Some(part) = self.input.iter_mut().find(|part| !part.is_empty()) {
            match stdin.write(part) {
                Ok(length) => *part = &part[length..],
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(_) => break,
            }
        }
        self.stdin = None;
    }
}

/// Reads once; closes the pipe at its end.
fn read<R: Read>(pipe: &mut Option<R>, buffer: &mut [u8]) -> Option<usize> {
    match pipe.as_mut()?.read(buffer) {
        Ok(length) if length > 0 => Some(length),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => None,
        _ => {
            *pipe = None;
            None
        }
    }
}
