//! Tables of texts and whole numbers as Parquet.

use std::sync::Arc;

use arrow_array::{Array as _, ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::error::{Error, Result};

/// Columns that are being gathered.
#[derive(Default)]
pub(crate) struct Table {
    fields: Vec<Field>,
    columns: Vec<ArrayRef>,
}

impl Table {
    fn add<'a>(&mut self, name: &str, values: impl Iterator<Item = Option<&'a str>> + Clone, nullable: bool) -> Result<()> {
        let text_bytes: usize = values.clone().flatten().map(str::len).sum();
        if text_bytes > i32::MAX as usize {
            return Err(Error::Data(format!("column {name} of a shard has {text_bytes} bytes of text; a shard holds 2 GiB")));
        }
        self.fields.push(Field::new(name, DataType::Utf8, nullable));
        self.columns.push(Arc::new(StringArray::from_iter(values)));
        Ok(())
    }

    /// Adds a column of texts.
    ///
    /// # Errors
    /// More than 2 GiB of text.
    pub(crate) fn texts<'a>(&mut self, name: &str, values: impl Iterator<Item = &'a str> + Clone) -> Result<()> {
        self.add(name, values.map(Some), false)
    }

    /// Adds a column of texts of which some are missing.
    ///
    /// # Errors
    /// More than 2 GiB of text.
    pub(crate) fn optional_texts<'a>(&mut self, name: &str, values: impl Iterator<Item = Option<&'a str>> + Clone) -> Result<()> {
        self.add(name, values, true)
    }

    /// Adds a column of numbers.
    pub(crate) fn numbers(&mut self, name: &str, values: impl Iterator<Item = u64>) {
        self.fields.push(Field::new(name, DataType::UInt64, false));
        self.columns.push(Arc::new(UInt64Array::from_iter_values(values)));
    }

    /// Adds a column of numbers of which some are missing.
    pub(crate) fn optional_numbers(&mut self, name: &str, values: impl Iterator<Item = Option<u64>>) {
        self.fields.push(Field::new(name, DataType::UInt64, true));
        self.columns.push(Arc::new(UInt64Array::from_iter(values)));
    }

    /// The table as Parquet bytes; the same table gives the same bytes.
    ///
    /// # Errors
    /// Columns of unequal lengths.
    pub(crate) fn encode(self) -> Result<Bytes> {
        write(self.fields, self.columns).map_err(|e| Error::Internal(format!("cannot write a shard of rows: {e}")))
    }
}

fn write(fields: Vec<Field>, columns: Vec<ArrayRef>) -> Result<Bytes, Box<dyn std::error::Error>> {
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), columns)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_created_by("artel".into())
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
    writer.write(&batch)?;
    Ok(Bytes::from(writer.into_inner()?))
}

/// Columns of a batch that was read.
pub(crate) struct Columns(RecordBatch);

impl Columns {
    /// Reads all rows of a table.
    ///
    /// # Errors
    /// The bytes are no Parquet, or a column is missing or of another type.
    pub(crate) fn read<T>(bytes: Bytes, row: impl Fn(&Self, usize) -> Result<T, String>) -> Result<Vec<T>> {
        let damaged = |what: String| Error::Store(format!("a shard of rows is damaged: {what}"));
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
            .and_then(|builder| builder.with_batch_size(crate::shard::MAX_SHARD_ROWS).build())
            .map_err(|e| damaged(e.to_string()))?;
        let mut rows = Vec::new();
        for batch in reader {
            let columns = Self(batch.map_err(|e| damaged(e.to_string()))?);
            for index in 0..columns.0.num_rows() {
                rows.push(row(&columns, index).map_err(damaged)?);
            }
        }
        Ok(rows)
    }

    fn column<T: 'static>(&self, name: &str) -> Result<&T, String> {
        let array = self.0.column_by_name(name).ok_or_else(|| format!("it has no column {name}"))?;
        array.as_any().downcast_ref::<T>().ok_or_else(|| format!("its column {name} is of another type"))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.num_columns()
    }

    /// A text that may be missing.
    pub(crate) fn text_opt(&self, name: &str, row: usize) -> Result<Option<String>, String> {
        let texts: &StringArray = self.column(name)?;
        Ok(texts.is_valid(row).then(|| texts.value(row).to_owned()))
    }

    /// A text.
    pub(crate) fn text(&self, name: &str, row: usize) -> Result<String, String> {
        self.text_opt(name, row)?.ok_or_else(|| format!("its column {name} has nulls"))
    }

    /// A number that may be missing, of a column that may be.
    pub(crate) fn number_if_there(&self, name: &str, row: usize) -> Result<Option<u64>, String> {
        if self.0.column_by_name(name).is_none() {
            return Ok(None);
        }
        let numbers: &UInt64Array = self.column(name)?;
        Ok(numbers.is_valid(row).then(|| numbers.value(row)))
    }

    /// A number.
    pub(crate) fn number(&self, name: &str, row: usize) -> Result<u64, String> {
        Ok(self.column::<UInt64Array>(name)?.value(row))
    }
}
