//! A base model's files, out of the store and into a folder.

use std::path::Path;

use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::records::{ModelFile, ModelManifest};
use crate::store::Store;

/// The digest of a model: its files' names and digests, in the order of names.
pub fn digest_of(files: &[ModelFile]) -> Digest {
    let mut sorted: Vec<&ModelFile> = files.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    let mut hasher = Hasher::default();
    for file in sorted {
        hasher.field(file.path.as_bytes());
        hasher.field(file.object.sha256.as_str().as_bytes());
    }
    hasher.finish()
}

/// Whether a file's path within a model folder stays within it: relative, no `..`, nothing strange.
pub fn is_safe(path: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', ':', '\0']);
    !path.is_empty() && path.split('/').all(part)
}

/// Copies every file of the manifest below `to`, which is made, and checks each digest.
///
/// # Errors
/// A file is missing or damaged, the manifest is not of its files, or the folder cannot be written.
pub async fn fetch_model(manifest: &ModelManifest, store: &Store, to: &Path) -> Result<()> {
    if digest_of(&manifest.files) != manifest.digest {
        return Err(Error::Store(format!(
            "the model manifest in {} is damaged: its files do not add up to its digest",
            store.url()
        )));
    }
    for file in &manifest.files {
        if !is_safe(&file.path) {
            return Err(Error::Store(format!(
                "the model manifest in {} names {:?}, which leaves its folder",
                store.url(),
                file.path
            )));
        }
        let target = to.join(&file.path);
        let folder = target.parent().unwrap_or(to);
        tokio::fs::create_dir_all(folder).await.map_err(|e| Error::io(folder, e))?;
        store.get_to_file(&file.object, &target, &|_| ()).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    /// Goal: a model comes out of the store as it went in, and never damaged or outside its folder. Method: two files, then a
    /// flipped byte, a wrong digest and a name with `..`.
    #[test]
    fn there_and_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(&folder.path().join("store").display().to_string()).expect("a folder");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut files = Vec::new();
            for (path, text) in [("config.json", "{}"), ("1_Pooling/config.json", "{ }")] {
                let object =
                    store.put(&crate::layout::model_file(1, path), Bytes::from_static(text.as_bytes())).await.expect("writable");
                files.push(ModelFile { path: path.into(), object });
            }
            let mut manifest = ModelManifest { format: 1, source: "here".into(), digest: digest_of(&files), files };
            let to = folder.path().join("to");
            fetch_model(&manifest, &store, &to).await.expect("whole");
            assert_eq!(std::fs::read_to_string(to.join("1_Pooling/config.json")).expect("there"), "{ }");
            store.put(&crate::layout::model_file(1, "config.json"), Bytes::from_static(b"[]")).await.expect("writable");
            assert!(fetch_model(&manifest, &store, &to).await.expect_err("flipped").to_string().contains("damaged"));
            manifest.files[0].path = "../config.json".into();
            assert!(fetch_model(&manifest, &store, &to).await.expect_err("not its digest").to_string().contains("damaged"));
            manifest.digest = digest_of(&manifest.files);
            assert!(fetch_model(&manifest, &store, &to).await.expect_err("outside").to_string().contains("leaves its folder"));
        });
        for path in ["", "/a", "a//b", "a/../b", "..", "./a", "a\\b", "c:d"] {
            assert!(!is_safe(path), "{path}");
        }
    }
}
