//! What a child's end says of its document.

use std::os::unix::process::ExitStatusExt;

use rustix::process::Signal;

use super::watch::{End, Watched};
use super::{Answer, Limits};
use crate::element::Document;
use crate::format::unreadable;
use crate::read::{Reason, Unreadable};

/// What allocators and libraries say when there is no memory left.
const OUT_OF_MEMORY: [&str; 5] =
    ["memory allocation of", "bad_alloc", "out of memory", "cannot allocate memory", "failed to allocate"];
/// Characters of the child's last words that a message carries.
const LONGEST_WORDS: usize = 400;

/// The document, or why there is none.
pub(super) fn verdict(watched: &Watched, name: &str, limits: &Limits) -> Result<Document, Unreadable> {
    let seconds = limits.seconds;
    match watched.end {
        End::Late => {
            let message = format!("reading {name} took more than {seconds} s and was stopped; split it or raise the time limit");
            return Err(unreadable(Reason::Limit, message));
        }
        End::Loud => {
            let message =
                format!("what was read of {name} is more than {} bytes; split it or raise the limit", limits.output_bytes);
            return Err(unreadable(Reason::Limit, message));
        }
        End::Own => {}
    }
    match answer(&watched.output) {
        Some(Answer::Unreadable(unreadable)) => Err(unreadable),
        Some(Answer::Document(mut document)) => {
            if !watched.status.success() {
                document.warnings.push(format!("the reader crashed after its work ({})", watched.status));
            }
            Ok(document)
        }
        None => Err(crash(watched, name, limits)),
    }
}

/// The last line of the output, if it is an answer.
fn answer(output: &[u8]) -> Option<Answer> {
    let line = output.split(|byte| *byte == b'\n').rfind(|line| !line.trim_ascii().is_empty())?;
    serde_json::from_slice(line).ok()
}

fn crash(watched: &Watched, name: &str, limits: &Limits) -> Unreadable {
    let talk = String::from_utf8_lossy(&watched.talk);
    let said = last_words(&talk);
    let small = talk.to_lowercase();
    if OUT_OF_MEMORY.iter().any(|words| small.contains(words)) {
        let message =
            format!("reading {name} took more than {} bytes of memory{said}; split it or raise the limit", limits.memory_bytes);
        return unreadable(Reason::Limit, message);
    }
    let Some(signal) = watched.status.signal() else {
        let code = watched.status.code().unwrap_or(-1);
        return unreadable(
            Reason::Broken,
            format!("the reader gave up on {name} with code {code} and no answer{said}; save it anew"),
        );
    };
    if signal == Signal::XCPU.as_raw() {
        let message =
            format!("reading {name} took more than {} s of processor time; split it or raise the time limit", limits.seconds);
        return unreadable(Reason::Limit, message);
    }
    if signal == Signal::KILL.as_raw() {
        let message =
            format!("the reader of {name} was killed from outside, most likely since the machine had no memory left{said}");
        return unreadable(Reason::Limit, message);
    }
    unreadable(Reason::Broken, format!("the reader crashed on {name} with {}{said}; save it anew", signal_name(signal)))
}

/// The child's last three lines, in a form that fits a message; nothing if it said nothing.
fn last_words(talk: &str) -> String {
    let is_note = |line: &&str| line.starts_with("note: ") || line.starts_with("stack backtrace") || line.is_empty();
    let lines: Vec<&str> = talk.lines().map(str::trim).filter(|line| !is_note(line)).collect();
    let words = lines[lines.len().saturating_sub(3)..].join(" / ");
    let shown: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_WORDS).collect();
    if shown.is_empty() { shown } else { format!(" (\"{shown}\")") }
}

fn signal_name(signal: i32) -> String {
    let known = [
        (Signal::SEGV, "SIGSEGV"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::ILL, "SIGILL"),
        (Signal::FPE, "SIGFPE"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::TERM, "SIGTERM"),
        (Signal::SYS, "SIGSYS"),
    ];
    let found = known.iter().find(|(known, _)| known.as_raw() == signal);
    found.map_or_else(|| format!("signal {signal}"), |(_, name)| (*name).to_owned())
}
