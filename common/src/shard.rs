//! Shards of rows as Parquet: written once by the coordinator, read by workers.
//!
//! Columns: `id`, `anchor`, `positive`, `negative_1` ... `negative_n`, `group` (the only one with nulls); all strings.

use std::sync::Arc;

use arrow_array::{Array as _, ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::error::{Error, Result};
use crate::records::Pair;

/// Rows of a shard at most.
pub const MAX_SHARD_ROWS: usize = 4096;
/// Bytes of text in a shard at most, unless one row alone has more.
pub const MAX_SHARD_TEXT_BYTES: usize = 64 << 20;

/// Rows as Parquet bytes; the same rows give the same bytes.
///
/// # Errors
/// Rows of unequal numbers of negatives, or more than 2 GiB of text in a column.
pub fn encode_shard(rows: &[Pair]) -> Result<Bytes> {
    let num_negatives = rows.first().map_or(0, |row| row.negatives.len());
    if let Some(odd) = rows.iter().find(|row| row.negatives.len() != num_negatives) {
        return Err(Error::Internal(format!(
            "row {} has {} negatives and the shard's first row {num_negatives}; every row of a data set has equally many",
            odd.id,
            odd.negatives.len()
        )));
    }
    let mut fields = Vec::with_capacity(num_negatives + 4);
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(num_negatives + 4);
    let mut add = |name: String, nullable: bool, values: Vec<Option<&str>>| -> Result<()> {
        let text_bytes: usize = values.iter().flatten().map(|text| text.len()).sum();
        if text_bytes > i32::MAX as usize {
            return Err(Error::Data(format!("column {name} of a shard has {text_bytes} bytes of text; a shard holds 2 GiB")));
        }
        fields.push(Field::new(name, DataType::Utf8, nullable));
        columns.push(Arc::new(StringArray::from_iter(values)));
        Ok(())
    };
    add("id".into(), false, rows.iter().map(|row| Some(row.id.as_str())).collect())?;
    add("anchor".into(), false, rows.iter().map(|row| Some(row.anchor.as_str())).collect())?;
    add("positive".into(), false, rows.iter().map(|row| Some(row.positive.as_str())).collect())?;
    for index in 0..num_negatives {
        add(negative_name(index), false, rows.iter().map(|row| Some(row.negatives[index].as_str())).collect())?;
    }
    add("group".into(), true, rows.iter().map(|row| row.group.as_deref()).collect())?;
    write_parquet(fields, columns).map_err(|e| Error::Internal(format!("cannot write a shard of rows: {e}")))
}

fn write_parquet(fields: Vec<Field>, columns: Vec<ArrayRef>) -> Result<Bytes, Box<dyn std::error::Error>> {
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

/// The name of the column of negatives `index` (from 0): `negative_1`, `negative_2`, ...
fn negative_name(index: usize) -> String {
    format!("negative_{}", index + 1)
}

/// Reads what [`encode_shard`] wrote.
///
/// # Errors
/// The bytes are not Parquet, or a column is missing, not of strings, or has nulls where none may be.
pub fn decode_shard(bytes: Bytes) -> Result<Vec<Pair>> {
    let damaged = |what: String| Error::Store(format!("a shard of rows is damaged: {what}"));
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
        .and_then(|builder| builder.with_batch_size(MAX_SHARD_ROWS).build())
        .map_err(|e| damaged(e.to_string()))?;
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|e| damaged(e.to_string()))?;
        decode_batch(&batch, &mut rows).map_err(damaged)?;
    }
    Ok(rows)
}

fn decode_batch(batch: &RecordBatch, rows: &mut Vec<Pair>) -> Result<(), String> {
    let column = |name: &str| -> Result<&StringArray, String> {
        let array = batch.column_by_name(name).ok_or_else(|| format!("it has no column {name}"))?;
        array.as_any().downcast_ref::<StringArray>().ok_or_else(|| format!("its column {name} is not of strings"))
    };
    let full = |name: &str| -> Result<&StringArray, String> {
        let array = column(name)?;
        if array.null_count() == 0 { Ok(array) } else { Err(format!("its column {name} has nulls")) }
    };
    let (ids, anchors, positives, groups) = (full("id")?, full("anchor")?, full("positive")?, column("group")?);
    let num_negatives = batch.num_columns().saturating_sub(4);
    let negatives = (0..num_negatives).map(|index| full(&negative_name(index))).collect::<Result<Vec<_>, _>>()?;
    rows.reserve(batch.num_rows());
    for row in 0..batch.num_rows() {
        rows.push(Pair {
            id: ids.value(row).to_owned(),
            anchor: anchors.value(row).to_owned(),
            positive: positives.value(row).to_owned(),
            negatives: negatives.iter().map(|texts| texts.value(row).to_owned()).collect(),
            group: groups.is_valid(row).then(|| groups.value(row).to_owned()),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(index: usize, num_negatives: usize) -> Pair {
        Pair {
            id: format!("row-{index}"),
            anchor: format!("quels symptômes, {index} ?\n\"oui\""),
            positive: format!("答え {index} 🙂"),
            negatives: (0..num_negatives).map(|n| format!("negative {n} of {index}")).collect(),
            group: (!index.is_multiple_of(3)).then(|| format!("doc {}", index / 2)),
        }
    }

    /// Goal: rows survive a shard, with and without negatives and groups. Method: write, read, compare; twice gives the same bytes.
    #[test]
    fn round_trip() {
        for num_negatives in [0, 1, 3] {
            let rows: Vec<_> = (0..100).map(|index| pair(index, num_negatives)).collect();
            let bytes = encode_shard(&rows).unwrap();
            assert_eq!(bytes, encode_shard(&rows).unwrap());
            assert_eq!(decode_shard(bytes).unwrap(), rows);
        }
        assert_eq!(decode_shard(encode_shard(&[]).unwrap()).unwrap(), []);
    }

    /// Goal: unequal rows are refused. Method: one row has a negative more.
    #[test]
    fn unequal_negatives_are_refused() {
        assert!(encode_shard(&[pair(0, 1), pair(1, 2)]).is_err());
    }

    /// Goal: damaged bytes never panic. Method: cut at every length, and text that is no Parquet at all.
    #[test]
    fn damage_is_an_error() {
        let bytes = encode_shard(&[pair(0, 0), pair(1, 0)]).unwrap();
        for length in 0..bytes.len() {
            assert!(decode_shard(bytes.slice(..length)).is_err(), "length {length}");
        }
        assert!(decode_shard(Bytes::from_static(b"id,anchor,positive\n1,2,3\n")).is_err());
    }
}
