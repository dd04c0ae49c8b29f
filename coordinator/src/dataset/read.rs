//! The files of a spec, read: pairs to train on, pairs to measure on, and what was left out.

use std::path::{Path, PathBuf};

use artel_common::records::{ImportReport, Pair};
use artel_common::spec::{Columns, DataSection};
use artel_common::{Error, Result};

use super::columns::{FileColumns, Purpose};
use super::pairs::Collector;
use super::source::{self, Source};
use super::{Rows, ids};

/// Rows between two reports of progress.
const ROWS_PER_REPORT: u64 = 1024;

/// Bytes done and bytes in all; called from within [`read_rows`].
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Send + Sync);

/// Reads the files that `[data]` names; relative paths begin at the spec's folder.
///
/// Bad rows and rows marked N/A are left out and counted; ids of each side are made unique. `progress` is told bytes.
///
/// # Errors
/// A file is missing, empty, broken as a whole or has no usable row, or lacks a column.
pub async fn read_rows(data: &DataSection, spec_dir: &Path, progress: Progress<'_>) -> Result<Rows> {
    if data.pairs.is_empty() {
        return Err(Error::Data("data.pairs names no file".into()));
    }
    read_rows_if_any(data, spec_dir, progress).await
}

/// The same where `data.pairs` may name nothing, as pairs come from elsewhere.
///
/// # Errors
/// As [`read_rows`].
pub(crate) async fn read_rows_if_any(data: &DataSection, spec_dir: &Path, progress: Progress<'_>) -> Result<Rows> {
    let mut report = ImportReport::default();
    let mut warnings = Vec::new();
    if data.limit == Some(0) {
        return Err(Error::Data("data.limit is 0, so there is no row to train on; leave it out to take all".into()));
    }
    let sources = source::find(&data.pairs, spec_dir, "data.pairs").await?;
    let test_file = data.test.as_ref().filter(|test| *test != TEST_IS_TRAIN);
    let test_sources = match test_file {
        Some(file) => source::find(std::slice::from_ref(file), spec_dir, "data.test").await?,
        None => Vec::new(),
    };
    let mut meter = Meter { progress, done: 0, total: sources.iter().chain(&test_sources).map(Source::local_bytes).sum() };
    let mut train = read_side(&sources, &data.columns, Purpose::Train, data.limit, &mut report, &mut meter).await?;
    ids::make_unique(&mut train);
    let test = match test_file {
        None => None,
        Some(file) => {
            let mut test = read_side(&test_sources, &data.columns, Purpose::Test, None, &mut report, &mut meter).await?;
            let num_renamed = ids::make_unique(&mut test);
            if num_renamed > 0 {
                warnings.push(format!(
                    "{num_renamed} rows of {file} have an id that an earlier row has; they are measured under ids of their own (ID#2, ...)"
                ));
            }
            Some(test)
        }
    };
    if report.rows_bad > 0 {
        let first = &report.bad_rows[0];
        let (rows, are) = if report.rows_bad == 1 { ("row", "is") } else { ("rows", "are") };
        warnings.push(format!(
            "{} bad {rows} {are} left out; the first: {} line {}: {}",
            report.rows_bad, first.file, first.line, first.reason
        ));
    }
    Ok(Rows { train, test, report, warnings })
}

/// The local files that `[data]` names, each by its name in reports; those of buckets are not among them.
///
/// # Errors
/// A file is missing, or a glob matches nothing.
pub async fn local_files(data: &DataSection, spec_dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut sources = source::find(&data.pairs, spec_dir, "data.pairs").await?;
    if let Some(file) = data.test.as_ref().filter(|test| *test != TEST_IS_TRAIN) {
        sources.extend(source::find(std::slice::from_ref(file), spec_dir, "data.test").await?);
    }
    Ok(sources.iter().filter_map(|source| Some((source.name.clone(), source.local_path()?.to_path_buf()))).collect())
}

/// The value of `data.test` that means: measure on the training pairs.
pub(super) const TEST_IS_TRAIN: &str = "train";

struct Meter<'a> {
    progress: Progress<'a>,
    done: u64,
    total: u64,
}

impl Meter<'_> {
    fn report(&self, in_file: u64) {
        let done = self.done + in_file;
        (self.progress)(done, self.total.max(done));
    }
}

async fn read_side(
    sources: &[Source],
    columns: &Columns,
    purpose: Purpose,
    limit: Option<u64>,
    report: &mut ImportReport,
    meter: &mut Meter<'_>,
) -> Result<Vec<Pair>> {
    let mut collector = Collector::new(purpose);
    let limit = limit.unwrap_or(u64::MAX);
    for source in sources {
        if collector.num_rows < limit {
            read_file(source, columns, purpose, limit, &mut collector, report, meter).await?;
        }
    }
    Ok(collector.pairs)
}

async fn read_file(
    source: &Source,
    columns: &Columns,
    purpose: Purpose,
    limit: u64,
    collector: &mut Collector,
    report: &mut ImportReport,
    meter: &mut Meter<'_>,
) -> Result<()> {
    let mut opened = source.open().await?;
    let before = (collector.num_rows, collector.pairs.len(), report.rows_bad, report.bad_rows.len());
    if opened.object.bytes == 0 {
        return Err(Error::Data(format!("{} is empty", source.name)));
    }
    let file_columns = FileColumns::find(opened.reader.columns(), columns, purpose, &source.name);
    // Lines that are no rows have no columns either: say what is wrong with the lines.
    let file_columns = match file_columns {
        Err(error) if opened.reader.columns().is_empty() => {
            opened.reader.select(&[])?;
            return Err(match opened.reader.next_row()?.map(|row| (row.line, row.cells)) {
                Some((line, Err(reason))) => Error::Data(format!("{} line {line}: {reason}", source.name)),
                Some(_) => error,
                None => Error::Data(format!("{} has no rows", source.name)),
            });
        }
        found => found?,
    };
    opened.reader.select(&file_columns.selection())?;
    while collector.num_rows < limit {
        let Some(row) = opened.reader.next_row()? else { break };
        collector.take(&source.name, &file_columns, row, report);
        if collector.num_rows.is_multiple_of(ROWS_PER_REPORT) {
            meter.report(opened.reader.bytes_done());
            tokio::task::yield_now().await;
        }
    }
    meter.done += opened.object.bytes;
    meter.report(0);
    report.files.push(opened.object);
    if collector.pairs.len() > before.1 {
        return Ok(());
    }
    let num_rows = collector.num_rows - before.0;
    if num_rows == 0 {
        return Err(Error::Data(format!("{} has no rows", source.name)));
    }
    let num_bad = report.rows_bad - before.2;
    let first = report.bad_rows.get(before.3).map(|bad| format!("; the first: line {}: {}", bad.line, bad.reason));
    Err(Error::Data(format!(
        "{}: none of its {num_rows} rows can be used ({num_bad} bad, {} marked N/A){}",
        source.name,
        num_rows - num_bad,
        first.unwrap_or_default()
    )))
}
