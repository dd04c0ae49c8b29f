//! Where a model comes from: each kind gives a file by its path within the model, or says that there is none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use artel_common::records::ObjectRef;
use artel_common::store::Store;
use artel_common::{Error, Result};
use tempfile::TempDir;

use super::hub::Hub;

/// A source of model files.
pub enum Origin {
    /// A folder of this machine.
    Folder {
        /// Which.
        folder: PathBuf,
        /// What the user called it.
        name: String,
    },
    /// A prefix of a bucket.
    Bucket {
        /// Which.
        store: Store,
        /// Its objects and their sizes, once they are known.
        listing: Option<BTreeMap<String, u64>>,
        /// Where files go on their way.
        scratch: TempDir,
    },
    /// A repository of the Hugging Face hub.
    Hub(Box<Hub>),
}

impl Origin {
    /// A folder; `name` is what the user called it.
    pub fn folder(folder: &Path, name: &str) -> Result<Self> {
        if !folder.is_dir() {
            return Err(Error::Model(format!(
                "model.base: {} is a file and no model folder; name the folder that it lies in",
                folder.display()
            )));
        }
        Ok(Self::Folder { folder: folder.to_path_buf(), name: name.to_owned() })
    }

    /// A prefix of a bucket.
    pub fn bucket(url: &str) -> Result<Self> {
        let store = Store::open(url).map_err(|e| Error::Model(format!("model.base: {e}")))?;
        Ok(Self::Bucket { store, listing: None, scratch: scratch()? })
    }

    /// A repository of the hub; `folder` is where a folder of that name was looked for.
    pub fn hub(id: &str, revision: Option<&str>, folder: &Path) -> Result<Self> {
        Hub::new(id, revision, folder).map(|hub| Self::Hub(Box::new(hub)))
    }

    /// What the user called it.
    pub fn name(&self) -> &str {
        match self {
            Self::Folder { name, .. } => name,
            Self::Bucket { store, .. } => store.url(),
            Self::Hub(hub) => hub.id(),
        }
    }

    /// Whether its files are read where they lie.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Folder { .. })
    }

    /// Whether it has this file.
    pub async fn has(&mut self, path: &str) -> Result<bool> {
        match self {
            Self::Folder { folder, .. } => Ok(folder.join(path).is_file()),
            Self::Bucket { store, listing, .. } => Ok(listed(store, listing).await?.contains_key(path)),
            Self::Hub(hub) => hub.has(path).await,
        }
    }

    /// The file on this machine, or `None` if the model has none of that path. `moved` is told of bytes done and in all.
    pub async fn fetch(&mut self, path: &str, moved: &(dyn Fn(u64, u64) + Send + Sync)) -> Result<Option<PathBuf>> {
        match self {
            Self::Folder { folder, .. } => local_file(&folder.join(path)),
            Self::Bucket { store, listing, scratch } => {
                let Some(size) = listed(store, listing).await?.get(path).copied() else { return Ok(None) };
                let file = scratch.path().join(path);
                let parent = file.parent().unwrap_or(scratch.path());
                tokio::fs::create_dir_all(parent).await.map_err(|e| Error::io(parent, e))?;
                let done = std::sync::atomic::AtomicU64::new(0);
                let tell = |bytes| moved(done.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed) + bytes, size);
                store.fetch_file(path, &file, &tell).await?;
                Ok(Some(file))
            }
            Self::Hub(hub) => hub.fetch(path, moved).await,
        }
    }

    /// Checks a file that was read whole against what its source says of it.
    pub fn verify(&self, path: &str, file: &Path, object: &ObjectRef) -> Result<()> {
        match self {
            Self::Hub(hub) => hub.verify(path, file, object),
            _ => Ok(()),
        }
    }
}

/// Links are followed, as in the hub's cache, where every file is one; only what is a file at their end is read.
fn local_file(path: &Path) -> Result<Option<PathBuf>> {
    match std::fs::metadata(path) {
        Ok(about) if about.is_file() => Ok(Some(path.to_path_buf())),
        Ok(_) => Err(Error::Model(format!("{} is not a file", path.display()))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && path.is_symlink() => {
            Err(Error::Model(format!("{} is a link to nothing; complete the model folder", path.display())))
        }
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(Error::io(path, e)),
    }
}

async fn listed<'a>(store: &Store, listing: &'a mut Option<BTreeMap<String, u64>>) -> Result<&'a BTreeMap<String, u64>> {
    if listing.is_none() {
        let found: BTreeMap<_, _> = store.list_prefix("").await?.into_iter().map(|listed| (listed.key, listed.bytes)).collect();
        if found.is_empty() {
            return Err(Error::Model(format!(
                "model.base: there is nothing at {}; check the bucket and the prefix",
                store.url()
            )));
        }
        *listing = Some(found);
    }
    Ok(listing.get_or_insert_default())
}

fn scratch() -> Result<TempDir> {
    tempfile::Builder::new().prefix("artel-model-").tempdir().map_err(|e| Error::io(std::env::temp_dir(), e))
}
