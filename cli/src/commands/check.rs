//! `artel check SPEC`: every problem of a spec at once, the spec with every default filled in, and what a run will do.

use super::spec::SpecArgs;
use crate::failure::Failure;
use crate::output;

/// Check a spec: every problem at once, the effective spec, and what a run of it will do
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
}

/// Prints the effective spec.
pub fn run(args: Args) -> Result<(), Failure> {
    let loaded = args.spec.load_aloud(None)?;
    let text = loaded.spec.effective_toml()?;
    output::data(text.trim_end())
}
