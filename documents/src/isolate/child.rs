//! The child's side: limits on itself, the document, the answer.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, Signal, setrlimit};

use super::{Answer, Limits, Order};
use crate::element::Document;
use crate::format::{self, unreadable};
use crate::read::{ReadOptions, Reason, Unreadable};

/// Bytes of the order.
const LONGEST_ORDER: u64 = 1 << 20;
/// Address space that is granted beside the limit where the system does not tell what the process has.
const UNKNOWN_SPACE: u64 = 1 << 30;

/// What the hidden subcommand does: reads an order and a document from `stdin`, writes the answer to `stdout`.
pub fn child_main(stdin: impl Read, stdout: impl Write) -> ExitCode {
    child_main_with(stdin, stdout, format::read)
}

/// The same with another reader.
pub fn child_main_with(
    stdin: impl Read,
    mut stdout: impl Write,
    read: impl FnOnce(&[u8], &str, &ReadOptions) -> Result<Document, Unreadable>,
) -> ExitCode {
    let mut stdin = BufReader::new(stdin);
    let order = match take_order(&mut stdin) {
        Ok(order) => order,
        Err(e) => return give_up(&format!("no order on standard input ({e}); this is no command for people")),
    };
    if let Err(e) = restrain(&order) {
        return give_up(&format!("the limits cannot be set: {e}"));
    }
    let answer = match load(&order, stdin).and_then(|bytes| read(&bytes, &order.name, &order.options)) {
        Ok(document) => Answer::Document(document),
        Err(unreadable) => Answer::Unreadable(unreadable),
    };
    // A line of its own, whatever a library has printed before.
    let written =
        stdout.write_all(b"\n").map_err(serde_json::Error::io).and_then(|()| serde_json::to_writer(&mut stdout, &answer));
    match written.map_err(io::Error::from).and_then(|()| stdout.write_all(b"\n")).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => give_up(&format!("the answer cannot be written: {e}")),
    }
}

fn give_up(why: &str) -> ExitCode {
    // The parent may be gone, and standard error with it.
    let _ = writeln!(io::stderr(), "{why}");
    ExitCode::FAILURE
}

fn take_order(stdin: &mut impl BufRead) -> io::Result<Order> {
    let mut line = Vec::new();
    stdin.take(LONGEST_ORDER).read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice(&line)?)
}

/// Lays the limits on this process: from here on it may look at the document.
fn restrain(order: &Order) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if parent != Some(order.parent) {
        return Err(io::Error::other("the process that asked is dead"));
    }
    let Limits { memory_bytes, seconds, .. } = order.limits;
    let limit = |current: u64, maximum: u64| Rlimit { current: Some(current), maximum: Some(maximum) };
    setrlimit(Resource::Core, limit(0, 0))?;
    setrlimit(Resource::Cpu, limit(seconds.max(1), seconds.max(1).saturating_add(1)))?;
    let space = address_space().unwrap_or(UNKNOWN_SPACE).saturating_add(memory_bytes);
    setrlimit(Resource::As, limit(space, space))?;
    Ok(())
}

/// Bytes of address space that this process has: the program itself, its libraries, what its allocator has set aside.
fn address_space() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"))?;
    let kibibytes: u64 = size.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

fn load(order: &Order, mut stdin: impl Read) -> Result<Vec<u8>, Unreadable> {
    let name = &order.name;
    let missing = |e: io::Error| unreadable(Reason::Missing, format!("{name} cannot be opened: {e}"));
    let file;
    let num_bytes = match &order.path {
        None => order.num_bytes,
        Some(path) => {
            file = File::open(path).map_err(missing)?;
            let known = file.metadata().map_err(missing)?;
            if !known.is_file() {
                return Err(unreadable(Reason::Missing, format!("{name} is no file")));
            }
            return fill(&file, known.len(), name);
        }
    };
    let bytes = fill(&mut stdin, num_bytes, name)?;
    if bytes.len() as u64 != num_bytes {
        return Err(unreadable(Reason::Missing, format!("only {} of the {num_bytes} bytes of {name} arrived", bytes.len())));
    }
    Ok(bytes)
}

fn fill(mut from: impl Read, num_bytes: u64, name: &str) -> Result<Vec<u8>, Unreadable> {
    let mut bytes = Vec::new();
    let room = usize::try_from(num_bytes).ok().and_then(|room| bytes.try_reserve_exact(room).ok());
    if room.is_none() {
        let message =
            format!("{name} has {num_bytes} bytes, more than may be held in memory; split it or raise the memory limit");
        return Err(unreadable(Reason::Limit, message));
    }
    from.by_ref()
        .take(num_bytes)
        .read_to_end(&mut bytes)
        .map_err(|e| unreadable(Reason::Missing, format!("{name} cannot be read: {e}")))?;
    Ok(bytes)
}
