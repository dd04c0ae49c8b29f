//! The coordinator and the worker as this program calls them: what is not on hand yet refuses to work.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use artel_common::event::Event;
use artel_common::exit::Exit;
use artel_common::records::Report;
use artel_common::spec::LoadedSpec;
use tokio::sync::{mpsc, watch};

use crate::failure::Failure;

/// What a coordinator is told.
pub struct CoordinatorOptions {
    pub spec: LoadedSpec,
    pub listen: SocketAddr,
    pub supervised: bool,
    pub model_folder: Option<PathBuf>,
}

/// What a worker is told.
pub struct WorkerOptions {
    pub coordinator: String,
    pub threads: Option<usize>,
    pub bind: IpAddr,
    pub name: Option<String>,
    pub supervised: bool,
    pub allow_insecure: bool,
}

/// Why it ended.
pub struct RunError {
    pub message: String,
    pub exit: Exit,
}

pub async fn serve(
    options: CoordinatorOptions,
    _events: mpsc::Sender<Event>,
    _stop: watch::Receiver<bool>,
) -> Result<Report, RunError> {
    let _ = (options.listen, options.supervised, options.model_folder);
    Err(RunError { message: format!("{}: no coordinator yet", options.spec.spec.run.name), exit: Exit::Internal })
}

pub async fn run(options: WorkerOptions, _stop: watch::Receiver<bool>) -> Result<(), RunError> {
    let _ = (options.threads, options.bind, options.name, options.supervised, options.allow_insecure);
    Err(RunError { message: format!("{}: no worker yet", options.coordinator), exit: Exit::Internal })
}

use crate::pairs::RetrievalSet;

/// Embeddings of a retrieval set, `[n, dim]` each.
pub struct Vectors {
    pub queries: Vec<f32>,
    pub documents: Vec<f32>,
    pub dim: usize,
}

/// A model that encodes.
pub struct Embedder;

impl Embedder {
    pub fn open(model: &Path, _max: Option<usize>, _threads: Option<usize>) -> Result<Self, Failure> {
        Err(Failure::internal(format!("{}: cannot encode yet", model.display())))
    }
    pub fn dim(&self) -> usize {
        0
    }
    pub fn encode(&self, _texts: &[&str]) -> Result<Vec<f32>, Failure> {
        Ok(Vec::new())
    }
    pub fn encode_set(&self, set: &RetrievalSet) -> Result<Vectors, Failure> {
        let _ = &set.query_ids;
        Err(Failure::internal("cannot encode yet"))
    }
}
