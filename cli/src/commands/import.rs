//! `artel import SPEC`: the stages import and split alone, into the store.

use super::spec::SpecArgs;
use crate::failure::Failure;

/// Read the pairs into the store and split them: a run's first two stages alone
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,
}

/// Imports and prints the counts.
pub fn run(args: Args) -> Result<(), Failure> {
    let loaded = args.spec.load_aloud(None)?;
    Err(Failure::internal(format!("{}: no import yet", loaded.spec.run.name)))
}
