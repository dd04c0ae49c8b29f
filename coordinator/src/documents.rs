//! The documents of a run: named, and put where every worker reaches them.

mod find;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use artel_common::digest::Digest;
use artel_common::making::{Place, Source, SourceList};
use artel_common::records::ObjectRef;
use artel_common::spec::DocumentsSection;
use artel_common::store::Store;
use artel_common::{Error, Result, layout};

use find::{Found, Where, find};

/// Version of [`SourceList`].
const FORMAT: u32 = 1;
/// Documents of one piece of reading, at most.
const PIECE_DOCUMENTS: usize = 4;
/// Bytes of one piece, at most, unless one document alone has more.
const PIECE_BYTES: u64 = 16 << 20;
/// A larger file is no document.
const MOST_BYTES: u64 = 1 << 30;

/// Finds the documents that the spec names, puts local ones into the store, then the list of all of them.
///
/// `progress` is told documents done and in all.
///
/// # Errors
/// A source is missing or a glob matches nothing, or the store refuses. A document that alone cannot be had is in the list, with the reason.
pub async fn list(
    section: &DocumentsSection,
    folder: &Path,
    store: &Store,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<(SourceList, ObjectRef)> {
    let found = find(section, folder).await?;
    let there: BTreeSet<String> = store.list_prefix("documents/files/").await?.into_iter().map(|listed| listed.key).collect();
    let total = found.len() as u64;
    let mut sources = Vec::with_capacity(found.len());
    for (done, document) in found.into_iter().enumerate() {
        sources.push(bring(document, store, &there).await?);
        progress(done as u64 + 1, total);
    }
    let list = SourceList { format: FORMAT, sources };
    let bytes = serde_json::to_vec(&list).map_err(|e| Error::Internal(format!("cannot write the list of documents: {e}")))?;
    let object = store.put(&layout::source_list(Digest::of(&bytes).as_str()), bytes.into()).await?;
    Ok((list, object))
}

/// Names and sizes of the documents that the spec names; nothing is read.
///
/// # Errors
/// As [`list`].
pub async fn names(section: &DocumentsSection, folder: &Path) -> Result<Vec<(String, u64)>> {
    let size = |place: &Where| match place {
        Where::File(path) => std::fs::metadata(path).map_or(0, |about| about.len()),
        Where::Object { bytes, .. } => *bytes,
        Where::Outside(..) | Where::Unreadable(..) => 0,
    };
    Ok(find(section, folder).await?.into_iter().map(|found| (found.name, size(&found.place))).collect())
}

/// What a run that goes on does not read, in words: documents that came, went or have another size since it listed them.
///
/// Where the sources cannot be looked at any more there is nothing to say: their documents are in the store.
pub async fn changes(list: &SourceList, section: &DocumentsSection, folder: &Path) -> Option<String> {
    let present: BTreeMap<String, u64> = names(section, folder).await.ok()?.into_iter().collect();
    let listed: BTreeMap<&str, &Source> = list.sources.iter().map(|source| (source.name.as_str(), source)).collect();
    let new: Vec<&str> = present.keys().map(String::as_str).filter(|name| !listed.contains_key(name)).collect();
    let gone: Vec<&str> = listed.keys().copied().filter(|name| !present.contains_key(*name)).collect();
    let differs = |name: &&str, source: &Source| {
        !matches!(source.place, Place::Refused { .. }) && present.get(*name).is_some_and(|bytes| *bytes != source.bytes)
    };
    let changed: Vec<&str> = listed.iter().filter(|(name, source)| differs(name, source)).map(|(name, _)| *name).collect();
    let kinds = [("new", new), ("gone", gone), ("of another size", changed)];
    let told: Vec<String> =
        kinds.iter().filter_map(|(what, names)| Some(format!("{} {what} (such as {})", names.len(), names.first()?))).collect();
    (!told.is_empty()).then(|| {
        format!(
            "documents differ from those that this run listed: {}; it goes on with what it listed, another store reads them anew",
            told.join(", ")
        )
    })
}

/// Puts a document where workers reach it, or says why that cannot be.
async fn bring(document: Found, store: &Store, there: &BTreeSet<String>) -> Result<Source> {
    let Found { name, place } = document;
    let refused = |reason: &str, message: String| Place::Refused { reason: reason.into(), message };
    let path = match place {
        Where::Object { store, key, bytes } => return Ok(Source { name, place: Place::Bucket { store, key }, bytes }),
        Where::Outside(_, target) => {
            let message = format!(
                "{name} is a link to {}, outside of what the spec names; name that itself, or leave the link out",
                target.display()
            );
            return Ok(Source { name, place: refused("outside", message), bytes: 0 });
        }
        Where::Unreadable(_, why) => {
            let message = format!(
                "the folder {name} cannot be looked into: {why}; look at its rights, or leave it out of documents.sources"
            );
            return Ok(Source { name, place: refused("missing", message), bytes: 0 });
        }
        Where::File(path) => path,
    };
    let about = std::fs::metadata(&path);
    if about.as_ref().is_ok_and(|about| !about.is_file()) {
        let message = format!("{name} is no regular file, but a pipe, socket or device; leave it out");
        return Ok(Source { name, place: refused("unsupported", message), bytes: 0 });
    }
    let bytes = about.map_or(0, |about| about.len());
    if bytes > MOST_BYTES {
        let message = format!("{name} has {bytes} bytes, more than a document may have ({MOST_BYTES}); split it");
        return Ok(Source { name, place: refused("limit", message), bytes });
    }
    let content = match tokio::task::spawn_blocking(move || std::fs::read(path)).await {
        Ok(Ok(content)) => content,
        Ok(Err(e)) => {
            let what = match e.kind() {
                std::io::ErrorKind::NotFound => "it is gone, or a link to nothing",
                _ => "look at its rights",
            };
            let message = format!("{name} cannot be read: {e}; {what}");
            return Ok(Source { name, place: refused("missing", message), bytes });
        }
        Err(e) => return Err(Error::Internal(format!("reading {name} was interrupted: {e}"))),
    };
    let (sha256, bytes) = (Digest::of(&content), content.len() as u64);
    let key = layout::source_file(sha256.as_str());
    let object = if there.contains(&key) { ObjectRef { key, bytes, sha256 } } else { store.put(&key, content.into()).await? };
    Ok(Source { name, place: Place::Stored(object), bytes })
}

/// The pieces that the list is read in, as first document and how many. They follow from the list alone, so that a run goes on with the same.
pub fn cut(list: &SourceList) -> Vec<(u64, u64)> {
    let mut cuts: Vec<(u64, u64)> = Vec::new();
    let mut bytes = 0;
    for (index, source) in list.sources.iter().enumerate() {
        bytes += source.bytes;
        match cuts.last_mut() {
            Some((_, count)) if (*count as usize) < PIECE_DOCUMENTS && bytes <= PIECE_BYTES => *count += 1,
            _ => {
                cuts.push((index as u64, 1));
                bytes = source.bytes;
            }
        }
    }
    cuts
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    fn section(sources: &[&str]) -> DocumentsSection {
        let text = format!("[documents]\nsources = {sources:?}\n[questions]\nprovider = \"offline\"\n[model]\nbase = \"b\"\n");
        artel_common::spec::RunSpec::parse(&text, "test").unwrap().0.documents.unwrap()
    }

    fn names(list: &SourceList) -> Vec<(&str, bool)> {
        list.sources.iter().map(|source| (source.name.as_str(), matches!(source.place, Place::Stored(_)))).collect()
    }

    /// Goal: folders, globs and files are found once each; hidden files are not, links that lead out and what is no file are told of; what changes afterwards is noticed. Method: a folder with all of these.
    #[tokio::test]
    async fn local_documents() {
        let scratch = tempfile::tempdir().unwrap();
        let docs = scratch.path().join("docs");
        std::fs::create_dir_all(docs.join("deep")).unwrap();
        std::fs::write(scratch.path().join("secret.txt"), "outside").unwrap();
        for file in ["a.txt", "b.md", "deep/c.html", ".hidden"] {
            std::fs::write(docs.join(file), file).unwrap();
        }
        std::os::unix::fs::symlink("../secret.txt", docs.join("link.txt")).unwrap();
        std::os::unix::fs::symlink("a.txt", docs.join("same.txt")).unwrap();
        std::os::unix::fs::symlink("..", docs.join("up")).unwrap();
        std::os::unix::fs::symlink(".", docs.join("loop")).unwrap();
        // a pipe that nobody writes to would be read for ever
        let made = std::process::Command::new("mkfifo").arg(docs.join("pipe.txt")).status().unwrap();
        assert!(made.success());
        // names that differ in bytes that are no text are two documents; what a run made is none
        for byte in [0xE4, 0xF6] {
            std::fs::write(docs.join(std::ffi::OsStr::from_bytes(&[b'z', byte])), [byte]).unwrap();
        }
        std::fs::create_dir_all(docs.join("run/journal")).unwrap();
        std::fs::write(docs.join("run").join(layout::journal_entry(1)), "{}").unwrap();
        let store = Store::open(&scratch.path().join("store").display().to_string()).unwrap();
        let (list, object) =
            list(&section(&["docs", "docs/*.txt", "docs/a.txt", "docs/../docs"]), scratch.path(), &store, &|_, _| {})
                .await
                .unwrap();
        let expected = [
            ("docs/a.txt", true),
            ("docs/b.md", true),
            ("docs/deep/c.html", true),
            ("docs/link.txt", false),
            ("docs/pipe.txt", false),
            ("docs/same.txt", true),
            ("docs/up", false),
            ("docs/z\\xE4", true),
            ("docs/z\\xF6", true),
        ];
        assert_eq!(names(&list), expected);
        let again: SourceList = store.get_json_verified(&object).await.unwrap();
        assert_eq!(again, list);
        let Place::Stored(stored) = &list.sources[0].place else { panic!("it is a file") };
        assert_eq!(store.get_verified(stored).await.unwrap(), "a.txt");
        assert_eq!(cut(&list), [(0, 4), (4, 4), (8, 1)]);
        let patterns = section(&["docs", "docs/*.txt", "docs/a.txt"]);
        assert_eq!(changes(&list, &patterns, scratch.path()).await, None);
        std::fs::write(docs.join("a.txt"), "longer").unwrap();
        std::fs::write(docs.join("new.txt"), "new").unwrap();
        std::fs::remove_file(docs.join("b.md")).unwrap();
        let told = changes(&list, &patterns, scratch.path()).await.unwrap();
        for said in ["1 new (such as docs/new.txt)", "1 gone (such as docs/b.md)", "of another size (such as docs/a.txt)"] {
            assert!(told.contains(said), "{told}");
        }
    }

    /// Goal: what is not there is an error that says so. Method: a missing file, a glob without files, an empty folder.
    #[tokio::test]
    async fn nothing_there() {
        let scratch = tempfile::tempdir().unwrap();
        let store = Store::open(&scratch.path().join("store").display().to_string()).unwrap();
        std::fs::create_dir(scratch.path().join("empty")).unwrap();
        for (source, said) in [("x.pdf", "does not exist"), ("*.pdf", "no file matches"), ("empty", "without a file")] {
            let error = list(&section(&[source]), scratch.path(), &store, &|_, _| {}).await.unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
