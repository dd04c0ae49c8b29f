//! The object store of a run: `file:`, `s3://`, `gs://`, `az://`, behind one thin layer.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutPayload};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::layout;
use crate::records::ObjectRef;
pub use crate::store_url::{absolute_url, local_folder};

/// What a conditional create came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object is ours.
    New,
    /// Another object was there already, and stays.
    Exists,
}

/// A prefix of an object store; cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    prefix: Path,
    url: String,
    folder: Option<PathBuf>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.url).finish()
    }
}

impl Store {
    /// Opens a URL (`file:PATH`, `s3://BUCKET/PREFIX`, ...) or a plain folder. A folder need not exist yet:
    /// the first write makes it. Credentials come from the environment alone.
    ///
    /// # Errors
    /// A URL of an unknown kind, or settings that the environment lacks.
    pub fn open(url: &str) -> Result<Self> {
        match local_folder(url)? {
            Some(folder) => Self::open_folder(&folder),
            None => Self::open_remote(url),
        }
    }

    fn open_folder(folder: &FilePath) -> Result<Self> {
        let folder = std::path::absolute(folder).map_err(|e| Error::io(folder, e))?;
        let inner = object_store::local::LocalFileSystem::new().with_automatic_cleanup(true).with_fsync(true);
        let prefix = Path::from_absolute_path(&folder)
            .map_err(|e| Error::Store(format!("{}: not usable as a store: {e}", folder.display())))?;
        let url = format!("file:{}", folder.display());
        Ok(Self { inner: Arc::new(inner), prefix, url, folder: Some(folder) })
    }

    fn open_remote(url: &str) -> Result<Self> {
        let parsed = url::Url::parse(url).map_err(|e| {
            Error::Store(format!("{url}: not a store URL ({e}); use file:PATH, s3://BUCKET/PREFIX, gs:// or az://"))
        })?;
        let options =
            std::env::vars().filter(|(key, _)| ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|prefix| key.starts_with(prefix)));
        let (inner, prefix) = object_store::parse_url_opts(&parsed, options.map(|(k, v)| (k.to_ascii_lowercase(), v)))
            .map_err(|e| Error::Store(format!("{url}: cannot open the store: {e}")))?;
        Ok(Self { inner: Arc::from(inner), prefix, url: url.trim_end_matches('/').to_owned(), folder: None })
    }

    /// The URL, absolute.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The folder, where the store is one.
    pub fn folder(&self) -> Option<&FilePath> {
        self.folder.as_deref()
    }

    fn path(&self, key: &str) -> Path {
        key.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }

    fn fail(&self, verb: &str, key: &str, error: &object_store::Error) -> Error {
        Error::Store(format!("cannot {verb} {key} in {}: {error}", self.url))
    }

    /// Proves that the store can be written, and conditionally: two creates of one key, the second must lose.
    ///
    /// # Errors
    /// The store refuses writes, or lets the second create win.
    pub async fn probe(&self) -> Result<()> {
        let key = format!("{}/{}-{}", layout::PROBE, std::process::id(), crate::clock::unix_seconds());
        self.create(&key, Bytes::from_static(b"1")).await?;
        let second = self.create(&key, Bytes::from_static(b"2")).await?;
        self.inner.delete(&self.path(&key)).await.map_err(|e| self.fail("delete", &key, &e))?;
        match second {
            Created::Exists => Ok(()),
            Created::New => Err(Error::Store(format!(
                "{} ignores conditional writes (put-if-absent), so two coordinators could overwrite one another; use a store that honours If-None-Match",
                self.url
            ))),
        }
    }

    /// Reads an object.
    ///
    /// # Errors
    /// It is missing, or the store does not answer.
    pub async fn get(&self, key: &str) -> Result<Bytes> {
        self.get_opt(key).await?.ok_or_else(|| Error::Store(format!("{key} is not in {}", self.url)))
    }

    /// Reads an object that may be missing.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn get_opt(&self, key: &str) -> Result<Option<Bytes>> {
        match self.inner.get(&self.path(key)).await {
            Ok(found) => found.bytes().await.map(Some).map_err(|e| self.fail("read", key, &e)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.fail("read", key, &e)),
        }
    }

    /// Reads an object and checks its digest.
    ///
    /// # Errors
    /// It is missing, or not the object that was named.
    pub async fn get_verified(&self, object: &ObjectRef) -> Result<Bytes> {
        let bytes = self.get(&object.key).await?;
        let found = Digest::of(&bytes);
        if found != object.sha256 {
            return Err(Error::Store(format!(
                "{} in {} is damaged: its SHA-256 is {}, its manifest says {}; restore it or start afresh in another store",
                object.key,
                self.url,
                found.short(),
                object.sha256.short()
            )));
        }
        Ok(bytes)
    }

    /// Writes an object, over an equal or older one of that key.
    ///
    /// # Errors
    /// The store refuses.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<ObjectRef> {
        let object = ObjectRef { key: key.to_owned(), bytes: bytes.len() as u64, sha256: Digest::of(&bytes) };
        self.inner.put(&self.path(key), PutPayload::from_bytes(bytes)).await.map_err(|e| self.fail("write", key, &e))?;
        Ok(object)
    }

    /// Writes an object only if there is none of that key.
    ///
    /// # Errors
    /// The store refuses for another reason than that the object exists.
    pub async fn create(&self, key: &str, bytes: Bytes) -> Result<Created> {
        let result = self.inner.put_opts(&self.path(key), PutPayload::from_bytes(bytes), PutMode::Create.into()).await;
        match result {
            Ok(_) => Ok(Created::New),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(Created::Exists),
            Err(e) => Err(self.fail("create", key, &e)),
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
        let found: Vec<_> = self.inner.list(Some(&self.prefix)).try_collect().await.map_err(|e| self.fail("list", "/", &e))?;
        let relative = |path: &Path| {
            path.prefix_match(&self.prefix).map(|parts| parts.map(|p| p.as_ref().to_owned()).collect::<Vec<_>>().join("/"))
        };
        Ok(found.iter().filter_map(|meta| relative(&meta.location)).collect())
    }
}

fn json_bytes<T: Serialize>(value: &T) -> Result<Bytes> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|e| Error::Internal(format!("cannot write a record: {e}")))?;
    bytes.push(b'\n');
    Ok(Bytes::from(bytes))
}
