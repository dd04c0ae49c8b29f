//! The store: whether it can be written, and conditionally, and how long that takes.

use std::time::Duration;

use artel_common::Error;
use artel_common::exit::Exit;
use artel_common::store::{Store, redact};
use serde::Serialize;

use super::machine::rounded;

/// How long a store that does not answer is asked again; a run waits longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a probe of a store came to.
#[derive(Debug, Serialize)]
pub struct StoreCheck {
    pub url: String,
    /// Whether a run can use it.
    pub usable: bool,
    pub latency_ms: Latencies,
    /// Why not, and what to do.
    pub error: Option<String>,
    /// The exit code that says so.
    #[serde(skip)]
    pub exit: Exit,
}

/// Milliseconds of each request that was made and did what it should.
#[derive(Debug, Default, Serialize)]
pub struct Latencies {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub create: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<f64>,
    /// Of a second create, which must lose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refuse: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete: Option<f64>,
}

impl StoreCheck {
    /// Writes, reads, must be refused, deletes; leaves nothing behind.
    pub async fn examine(url: &str) -> Self {
        match Store::open(url) {
            Err(error) => Self::new(redact(url), Latencies::default(), Some(error)),
            Ok(store) => {
                let probed = store.with_patience(PATIENCE).probe_timed().await;
                let ms = |step| {
                    let took = probed.steps.iter().find(|(name, _)| *name == step)?.1;
                    Some(rounded(took.as_secs_f64() * 1e3))
                };
                let latency_ms = Latencies { create: ms("create"), read: ms("read"), refuse: ms("refuse"), delete: ms("delete") };
                Self::new(store.url().to_owned(), latency_ms, probed.error)
            }
        }
    }

    fn new(url: String, latency_ms: Latencies, error: Option<Error>) -> Self {
        let exit = error.as_ref().map_or(Exit::Done, |error| error.kind().into());
        Self { url, usable: error.is_none(), latency_ms, error: error.map(|error| error.to_string()), exit }
    }
}
