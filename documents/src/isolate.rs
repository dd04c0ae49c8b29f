//! Reading a document in a child process, so that whatever is in it costs that document alone.
//!
//! The parent starts a program (`artel parse`), writes one line of JSON and then the document's bytes to its standard input, and reads
//! one line of JSON from its standard output. The child lays the limits on itself before it looks at the document: it is trusted until
//! then. It leads a process group of its own, which is killed when it is done, so that programs which it started end with it, and
//! the kernel kills it when its parent dies. No thread is started and nothing waits without a deadline.

mod child;
mod verdict;
mod watch;

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::element::Document;
use crate::format::unreadable;
use crate::read::{ReadOptions, Reason, Unreadable};

pub use child::{child_main, child_main_with};

/// Environment variables that the child sees. Others, keys among them, are none of its business.
pub const KEPT_VARIABLES: [&str; 12] = [
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "TESSDATA_PREFIX",
    "OMP_THREAD_LIMIT",
    "ARTEL_PDFIUM",
    "ARTEL_TESSERACT",
    "LLVM_PROFILE_FILE",
];

/// What reading one document may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Address space of the child beyond what it has when it starts, and all of that of each program that it starts.
    pub memory_bytes: u64,
    /// Seconds of the clock for all, and of processor time for each process.
    pub seconds: u64,
    /// Bytes of the answer.
    pub output_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_bytes: 2 << 30, seconds: 300, output_bytes: 256 << 20 }
    }
}

/// A document that is to be read.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// All of its bytes; the child gets them by its standard input.
    Bytes(&'a [u8]),
    /// A file, which the child opens.
    Path(&'a Path),
}

/// The first line that the child reads.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    /// Of the document.
    name: String,
    options: ReadOptions,
    limits: Limits,
    /// Who asks: if the child has another parent, that one is dead.
    parent: u32,
    /// The file to open, if the bytes do not follow.
    path: Option<String>,
    /// How many bytes follow this line.
    num_bytes: u64,
}

/// The line that the child writes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Document(Document),
    Unreadable(Unreadable),
}

/// Reads a document in a child process: `program arguments...` must end in [`child_main`]. `name` tells the format, as in
/// [`crate::format::read`]. Blocks the calling thread, at most little more than `limits.seconds`.
///
/// # Errors
/// What the reader says; `Limit` if it took too much memory, time or output, `Broken` if it crashed, both with its last words.
pub fn read_isolated(
    program: &Path,
    arguments: &[&str],
    input: Input<'_>,
    name: &str,
    options: &ReadOptions,
    limits: &Limits,
) -> Result<Document, Unreadable> {
    let owned;
    let (path, bytes) = match input {
        Input::Bytes(bytes) => (None, bytes),
        Input::Path(path) => match path.to_str() {
            Some(path) => (Some(path.to_owned()), &b""[..]),
            // JSON has no word for such a path.
            None => {
                owned = std::fs::read(path).map_err(|e| unreadable(Reason::Missing, format!("{name} cannot be opened: {e}")))?;
                (None, owned.as_slice())
            }
        },
    };
    let order = Order {
        name: name.to_owned(),
        options: options.clone(),
        limits: limits.clone(),
        parent: std::process::id(),
        path,
        num_bytes: bytes.len() as u64,
    };
    let watched = serde_json::to_vec(&order).map_err(io::Error::from).and_then(|mut line| {
        line.push(b'\n');
        let child = spawn(program, arguments)?;
        watch::watch(child, [&line, bytes], Duration::from_secs(limits.seconds), limits.output_bytes)
    });
    match watched {
        Ok(watched) => verdict::verdict(&watched, name, limits),
        Err(e) => {
            let message = format!(
                "{} cannot be started to read {name}: {e}; see whether the machine has processes and memory left",
                program.display()
            );
            Err(unreadable(Reason::Limit, message))
        }
    }
}

fn spawn(program: &Path, arguments: &[&str]) -> io::Result<std::process::Child> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env_clear().envs(KEPT_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.process_group(0).spawn()
}
