//! stdout is data, stderr is talk. A reader that went away is no error: what nobody reads is not written.

use std::io::{ErrorKind, Write as _};

use artel_common::exit::Exit;

use crate::failure::Failure;
use crate::text::printable;

/// Writes a line of data to stdout and flushes it.
///
/// # Errors
/// stdout cannot be written, for another reason than that its reader is gone.
pub fn data(line: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Data, format!("cannot write to standard output: {e}")))
        }
        _ => Ok(()),
    }
}

/// Writes a line of talk to stderr; control characters that came with data are shown, not obeyed.
pub fn talk(line: &str) {
    let mut stderr = std::io::stderr().lock();
    // in one piece, or lines of processes that share it run into each other; nothing is left to tell a reader who closed stderr
    let _unheard = stderr.write_all(format!("{}\n", printable(line)).as_bytes()).and_then(|()| stderr.flush());
}
