//! The object store of a run: `file:`, `s3://`, `gs://`, `az://`, behind one thin layer.
//!
//! Every request has a deadline and bounded retries; a conditional put whose answer was lost is looked up and recognised by its bytes.
//! Credentials come from the environment alone and never show in an error.

mod failure;
mod files;
mod patience;
mod probe;
mod remote;
#[cfg(test)]
mod tests;
mod url;

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutPayload};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::records::ObjectRef;
use patience::Tries;

pub use self::failure::redact;
pub use self::patience::LONG as LONG_PATIENCE;
pub use self::probe::Probed;
pub use self::url::{absolute_url, local_folder};

/// Requests of this size and more are cut into parts, so that no single one outlasts its deadline on a slow line.
const PART_BYTES: usize = 8 << 20;
/// How often a create that met a conflict without an object is tried again.
const MAX_CONFLICTS: u32 = 8;

/// What a conditional create came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object is ours.
    New,
    /// Another object was there already, and stays.
    Exists,
}

/// An object that a listing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key below the store URL.
    pub key: String,
    /// Its size.
    pub bytes: u64,
}

/// A prefix of an object store; cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    prefix: Path,
    url: String,
    folder: Option<PathBuf>,
    patience: Duration,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.url).finish()
    }
}

impl Store {
    /// Opens a URL (`file:PATH`, `s3://BUCKET/PREFIX`, ...) or a plain folder, relative to the current one. A folder need
    /// not exist yet: the first write makes it. Credentials come from the environment alone.
    ///
    /// # Errors
    /// A URL of an unknown kind, or settings that the environment lacks.
    pub fn open(url: &str) -> Result<Self> {
        match self::url::parse_folder(url)? {
            Some(folder) => Self::open_folder(&folder),
            None => Self::open_remote(url),
        }
    }

    fn open_folder(folder: &FilePath) -> Result<Self> {
        let folder = self::url::resolve(folder)?;
        let inner = object_store::local::LocalFileSystem::new().with_fsync(true);
        let url = self::url::folder_url(&folder)?;
        let prefix = Path::from_absolute_path(&folder).map_err(|e| Error::Store(format!("{url}: not usable as a store: {e}")))?;
        Ok(Self { inner: Arc::new(inner), prefix, url, folder: Some(folder), patience: patience::SHORT })
    }

    fn open_remote(url: &str) -> Result<Self> {
        let (inner, prefix) = remote::open(url)?;
        Ok(Self { inner, prefix, url: url.trim_end_matches('/').to_owned(), folder: None, patience: patience::SHORT })
    }

    /// The URL, absolute.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The folder, where the store is one.
    pub fn folder(&self) -> Option<&FilePath> {
        self.folder.as_deref()
    }

    fn path(&self, key: &str) -> Result<Path> {
        let whole = if self.prefix.as_ref().is_empty() { key.to_owned() } else { format!("{}/{key}", self.prefix) };
        Path::parse(whole).map_err(|e| Error::Store(format!("{key:?} cannot be a name in {}: {e}", self.url)))
    }

    fn fail(&self, verb: &str, key: &str, error: &object_store::Error) -> Error {
        failure::explain(verb, key, &self.url, self.folder(), error)
    }

    /// Reads an object.
    ///
    /// # Errors
    /// It is missing, or the store does not answer.
    pub async fn get(&self, key: &str) -> Result<Bytes> {
        self.get_opt(key).await?.ok_or_else(|| self.missing(key))
    }

    fn missing(&self, key: &str) -> Error {
        Error::Store(format!("{key} is not in {}; restore it, or name another store", self.url))
    }

    /// Reads an object that may be missing.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn get_opt(&self, key: &str) -> Result<Option<Bytes>> {
        let path = self.path(key)?;
        match self.retried("read", key, || self.get_whole(&path)).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.fail("read", key, &e)),
        }
    }

    async fn get_whole(&self, path: &Path) -> object_store::Result<Bytes> {
        let found = self.inner.get(path).await?;
        if self.folder.is_some() || found.meta.size <= 2 * PART_BYTES as u64 {
            return found.bytes().await;
        }
        let mut whole = Vec::with_capacity(found.meta.size as usize);
        let parts = self.parts(path.clone(), found.meta.size);
        futures::pin_mut!(parts);
        while let Some(part) = parts.try_next().await? {
            whole.extend_from_slice(&part);
        }
        Ok(whole.into())
    }

    /// Reads an object and checks its digest.
    ///
    /// # Errors
    /// It is missing, or not the object that was named.
    pub async fn get_verified(&self, object: &ObjectRef) -> Result<Bytes> {
        let bytes = self.get_opt(&object.key).await?;
        let bytes = bytes.ok_or_else(|| {
            Error::Damaged(format!("{} is missing from {}; restore it, or start afresh in another store", object.key, self.url))
        })?;
        self.verify(object, &Digest::of(&bytes))?;
        Ok(bytes)
    }

    fn verify(&self, object: &ObjectRef, found: &Digest) -> Result<()> {
        if *found == object.sha256 {
            return Ok(());
        }
        let (key, is, should) = (&object.key, found.short(), object.sha256.short());
        Err(Error::Damaged(format!(
            "{key} in {} is damaged: its SHA-256 is {is}, its manifest says {should}; restore it or start afresh in another store",
            self.url
        )))
    }

    /// Writes an object, over an equal or older one of that key.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<ObjectRef> {
        let object = ObjectRef { key: key.to_owned(), bytes: bytes.len() as u64, sha256: Digest::of(&bytes) };
        let path = self.path(key)?;
        let put = self.retried("write", key, || self.put_whole(&path, bytes.clone())).await;
        put.map_err(|e| self.fail("write", key, &e))?;
        Ok(object)
    }

    async fn put_whole(&self, path: &Path, bytes: Bytes) -> object_store::Result<()> {
        if self.folder.is_none() && bytes.len() > 2 * PART_BYTES {
            return self.put_parts(path, bytes).await;
        }
        self.inner.put(path, PutPayload::from_bytes(bytes)).await.map(|_| ())
    }

    /// Writes an object only if there is none of that key. A try whose answer was lost may have written it: an object of these very bytes
    /// is ours, so bytes that tell writers apart (a writer's id in them) tell who won.
    ///
    /// # Errors
    /// The store refuses for another reason than that the object exists.
    pub async fn create(&self, key: &str, bytes: Bytes) -> Result<Created> {
        let path = self.path(key)?;
        let mut tries = Tries::new(self, "create", key);
        let mut conflicts = 0;
        while conflicts <= MAX_CONFLICTS {
            let payload = PutPayload::from_bytes(bytes.clone());
            match self.inner.put_opts(&path, payload, PutMode::Create.into()).await {
                Ok(_) => return Ok(Created::New),
                Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {}
                Err(e) => {
                    tries.wait(e).await.map_err(|e| self.fail("create", key, &e))?;
                    continue;
                }
            }
            // S3 answers 409 both for "there is one" and for "two writers met, try again": look which it was.
            match self.get_opt(key).await? {
                Some(found) if found == bytes => return Ok(Created::New),
                Some(_) => return Ok(Created::Exists),
                None => tokio::time::sleep(Duration::from_millis(50 << conflicts)).await,
            }
            conflicts += 1;
        }
        Err(Error::Store(format!(
            "cannot create {key} in {}: other writers were in the way {MAX_CONFLICTS} times; run it again",
            self.url
        )))
    }

    /// Deletes an object; one that is not there is no error.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn delete(&self, key: &str) -> Result<()> {
        let path = self.path(key)?;
        match self.retried("delete", key, || self.inner.delete(&path)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.fail("delete", key, &e)),
        }
    }

    /// Removes the folder of a key where the store is one and nothing is left in it; buckets have no folders.
    pub fn remove_empty_folder(&self, key: &str) {
        if let Some(folder) = self.folder().map(|folder| folder.join(key)).as_deref().and_then(FilePath::parent) {
            // one that is not empty, or gone, stays as it is
            let _ = std::fs::remove_dir(folder);
        }
    }

    /// Reads a JSON record that may be missing.
    ///
    /// # Errors
    /// The store does not answer, or the record is not one.
    pub async fn get_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let Some(bytes) = self.get_opt(key).await? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::Store(format!("{key} in {} is not readable: {e}", self.url)))
    }

    /// Reads a JSON record that a manifest names, and checks its digest.
    ///
    /// # Errors
    /// It is missing or damaged, or the record is not one.
    pub async fn get_json_verified<T: DeserializeOwned>(&self, object: &ObjectRef) -> Result<T> {
        let bytes = self.get_verified(object).await?;
        serde_json::from_slice(&bytes).map_err(|e| Error::Damaged(format!("{} in {} is not readable: {e}", object.key, self.url)))
    }

    /// Writes a JSON record.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn put_json<T: Serialize>(&self, key: &str, value: &T) -> Result<ObjectRef> {
        self.put(key, json_bytes(value)?).await
    }

    /// Writes a JSON record only if there is none of that key.
    ///
    /// # Errors
    /// As [`Store::create`].
    pub async fn create_json<T: Serialize>(&self, key: &str, value: &T) -> Result<Created> {
        self.create(key, json_bytes(value)?).await
    }

    /// Keys below this store, relative to it: for copying a folder in, never to find the newest of anything.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn list(&self) -> Result<Vec<String>> {
        Ok(self.list_prefix("").await?.into_iter().map(|listed| listed.key).collect())
    }

    /// Whether an object's key lies below `prefix` (a folder of keys).
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn has_any(&self, prefix: &str) -> Result<bool> {
        let below = self.path(prefix.trim_end_matches('/'))?;
        let first = || async { self.inner.list(Some(&below)).try_next().await };
        match self.retried("list", prefix, first).await {
            Ok(first) => Ok(first.is_some()),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(e) => Err(self.fail("list", prefix, &e)),
        }
    }

    /// Objects whose keys lie below `prefix` (a folder of keys; empty is all), sorted by key, with their sizes.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn list_prefix(&self, prefix: &str) -> Result<Vec<Listed>> {
        let below = if prefix.is_empty() { self.prefix.clone() } else { self.path(prefix.trim_end_matches('/'))? };
        let found: Vec<_> = match self.retried("list", prefix, || self.inner.list(Some(&below)).try_collect()).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => Vec::new(),
            Err(e) => return Err(self.fail("list", if prefix.is_empty() { "the objects" } else { prefix }, &e)),
        };
        let skip = if self.prefix.as_ref().is_empty() { 0 } else { self.prefix.as_ref().len() + 1 };
        let listed = |meta: object_store::ObjectMeta| {
            let key = meta.location.as_ref().get(skip..).filter(|key| !key.is_empty())?.to_owned();
            Some(Listed { key, bytes: meta.size })
        };
        let mut listed: Vec<_> = found.into_iter().filter_map(listed).collect();
        listed.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(listed)
    }
}

fn json_bytes<T: Serialize>(value: &T) -> Result<Bytes> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|e| Error::Internal(format!("cannot write a record: {e}")))?;
    bytes.push(b'\n');
    Ok(Bytes::from(bytes))
}
