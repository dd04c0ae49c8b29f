//! Large objects from and to files: hashed as they stream, in parts, never whole in memory.

use std::path::{Path as FilePath, PathBuf};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{ObjectStoreExt as _, PutPayload, WriteMultipart};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::patience::{Tries, UPLOAD};
use super::{PART_BYTES, Store};
use crate::digest::Hasher;
use crate::error::{Error, Result};
use crate::records::ObjectRef;

/// Parts on their way at once.
const PARTS_AT_ONCE: usize = 4;

impl Store {
    /// Copies a file into the store. `progress` is told of the bytes of each part.
    ///
    /// # Errors
    /// The file cannot be read, or the store refuses; then no object is left.
    pub async fn put_file(&self, key: &str, file: &FilePath, progress: &(dyn Fn(u64) + Send + Sync)) -> Result<ObjectRef> {
        let path = self.path(key)?;
        let mut tries = Tries::new(self, "write", key);
        loop {
            match self.put_file_once(&path, key, file, progress).await? {
                Ok(object) => return Ok(object),
                Err(e) => tries.wait(e).await.map_err(|e| self.fail("write", key, &e))?,
            }
        }
    }

    /// One try of [`Store::put_file`]: the outer error is the file's, the inner one the store's.
    async fn put_file_once(
        &self,
        path: &Path,
        key: &str,
        file: &FilePath,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<object_store::Result<ObjectRef>> {
        let mut source = tokio::fs::File::open(file).await.map_err(|e| Error::io(file, e))?;
        let mut hasher = Hasher::default();
        let mut bytes = 0;
        let first = read_part(&mut source).await.map_err(|e| Error::io(file, e))?;
        if first.len() < PART_BYTES {
            hasher.update(&first);
            bytes += first.len() as u64;
            if let Err(e) = self.inner.put(path, PutPayload::from_bytes(first)).await {
                return Ok(Err(e));
            }
            progress(bytes);
            return Ok(Ok(ObjectRef { key: key.to_owned(), bytes, sha256: hasher.finish() }));
        }
        let upload = match self.inner.put_multipart(path).await {
            Ok(upload) => upload,
            Err(e) => return Ok(Err(e)),
        };
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        let mut part = first;
        while !part.is_empty() {
            hasher.update(&part);
            bytes += part.len() as u64;
            if let Err(e) = writer.wait_for_capacity(PARTS_AT_ONCE).await {
                let _ = writer.abort().await;
                return Ok(Err(e));
            }
            let len = part.len() as u64;
            writer.put(part);
            progress(len);
            part = match read_part(&mut source).await {
                Ok(part) => part,
                Err(e) => {
                    let _ = writer.abort().await;
                    return Err(Error::io(file, e));
                }
            };
        }
        Ok(finish(writer).await.map(|()| ObjectRef { key: key.to_owned(), bytes, sha256: hasher.finish() }))
    }

    /// Copies an object into a file and checks its digest; the file appears whole or not at all.
    ///
    /// # Errors
    /// The object is missing or damaged, or the file cannot be written.
    pub async fn get_to_file(&self, object: &ObjectRef, file: &FilePath, progress: &(dyn Fn(u64) + Send + Sync)) -> Result<()> {
        let mut name = file.as_os_str().to_owned();
        name.push(".part");
        let partial = PathBuf::from(name);
        let result = self.fetch_file(&object.key, &partial, progress).await.and_then(|found| self.compare(object, &found));
        if let Err(e) = result {
            let _ = tokio::fs::remove_file(&partial).await;
            return Err(e);
        }
        tokio::fs::rename(&partial, file).await.map_err(|e| Error::io(file, e))
    }

    fn compare(&self, object: &ObjectRef, found: &ObjectRef) -> Result<()> {
        if found.bytes == object.bytes {
            return self.verify(object, &found.sha256);
        }
        let (key, is, should) = (&object.key, found.bytes, object.bytes);
        Err(Error::Store(format!(
            "{key} in {} is damaged: it has {is} bytes, its manifest says {should}; restore it or start afresh in another store",
            self.url()
        )))
    }

    /// Copies an object that no manifest describes into a file, and says what it was.
    ///
    /// # Errors
    /// The object is missing, or the file cannot be written; a part of it may then be left.
    pub async fn fetch_file(&self, key: &str, file: &FilePath, progress: &(dyn Fn(u64) + Send + Sync)) -> Result<ObjectRef> {
        let path = self.path(key)?;
        let bytes = match self.retried("read", key, || self.inner.head(&path)).await {
            Ok(found) => found.size,
            Err(object_store::Error::NotFound { .. }) => return Err(self.missing(key)),
            Err(e) => return Err(self.fail("read", key, &e)),
        };
        let mut target = tokio::fs::File::create(file).await.map_err(|e| Error::io(file, e))?;
        let mut hasher = Hasher::default();
        let parts = self.parts(path, bytes);
        futures::pin_mut!(parts);
        while let Some(part) = parts.try_next().await.map_err(|e| self.fail("read", key, &e))? {
            hasher.update(&part);
            target.write_all(&part).await.map_err(|e| Error::io(file, e))?;
            progress(part.len() as u64);
        }
        target.flush().await.map_err(|e| Error::io(file, e))?;
        Ok(ObjectRef { key: key.to_owned(), bytes, sha256: hasher.finish() })
    }

    /// The bytes of an object of this size, in order, a few parts read ahead.
    pub(super) fn parts(&self, path: Path, size: u64) -> impl Stream<Item = object_store::Result<Bytes>> + use<> {
        let store = self.clone();
        let starts = (0..size).step_by(PART_BYTES);
        futures::stream::iter(starts)
            .map(move |start| {
                let (store, path) = (store.clone(), path.clone());
                let range = start..size.min(start + PART_BYTES as u64);
                async move { store.retried("read", path.as_ref(), || store.inner.get_range(&path, range.clone())).await }
            })
            .buffered(PARTS_AT_ONCE)
    }

    /// Writes bytes in parts.
    pub(super) async fn put_parts(&self, path: &Path, bytes: Bytes) -> object_store::Result<()> {
        let upload = self.inner.put_multipart(path).await?;
        let mut writer = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        for start in (0..bytes.len()).step_by(PART_BYTES) {
            if let Err(e) = writer.wait_for_capacity(PARTS_AT_ONCE).await {
                let _ = writer.abort().await;
                return Err(e);
            }
            writer.put(bytes.slice(start..bytes.len().min(start + PART_BYTES)));
        }
        finish(writer).await
    }
}

/// Completes an upload. Where the answer was lost, the client's own second try finds the upload gone although its object is there: not
/// known to have failed, so the whole is written again.
async fn finish(writer: WriteMultipart) -> object_store::Result<()> {
    match writer.finish().await {
        Ok(_) => Ok(()),
        Err(object_store::Error::NotFound { source, .. }) => Err(object_store::Error::Generic { store: UPLOAD, source }),
        Err(e) => Err(e),
    }
}

/// The next part of a file; shorter than a whole one only at its end.
async fn read_part(file: &mut tokio::fs::File) -> std::io::Result<Bytes> {
    let mut part = Vec::with_capacity(PART_BYTES);
    file.take(PART_BYTES as u64).read_to_end(&mut part).await?;
    Ok(part.into())
}
