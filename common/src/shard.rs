//! Shards of rows as Parquet: written once by the coordinator, read by workers.
//!
//! Columns: `id`, `anchor`, `positive`, `negative_1` ... `negative_n`, `group` (the only one with nulls); all strings.

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::records::Pair;
use crate::tables::{Columns, Table};

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
    let mut table = Table::default();
    table.texts("id", rows.iter().map(|row| row.id.as_str()))?;
    table.texts("anchor", rows.iter().map(|row| row.anchor.as_str()))?;
    table.texts("positive", rows.iter().map(|row| row.positive.as_str()))?;
    for index in 0..num_negatives {
        table.texts(&negative_name(index), rows.iter().map(|row| row.negatives[index].as_str()))?;
    }
    table.optional_texts("group", rows.iter().map(|row| row.group.as_deref()))?;
    table.encode()
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
    Columns::read(bytes, |columns, row| {
        let num_negatives = columns.count().saturating_sub(4);
        Ok(Pair {
            id: columns.text("id", row)?,
            anchor: columns.text("anchor", row)?,
            positive: columns.text("positive", row)?,
            negatives: (0..num_negatives).map(|index| columns.text(&negative_name(index), row)).collect::<Result<_, _>>()?,
            group: columns.text_opt("group", row)?,
        })
    })
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
