//! Parquet: strings of every kind, lists of them, integers for ids.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{Array, RecordBatch, downcast_dictionary_array};
use arrow_schema::DataType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::ChunkReader;

use artel_common::{Error, Result};

use super::row::{Cell, RawRow, RowReader};

/// Rows decoded at a time.
const BATCH_ROWS: usize = 1024;

/// A Parquet file being read.
pub(super) struct ParquetReader<R: ChunkReader + 'static> {
    file: String,
    columns: Vec<String>,
    /// Until the columns are selected.
    builder: Option<ParquetRecordBatchReaderBuilder<R>>,
    batches: Option<ParquetRecordBatchReader>,
    /// Where each selected column stands in a batch.
    places: Vec<usize>,
    batch: Option<RecordBatch>,
    next_in_batch: usize,
    row: u64,
    num_rows: u64,
    file_bytes: u64,
}

impl<R: ChunkReader + 'static> ParquetReader<R> {
    /// Opens a file and reads its schema.
    ///
    /// # Errors
    /// It is not Parquet.
    pub(super) fn open(input: R, file: &str) -> Result<Self> {
        let file_bytes = input.len();
        let builder = guarded(|| ParquetRecordBatchReaderBuilder::try_new(input))
            .map_err(|e| Error::Data(format!("{file} is not readable as Parquet: {e}")))?;
        check_places(builder.metadata(), file_bytes).map_err(|e| Error::Data(format!("{file} is damaged: {e}")))?;
        let num_rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
        let columns = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
        let file = file.to_owned();
        let builder = Some(builder);
        Ok(Self {
            file,
            columns,
            builder,
            batches: None,
            places: vec![],
            batch: None,
            next_in_batch: 0,
            row: 0,
            num_rows,
            file_bytes,
        })
    }

    fn fail(&self, error: impl std::fmt::Display) -> Error {
        Error::Data(format!("{} is damaged after row {}: {error}", self.file, self.row))
    }
}

impl<R: ChunkReader + 'static> RowReader for ParquetReader<R> {
    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn select(&mut self, columns: &[usize]) -> Result<()> {
        let builder = self.builder.take().expect("columns are selected once");
        let mut roots = columns.to_vec();
        roots.sort_unstable();
        roots.dedup();
        let place = |column: &usize| roots.binary_search(column).expect("every selected column is a root");
        self.places = columns.iter().map(place).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots.iter().copied());
        let reader = guarded(|| builder.with_projection(mask).with_batch_size(BATCH_ROWS).build());
        self.batches = Some(reader.map_err(|e| self.fail(e))?);
        Ok(())
    }

    fn next_row(&mut self) -> Result<Option<RawRow>> {
        loop {
            if let Some(batch) = &self.batch
                && self.next_in_batch < batch.num_rows()
            {
                let cells = self.places.iter().map(|&place| cell(batch.column(place), self.next_in_batch)).collect();
                self.next_in_batch += 1;
                self.row += 1;
                return Ok(Some(RawRow { line: self.row, cells: Ok(cells) }));
            }
            let batches = self.batches.as_mut().expect("columns are selected before rows are read");
            match guarded(|| batches.next().transpose()) {
                Ok(None) => return Ok(None),
                Ok(Some(batch)) => (self.batch, self.next_in_batch) = (Some(batch), 0),
                Err(e) => return Err(self.fail(e)),
            }
        }
    }

    fn bytes_done(&self) -> u64 {
        (self.file_bytes as f64 * self.row as f64 / self.num_rows.max(1) as f64) as u64
    }
}

/// Says what the decoder says, also where it panics: it does on some damaged files.
fn guarded<T, E: std::fmt::Display>(decode: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(decode)) {
        Ok(result) => result.map_err(|e| e.to_string()),
        Err(_) => Err("its pages contradict themselves".to_owned()),
    }
}

/// Column chunks lie within the file; the decoder would panic over those that do not.
fn check_places(metadata: &ParquetMetaData, file_bytes: u64) -> Result<(), &'static str> {
    for column in metadata.row_groups().iter().flat_map(|group| group.columns()) {
        let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
        let end = start.checked_add(column.compressed_size()).and_then(|end| u64::try_from(end).ok());
        if start < 0 || column.compressed_size() < 0 || end.is_none_or(|end| end > file_bytes) {
            return Err("a column lies outside of the file");
        }
    }
    Ok(())
}

/// The value of a column in a row of a batch.
fn cell(array: &dyn Array, row: usize) -> Cell {
    if array.is_null(row) {
        return Cell::Missing;
    }
    macro_rules! integer {
        ($kind:ty) => {
            Cell::Integer(array.as_primitive::<$kind>().value(row).to_string())
        };
    }
    match array.data_type() {
        DataType::Utf8 => Cell::Text(array.as_string::<i32>().value(row).to_owned()),
        DataType::LargeUtf8 => Cell::Text(array.as_string::<i64>().value(row).to_owned()),
        DataType::Utf8View => Cell::Text(array.as_string_view().value(row).to_owned()),
        DataType::Binary => text(array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => text(array.as_binary::<i64>().value(row)),
        DataType::Dictionary(_, _) => downcast_dictionary_array!(
            array => array.key(row).map_or(Cell::Missing, |key| cell(array.values(), key)),
            _ => Cell::Missing
        ),
        DataType::List(_) => list(&array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => list(&array.as_list::<i64>().value(row)),
        DataType::Int8 => integer!(Int8Type),
        DataType::Int16 => integer!(Int16Type),
        DataType::Int32 => integer!(Int32Type),
        DataType::Int64 => integer!(Int64Type),
        DataType::UInt8 => integer!(UInt8Type),
        DataType::UInt16 => integer!(UInt16Type),
        DataType::UInt32 => integer!(UInt32Type),
        DataType::UInt64 => integer!(UInt64Type),
        DataType::Boolean => Cell::Other("a boolean"),
        kind if kind.is_floating() => Cell::Other("a number"),
        kind if kind.is_temporal() => Cell::Other("a time"),
        _ => Cell::Other("neither text nor a number"),
    }
}

fn text(bytes: &[u8]) -> Cell {
    std::str::from_utf8(bytes).map_or(Cell::Other("bytes that are not UTF-8"), |text| Cell::Text(text.to_owned()))
}

fn list(values: &dyn Array) -> Cell {
    Cell::List((0..values.len()).map(|row| cell(values, row)).collect())
}
