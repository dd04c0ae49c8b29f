//! From files on disk to a committed data set.

mod formats;
mod read;
mod splits;

use std::path::Path;

use artel_common::records::Pair;
use artel_common::spec::{Columns, DataSection};
use artel_common::{Error, Result};

use super::*;

/// A `[data]` of these files, with the defaults.
fn data(pairs: &[&str]) -> DataSection {
    DataSection {
        pairs: pairs.iter().map(|file| (*file).to_owned()).collect(),
        columns: Columns::default(),
        limit: None,
        test: None,
        test_fraction: 0.1,
        drop_leaks: false,
        near_duplicate_threshold: 0.8,
        positive: Default::default(),
    }
}

/// Reads within a runtime of the test's own.
fn read(data: &DataSection, folder: &Path) -> Result<Rows> {
    runtime().block_on(read_rows(data, folder, &|_, _| {}))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    folder
}

/// A pair of these texts.
fn pair(anchor: &str, positive: &str) -> Pair {
    Pair { id: "0".into(), anchor: anchor.into(), positive: positive.into(), negatives: vec![], group: None }
}

/// Rows that were read without trouble.
fn rows(train: Vec<Pair>, test: Option<Vec<Pair>>) -> Rows {
    Rows { train, test, report: ImportReport::default(), warnings: vec![] }
}

/// What went wrong, in words.
fn message<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    result.unwrap_err().to_string()
}
