//! A GPU: whether it opens, and whether it computes what the CPU does.

use std::sync::Arc;

use artel_common::exit::Exit;
use artel_trainer::gpu::{self, Precision, check};
use artel_trainer::nccl;
use serde::Serialize;

use super::machine::rounded;
use crate::failure::Failure;
use crate::output;

/// What the first GPU came to.
#[derive(Debug, Serialize)]
pub struct GpuCheck {
    /// Its name and kind, where it opens.
    pub device: Option<String>,
    /// NCCL's version; else why it cannot be used, which matters to several GPUs alone.
    pub nccl: Result<String, String>,
    /// Each comparison with the CPU.
    pub checks: Vec<Check>,
    /// Why it is of no use.
    pub error: Option<String>,
    /// The exit code that says so.
    #[serde(skip)]
    pub exit: Exit,
}

/// A comparison with the CPU.
#[derive(Debug, Serialize)]
pub struct Check {
    pub name: String,
    pub found: String,
    pub passed: bool,
    pub seconds: f64,
}

impl GpuCheck {
    /// Opens the first GPU and compares it with the CPU, for some seconds.
    pub fn examine() -> Self {
        let library = nccl::Library::load();
        let nccl = library.as_ref().map(|library| library.version()).map_err(ToString::to_string);
        let of = |device, checks, error, exit| Self { device, nccl, checks, error, exit };
        let gpu = match gpu::open(0, Precision::Bf16) {
            Ok(gpu) => Arc::new(gpu),
            Err(error) => {
                let Failure { message, exit } = error.into();
                return of(None, Vec::new(), message, exit);
            }
        };
        let mut checks: Vec<Check> = check::checks(&gpu).map(said).collect();
        for precision in [Precision::Tf32, Precision::F32] {
            match gpu::open(0, precision) {
                Ok(gpu) => checks.extend(check::checks(&Arc::new(gpu)).map(said)),
                Err(error) => return of(Some(gpu.backend().describe()), checks, Some(error.to_string()), Exit::Internal),
            }
        }
        if let Ok(library) = library {
            let all: Vec<usize> = (0..gpu::count()).collect();
            checks.push(said(check::check_exchanges(&library, &all)));
        }
        let failed = checks.iter().filter(|check| !check.passed).count();
        let error = (failed > 0).then(|| {
            format!("{failed} of {} comparisons of the GPU with the CPU failed; do not train on it: report them with `artel doctor --gpu --json`", checks.len())
        });
        let exit = if failed > 0 { Exit::Internal } else { Exit::Done };
        of(Some(gpu.backend().describe()), checks, error, exit)
    }
}

/// Tells of a comparison as it is made.
fn said(check: check::Check) -> Check {
    output::talk(&format!("{}: {}", check.name, if check.passed { "passed" } else { "FAILED" }));
    Check { name: check.name, found: check.found, passed: check.passed, seconds: rounded(check.took.as_secs_f64()) }
}
