//! The Hugging Face hub, through its cache: `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME`, `HF_HUB_OFFLINE`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use artel_common::records::ObjectRef;
use artel_common::{Error, Result};
use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};
use hf_hub::{HFClient, HFError, HFRepository, RepoTypeModel};

/// A download that moves no byte for so long is given up.
const STALL: Duration = Duration::from_secs(60);
/// How often a download is looked at.
const TICK: Duration = Duration::from_millis(200);
/// How long asking whether a file exists may take.
const QUESTION: Duration = Duration::from_secs(20);

/// A model repository of the hub.
pub struct Hub {
    id: String,
    revision: Option<String>,
    /// Where a folder of that name was looked for first.
    folder: PathBuf,
    endpoint: String,
    repository: HFRepository<RepoTypeModel>,
    offline: bool,
    /// The cache's folder of one commit: all files must come from it.
    snapshot: Option<PathBuf>,
}

/// Bytes done and in all of the file that is on its way.
#[derive(Default)]
struct Meter {
    done: AtomicU64,
    total: AtomicU64,
}

impl ProgressHandler for Meter {
    fn on_progress(&self, event: &ProgressEvent) {
        let ProgressEvent::Download(event) = event else { return };
        match event {
            DownloadEvent::Start { total_bytes, .. } => self.total.store(*total_bytes, Ordering::Relaxed),
            DownloadEvent::Progress { files } => {
                files.iter().for_each(|file| self.done.store(file.bytes_completed, Ordering::Relaxed));
            }
            DownloadEvent::AggregateProgress { bytes_completed, .. } => self.done.store(*bytes_completed, Ordering::Relaxed),
            DownloadEvent::Complete => {}
        }
    }
}

/// Whether a text has the form of a model's id on the hub: `NAME` or `OWNER/NAME`.
pub fn is_id(text: &str) -> bool {
    let part = |part: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        part.chars().all(inner) && ends(part.chars().next()) && ends(part.chars().last())
    };
    text.len() <= 96 && text.split('/').count() <= 2 && text.split('/').all(part) && !text.contains("..") && !text.contains("--")
}

impl Hub {
    /// The repository of this id, by the environment's settings.
    pub fn new(id: &str, revision: Option<&str>, folder: &Path) -> Result<Self> {
        let client = HFClient::builder().retry_max_attempts(4).build();
        let client =
            client.map_err(|e| Error::Model(format!("model.base: cannot reach the Hugging Face hub: {e}; check HF_ENDPOINT")))?;
        let (owner, name) = hf_hub::split_id(id);
        let offline = std::env::var("HF_HUB_OFFLINE")
            .is_ok_and(|value| ["1", "true", "yes", "on"].contains(&value.to_lowercase().as_str()));
        Ok(Self {
            id: id.to_owned(),
            revision: revision.map(str::to_owned),
            folder: folder.to_path_buf(),
            endpoint: client.endpoint().to_owned(),
            repository: client.model(owner, name),
            offline,
            snapshot: None,
        })
    }

    /// `OWNER/NAME`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether the repository has a file; where nobody can say, it has none.
    pub async fn has(&self, path: &str) -> Result<bool> {
        let question = self.repository.file_exists().filename(path).maybe_revision(self.revision.as_deref()).send();
        Ok(!self.offline && matches!(tokio::time::timeout(QUESTION, question).await, Ok(Ok(true))))
    }

    /// The file in the cache, fetched if it is not there; `None` if the repository has none of that path.
    pub async fn fetch(&mut self, path: &str, moved: &(dyn Fn(u64, u64) + Send + Sync)) -> Result<Option<PathBuf>> {
        let meter = Arc::new(Meter::default());
        let progress = hf_hub::progress::Progress::from(meter.clone());
        let download = self.repository.download_file().filename(path).maybe_revision(self.revision.clone());
        let download = download.local_files_only(self.offline).progress(progress).send();
        let file = match self.watch(download, &meter, path, moved).await? {
            Ok(file) => file,
            Err(HFError::EntryNotFound { .. }) if path != "config.json" => return Ok(None),
            Err(HFError::LocalEntryNotFound { .. }) if path != "config.json" => return Ok(None),
            Err(e) => return Err(self.explain(path, &e).await),
        };
        self.check_size(path, &file, meter.total.load(Ordering::Relaxed))?;
        self.check_commit(path, &file)?;
        Ok(Some(file))
    }

    /// Waits for a download as long as it moves.
    async fn watch(
        &self,
        download: impl Future<Output = hf_hub::HFResult<PathBuf>>,
        meter: &Meter,
        path: &str,
        moved: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<hf_hub::HFResult<PathBuf>> {
        let mut download = std::pin::pin!(download);
        let (mut last, mut since) = (0, artel_common::clock::now());
        loop {
            let waited = tokio::time::timeout(TICK, &mut download).await;
            let done = meter.done.load(Ordering::Relaxed);
            moved(done, meter.total.load(Ordering::Relaxed));
            if let Ok(result) = waited {
                return Ok(result);
            }
            if done != last {
                (last, since) = (done, artel_common::clock::now());
            } else if artel_common::clock::now() - since > STALL {
                return Err(self
                    .refuse(format_args!("{path}: no byte came for {} s; check the network and run it again", STALL.as_secs())));
            }
        }
    }

    fn refuse(&self, what: impl std::fmt::Display) -> Error {
        Error::Model(format!("the model {} of {}: {what}", self.id, self.endpoint))
    }

    /// An answer that is not the file must not stay in the cache, which others read too.
    fn check_size(&self, path: &str, file: &Path, expected: u64) -> Result<()> {
        let found = std::fs::metadata(file).map_err(|e| Error::io(file, e))?.len();
        if expected == 0 || found == expected {
            return Ok(());
        }
        evict(file);
        Err(self.refuse(format_args!("{path} has {expected} bytes, but {found} came; run it again")))
    }

    /// All files must be of one commit.
    fn check_commit(&mut self, path: &str, file: &Path) -> Result<()> {
        let depth = path.split('/').count();
        let snapshot = file.ancestors().nth(depth).unwrap_or(file).to_path_buf();
        match &self.snapshot {
            Some(first) if *first != snapshot => Err(self.refuse("it was changed while it was fetched; run it again")),
            _ => {
                self.snapshot = Some(snapshot);
                Ok(())
            }
        }
    }

    /// Checks a large file against its name in the cache, which is its SHA-256.
    pub fn verify(&self, path: &str, file: &Path, object: &ObjectRef) -> Result<()> {
        let link = std::fs::read_link(file).ok();
        let name = link.as_deref().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
        let is_digest = name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_digest || name == object.sha256.as_str() {
            return Ok(());
        }
        evict(file);
        Err(self.refuse(format_args!(
            "{path} is damaged: its SHA-256 is {}, not {}; run it again",
            object.sha256.short(),
            &name[..12]
        )))
    }

    /// What a refusal of the hub means to the person who has to act.
    async fn explain(&self, path: &str, error: &HFError) -> Error {
        let id = &self.id;
        let has_token = std::env::var("HF_TOKEN").is_ok_and(|token| !token.is_empty());
        match error {
            HFError::LocalEntryNotFound { .. } => self.refuse(format_args!(
                "{path} is not in the cache, and HF_HUB_OFFLINE is set; fetch the model once without it, or name a folder"
            )),
            HFError::EntryNotFound { .. } | HFError::RepoNotFound { .. } | HFError::RevisionNotFound { .. } => {
                self.absent(path).await
            }
            _ => match status_of(error) {
                Some(401) if has_token => {
                    self.refuse("access is refused (401): HF_TOKEN is not valid there, or the name is wrong")
                }
                Some(401) => self.refuse("access is refused (401): the name is wrong, or the model is private; set HF_TOKEN"),
                Some(403) => self.refuse(format_args!(
                    "access is refused (403): accept the model's terms at {}/{id}, or set the HF_TOKEN of one who did",
                    self.endpoint
                )),
                Some(429) => self.refuse("the hub has had too many requests (429); wait a while, or set HF_TOKEN"),
                Some(status) => self.refuse(format_args!("the hub answered {status} for {path}; run it again later")),
                None => self.refuse(format_args!(
                    "cannot fetch {path}: {}; check the network and HF_ENDPOINT, or name a folder",
                    plain(error)
                )),
            },
        }
    }

    /// There is no `config.json`: is there no model, no such revision, or no such file.
    async fn absent(&self, path: &str) -> Error {
        let exists = tokio::time::timeout(QUESTION, self.repository.exists().send()).await;
        if matches!(exists, Ok(Ok(false))) {
            let hint =
                if self.id.contains('/') { String::new() } else { format!("; did you mean sentence-transformers/{}", self.id) };
            let folder = self.folder.display();
            return self.refuse(format_args!("there is no such model, and no folder {folder} either{hint}"));
        }
        if let Some(revision) = &self.revision {
            let known = self.repository.revision_exists().revision(revision).send();
            if matches!(tokio::time::timeout(QUESTION, known).await, Ok(Ok(false))) {
                return self.refuse(format_args!("it has no revision {revision:?}"));
            }
        }
        self.refuse(format_args!("it has no {path}: this is not a model that transformers saved"))
    }
}

/// Takes a file out of the cache: the link, and what it points to.
fn evict(file: &Path) {
    if let Ok(blob) = file.canonicalize() {
        let _ = std::fs::remove_file(blob);
    }
    let _ = std::fs::remove_file(file);
}

fn status_of(error: &HFError) -> Option<u16> {
    match error {
        HFError::Http { context }
        | HFError::AuthRequired { context }
        | HFError::Forbidden { context }
        | HFError::RateLimited { context, .. }
        | HFError::Conflict { context } => Some(context.status.as_u16()),
        _ => None,
    }
}

/// The error and its causes on one line, without the token.
fn plain(error: &HFError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let next = inner.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        source = inner.source();
    }
    artel_common::store::redact(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}
