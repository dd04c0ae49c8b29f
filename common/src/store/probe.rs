//! Whether a store can be written, and conditionally: what a run does first, and what `artel doctor` measures.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::{Created, Store};
use crate::error::{Error, Result};
use crate::{clock, layout};

/// What the first writer of a probe writes.
const FIRST: &[u8] = b"1";
/// What the second one, who must lose, would write.
const SECOND: &[u8] = b"2";

/// How long each request of a probe took, and what ended it early.
#[derive(Debug, Default)]
pub struct Probed {
    /// What was done and went as it should, in order: `create`, `read`, `refuse` (a second create, and the look at what is there), `delete`.
    pub steps: Vec<(&'static str, Duration)>,
    /// Why the store is of no use for a run.
    pub error: Option<Error>,
}

impl Store {
    /// Proves that the store can be written, and conditionally: two creates of one key, the second must lose.
    ///
    /// # Errors
    /// The store refuses writes, or lets the second create win.
    pub async fn probe(&self) -> Result<()> {
        let key = probe_key();
        self.create(&key, Bytes::from_static(FIRST)).await?;
        let second = self.create(&key, Bytes::from_static(SECOND)).await?;
        self.delete(&key).await?;
        // Others may probe at this moment: a folder that is not empty stays.
        self.remove_empty_folder(&key);
        self.must_lose(second)
    }

    /// As [`Store::probe`], with a read between, each request timed. Leaves nothing behind, not even a folder that was not there.
    pub async fn probe_timed(&self) -> Probed {
        let key = probe_key();
        let before = self.folder().and_then(|folder| folder.ancestors().find(|part| part.exists())).map(Path::to_path_buf);
        let mut probed = Probed::default();
        if let Err(error) = self.timed_steps(&key, &mut probed.steps).await {
            probed.error = Some(error);
            // what can be: the error that is told is the first one
            let _ = self.with_patience(Duration::ZERO).delete(&key).await;
        }
        self.remove_folders_down_to(&key, before);
        probed
    }

    async fn timed_steps(&self, key: &str, steps: &mut Vec<(&'static str, Duration)>) -> Result<()> {
        let mut began = clock::now();
        let mut took = |step| {
            let now = clock::now();
            steps.push((step, now - began));
            began = now;
        };
        self.create(key, Bytes::from_static(FIRST)).await?;
        took("create");
        let found = self.get(key).await?;
        if found != FIRST {
            return Err(Error::Store(format!(
                "{} gave other bytes back for {key} than were written; use a store that reads its own writes",
                self.url()
            )));
        }
        took("read");
        let second = self.create(key, Bytes::from_static(SECOND)).await?;
        self.must_lose(second)?;
        took("refuse");
        self.delete(key).await?;
        took("delete");
        Ok(())
    }

    fn must_lose(&self, second: Created) -> Result<()> {
        match second {
            Created::Exists => Ok(()),
            Created::New => Err(Error::Store(format!(
                "{} ignores conditional writes (put-if-absent), so two coordinators could overwrite one another; use a store that honours If-None-Match",
                self.url()
            ))),
        }
    }

    /// Removes the folders that writing this key made, where they are empty again; `before` was there already.
    fn remove_folders_down_to(&self, key: &str, before: Option<PathBuf>) {
        let (Some(folder), Some(before)) = (self.folder(), before) else { return };
        let made = folder.join(key);
        for part in made.ancestors().skip(1).take_while(|part| *part != before) {
            if std::fs::remove_dir(part).is_err() {
                return;
            }
        }
    }
}

/// A key that nobody else has.
fn probe_key() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    format!("{}/{}-{nanos}-{count}", layout::PROBE, std::process::id())
}

#[cfg(test)]
mod tests;
