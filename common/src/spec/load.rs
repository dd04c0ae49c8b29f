//! From a file to a spec: every problem at once, each with its line.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::error::{Error, Result};
use crate::store;

use super::reader::Reader;
use super::{DeviceKind, RunSpec, check, sections};

/// Specs are short; a file beyond this is something else.
const MOST_BYTES: u64 = 1 << 20;

/// A spec with where it came from: paths of its data and model are relative to its folder.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedSpec {
    /// The spec.
    pub spec: RunSpec,
    /// What is allowed but hardly meant.
    pub warnings: Vec<String>,
    /// The folder of the file, absolute.
    pub folder: PathBuf,
    /// The file, as it was named.
    pub path: PathBuf,
}

impl LoadedSpec {
    /// Reads a spec file. A store of the form `file:./here` becomes absolute: what a command writes is relative to where it runs. Where the spec leaves the
    /// device open, it is GPUs if `gpus` counts some on this machine.
    ///
    /// # Errors
    /// [`Error::Spec`] has every problem of the file, one a line.
    pub fn load(path: &Path, gpus: fn() -> usize) -> Result<Self> {
        let text = read_file(path)?;
        let name = path.file_stem().map_or_else(|| "run".to_owned(), |stem| stem.to_string_lossy().into_owned());
        let (mut spec, warnings) = parse(&text, &path.display().to_string(), &name, gpus)?;
        let absolute = std::path::absolute(path).map_err(|e| Error::io(path, e))?;
        let folder = absolute.parent().unwrap_or(Path::new("/")).to_path_buf();
        let store = spec.run.store.clone();
        spec.override_store(&store)?;
        if let Some(from) = spec.questions.as_mut().and_then(|questions| questions.answers_from.as_mut()) {
            *from = store::absolute_url(from, &folder)?;
        }
        Ok(Self { spec, warnings, folder, path: path.to_path_buf() })
    }
}

impl RunSpec {
    /// Reads a spec file, as on a machine without GPUs: the spec, and warnings. See [`LoadedSpec::load`].
    ///
    /// # Errors
    /// [`Error::Spec`] has every problem of the file, one a line.
    pub fn load(path: &Path) -> Result<(Self, Vec<String>)> {
        LoadedSpec::load(path, || 0).map(|loaded| (loaded.spec, loaded.warnings))
    }

    /// Reads a spec's text, as on a machine without GPUs; `file` is its name in messages. Paths stay as they are written.
    ///
    /// # Errors
    /// [`Error::Spec`] has every problem of the text, one a line.
    pub fn parse(text: &str, file: &str) -> Result<(Self, Vec<String>)> {
        parse(text, file, "run", || 0)
    }

    /// Takes another store, as a command line names it: relative to the current folder.
    ///
    /// # Errors
    /// The URL is of no kind that Artel knows.
    pub fn override_store(&mut self, url: &str) -> Result<()> {
        let here = std::env::current_dir().map_err(|e| Error::io(".", e))?;
        self.run.store = store::absolute_url(url, &here)?;
        Ok(())
    }

    /// Takes another number of workers, as a command line names it.
    ///
    /// # Errors
    /// Nought, or more than can take part ([`Self::most_workers`]).
    pub fn override_workers(&mut self, count: usize) -> Result<()> {
        let most = self.most_workers();
        if count == 0 || count > most {
            let why = match self.workers.device {
                DeviceKind::Cuda => format!("from 1 to {most} workers can take part, a GPU each"),
                DeviceKind::Cpu => format!(
                    "from 1 to {most} workers can share the {most} gradient leaves; take fewer, or raise gradient_leaves in [train]"
                ),
            };
            return Err(Error::Spec(format!("--workers {count}: {why}")));
        }
        self.workers.count = count;
        Ok(())
    }
}

fn read_file(path: &Path) -> Result<String> {
    let shown = path.display();
    let about = std::fs::metadata(path).map_err(|e| Error::Spec(format!("{shown}: cannot read the spec: {e}")))?;
    if about.is_dir() {
        return Err(Error::Spec(format!("{shown}: is a folder; name the spec file in it")));
    }
    if about.len() > MOST_BYTES {
        return Err(Error::Spec(format!("{shown}: has {} bytes and is no spec; name the TOML file", about.len())));
    }
    let bytes = std::fs::read(path).map_err(|e| Error::Spec(format!("{shown}: cannot read the spec: {e}")))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let line = 1 + e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        Error::Spec(format!("{shown}:{line}: is not UTF-8 text; save the file as UTF-8"))
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

pub(super) fn parse(text: &str, file: &str, default_name: &str, gpus: fn() -> usize) -> Result<(RunSpec, Vec<String>)> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader::new(file, text, root.get_ref());
    if !errors.is_empty() {
        // What could not be read would seem to be missing or wrong: beside the errors themselves only names are certain.
        reader.check_names();
        let mut problems = reader.finish().0;
        problems.extend(errors.iter().map(|error| syntax_problem(text, file, error)));
        problems.sort_by_key(|(line, _)| *line);
        problems.dedup_by_key(|(line, _)| *line);
        return Err(refusal(problems));
    }
    let spec = sections::read(&mut reader, default_name, gpus);
    check::check(&mut reader, &spec);
    let (problems, warnings) = reader.finish();
    if problems.is_empty() { Ok((spec, warnings)) } else { Err(refusal(problems)) }
}

fn syntax_problem(text: &str, file: &str, error: &toml::de::Error) -> (usize, String) {
    let offset = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = 1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
    (line, format!("{file}:{line}: not TOML: {}", error.message().replace('\n', ", ")))
}

fn refusal(problems: Vec<(usize, String)>) -> Error {
    let lines: Vec<String> = problems.into_iter().map(|(_, text)| text).collect();
    Error::Spec(lines.join("\n"))
}
