//! The same program as `artel`, built beside the tests so that they always run the current one; and it can be made to die at a named point.
//!
//! `ARTEL_DIE_AT=NAME` or `NAME:COUNT` kills the process with SIGKILL when it passes that fail point (for the COUNTth time). Of all processes
//! with the same `ARTEL_DIE_ONCE=FILE` one dies: the one that makes the file.

use std::sync::atomic::{AtomicU64, Ordering};

fn main() -> std::process::ExitCode {
    if let Ok(point) = std::env::var("ARTEL_DIE_AT") {
        let (name, count) = match point.rsplit_once(':').filter(|(name, _)| !name.ends_with(':')) {
            Some((name, count)) => (name.to_owned(), count.parse().expect("ARTEL_DIE_AT=NAME:COUNT")),
            None => (point, 1),
        };
        let passed = AtomicU64::new(0);
        let die = move || {
            if passed.fetch_add(1, Ordering::Relaxed) + 1 >= count && is_chosen() {
                // SAFETY: kill(2) touches no memory of this process
                unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            }
        };
        fail::cfg_callback(name, die).expect("a fail point can be armed");
    }
    artel_cli::main()
}

/// Whether this is the process that dies.
fn is_chosen() -> bool {
    let Some(file) = std::env::var_os("ARTEL_DIE_ONCE") else { return true };
    std::fs::OpenOptions::new().write(true).create_new(true).open(file).is_ok()
}
