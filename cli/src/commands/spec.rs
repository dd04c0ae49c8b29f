//! The spec that a command is about, and what its flags change of it.

use std::path::PathBuf;

use artel_common::spec::LoadedSpec;
use artel_trainer::gpu;

use crate::failure::Failure;
use crate::output;

/// SPEC, and where and by how many it is run.
#[derive(Debug, Clone, clap::Args)]
pub struct SpecArgs {
    /// The run's spec, a TOML file (docs/reference/spec.md)
    #[arg(value_name = "SPEC")]
    pub spec: PathBuf,
    /// Store of the run, instead of the spec's: file:PATH, s3://BUCKET/PREFIX, gs://..., az://...
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
}

impl SpecArgs {
    /// Reads the spec and applies the flags. A device that it leaves open is found by this machine.
    ///
    /// # Errors
    /// Every problem of the spec at once; a flag that does not fit it.
    pub fn load(&self, workers: Option<usize>) -> Result<LoadedSpec, Failure> {
        let mut loaded = LoadedSpec::load(&self.spec, gpu::count)?;
        if let Some(store) = &self.store {
            loaded.spec.override_store(store)?;
        }
        if let Some(workers) = workers {
            loaded.spec.override_workers(workers)?;
        }
        Ok(loaded)
    }

    /// As [`SpecArgs::load`], and says the spec's warnings.
    ///
    /// # Errors
    /// As [`SpecArgs::load`].
    pub fn load_aloud(&self, workers: Option<usize>) -> Result<LoadedSpec, Failure> {
        let loaded = self.load(workers)?;
        for warning in &loaded.warnings {
            output::talk(&format!("warning: {warning}"));
        }
        Ok(loaded)
    }
}

/// A count of workers or threads: at least one.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 is needed".to_owned()),
        Ok(count) => Ok(count),
        Err(_) => Err("not a whole number".to_owned()),
    }
}
