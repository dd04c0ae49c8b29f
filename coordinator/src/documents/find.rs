//! Which documents a spec names: files, folders, globs and buckets.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use artel_common::spec::DocumentsSection;
use artel_common::store::{Store, local_folder};
use artel_common::{Error, Result, layout};

/// A file or object that a pattern names.
pub(super) struct Found {
    pub(super) name: String,
    pub(super) place: Where,
}

/// Where it is, or why nobody can say.
pub(super) enum Where {
    File(PathBuf),
    Object {
        store: String,
        key: String,
        bytes: u64,
    },
    /// A link, and where it leads.
    Outside(PathBuf, PathBuf),
    /// A folder, and why it cannot be looked into.
    Unreadable(PathBuf, String),
}

/// Everything that the spec names, each once, by name.
pub(super) async fn find(section: &DocumentsSection, folder: &Path) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for pattern in &section.sources {
        match local_folder(pattern) {
            Some(path) => find_local(&path, folder, &mut found)?,
            None => find_remote(pattern, &mut found).await?,
        }
    }
    let mut names = BTreeSet::new();
    found.retain(|document| names.insert(document.name.clone()));
    // the same file under two spellings of its folder is one document
    let mut places = BTreeSet::new();
    found.retain(|document| match &document.place {
        Where::File(path) | Where::Outside(path, _) | Where::Unreadable(path, _) => places.insert(place_of(path)),
        Where::Object { .. } => true,
    });
    found.sort_by(|a, b| a.name.cmp(&b.name));
    if found.is_empty() {
        return Err(Error::Data("documents.sources names folders without a file; name what is to be read".into()));
    }
    Ok(found)
}

fn is_glob(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

fn find_local(path: &Path, spec_dir: &Path, found: &mut Vec<Found>) -> Result<()> {
    let whole = spec_dir.join(path);
    let shown = |file: &Path| name_of(if path.is_absolute() { file } else { file.strip_prefix(spec_dir).unwrap_or(file) });
    if whole.is_dir() {
        return walk(&whole, &canonical(&whole)?, &shown, found);
    }
    if whole.exists() {
        found.push(Found { name: name_of(path), place: Where::File(whole) });
        return Ok(());
    }
    let Some(text) = path.to_str().filter(|text| is_glob(text)) else {
        return Err(Error::Data(format!(
            "documents.sources: {} does not exist; paths are relative to the spec's folder",
            whole.display()
        )));
    };
    let base =
        if path.is_absolute() { String::new() } else { format!("{}/", glob::Pattern::escape(&spec_dir.display().to_string())) };
    let paths =
        glob::glob(&format!("{base}{text}")).map_err(|e| Error::Data(format!("documents.sources: {text} is not a glob: {e}")))?;
    let before = found.len();
    // what stands before the first sign of a glob is the folder that its files are in
    let fixed: PathBuf = path.iter().take_while(|part| !is_glob(&part.to_string_lossy())).collect();
    let root = canonical(&spec_dir.join(fixed))?;
    for file in paths.flatten() {
        if file.is_file() {
            add(&file, &root, &shown, found)?;
        }
    }
    if found.len() == before {
        return Err(Error::Data(format!("documents.sources: no file matches {text} in {}", spec_dir.display())));
    }
    Ok(())
}

/// A path as text; bytes that are no UTF-8 are shown as `\xE4`, so that two paths have two names.
fn name_of(path: &Path) -> String {
    let mut name = String::new();
    for part in path.as_os_str().as_bytes().utf8_chunks() {
        name.push_str(part.valid());
        part.invalid().iter().for_each(|byte| name.push_str(&format!("\\x{byte:02X}")));
    }
    name
}

/// Where a file lies, whatever way leads there; a link is a place of its own.
fn place_of(path: &Path) -> PathBuf {
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    folder.zip(path.file_name()).map_or_else(|| path.to_path_buf(), |(folder, name)| folder.join(name))
}

/// Whether a folder is the store of a run: what lies there was made, and is no document.
fn is_store(folder: &Path) -> bool {
    folder.join(layout::journal_entry(1)).is_file()
}

fn canonical(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(|e| Error::io(path, e))
}

/// A file of a folder or glob: a link that leads out of it is not followed, but told of.
fn add(file: &Path, root: &Path, shown: &dyn Fn(&Path) -> String, found: &mut Vec<Found>) -> Result<()> {
    let name = shown(file);
    let place = match file.canonicalize() {
        Ok(real) if real.starts_with(root) => Where::File(file.to_path_buf()),
        Ok(real) => Where::Outside(file.to_path_buf(), real),
        Err(_) => Where::File(file.to_path_buf()),
    };
    found.push(Found { name, place });
    Ok(())
}

/// All files below a folder but hidden ones and stores of runs; links to folders are not followed.
fn walk(folder: &Path, root: &Path, shown: &dyn Fn(&Path) -> String, found: &mut Vec<Found>) -> Result<()> {
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        if is_store(&folder) {
            continue;
        }
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) => {
                found.push(Found { name: shown(&folder), place: Where::Unreadable(folder, e.to_string()) });
                continue;
            }
        };
        for entry in entries {
            let entry = entry.map_err(|e| Error::io(&folder, e))?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let (path, kind) = (entry.path(), entry.file_type().map_err(|e| Error::io(entry.path(), e))?);
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_symlink() && path.is_dir() {
                let target = path.canonicalize().unwrap_or_else(|_| path.clone());
                if target.starts_with(root) {
                    // what it leads to is found where it is
                    continue;
                }
                found.push(Found { name: shown(&path), place: Where::Outside(path, target) });
            } else {
                add(&path, root, shown, found)?;
            }
        }
    }
    Ok(())
}

async fn find_remote(url: &str, found: &mut Vec<Found>) -> Result<()> {
    let fixed = url.find(['*', '?', '[']).unwrap_or(url.len());
    let is_prefix = fixed == url.len() && (url.ends_with('/') || !url.rsplit('/').next().unwrap_or("").contains('.'));
    let (folder, rest) = if is_prefix {
        (url.trim_end_matches('/'), "")
    } else {
        let at = url[..fixed].rfind('/').filter(|&at| !url[..at].ends_with('/') && !url[..at].ends_with(':'));
        let at = at.ok_or_else(|| Error::Data(format!("documents.sources: {url} names no object; use s3://BUCKET/PATH/")))?;
        (&url[..at], &url[at + 1..])
    };
    let store = Store::open(folder)?;
    let options = glob::MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };
    let pattern = glob::Pattern::new(rest).map_err(|e| Error::Data(format!("documents.sources: {url} is not a glob: {e}")))?;
    let before = found.len();
    for listed in store.list_prefix("").await? {
        let hidden = listed.key.split('/').any(|part| part.starts_with('.'));
        if !hidden && !listed.key.ends_with('/') && (is_prefix || pattern.matches_with(&listed.key, options)) {
            let place = Where::Object { store: folder.to_owned(), key: listed.key.clone(), bytes: listed.bytes };
            found.push(Found { name: format!("{folder}/{}", listed.key), place });
        }
    }
    if found.len() == before {
        return Err(Error::Data(format!("documents.sources: no object matches {url}; look at the bucket and its prefix")));
    }
    Ok(())
}
