//! The split put into the store: shards first, then the manifest that makes them exist.

use artel_common::Result;
use artel_common::digest::{Digest, Hasher};
use artel_common::layout;
use artel_common::records::{DatasetManifest, Pair, ShardRef, SplitManifest, Stored};
use artel_common::shard::{MAX_SHARD_ROWS, MAX_SHARD_TEXT_BYTES, encode_shard};
use artel_common::store::Store;

use super::Split;

/// Version of [`DatasetManifest`].
const FORMAT: u32 = 1;

/// Puts both sides of the split into the store as shards, then the manifest that names them, under this term of the coordinator.
///
/// # Errors
/// The store refuses.
pub async fn commit(split: &Split, store: &Store, term: u64) -> Result<Stored<DatasetManifest>> {
    let train = put_side("train", &split.train, store).await?;
    let test = if split.test_is_train { train.clone() } else { put_side("test", &split.test, store).await? };
    let (import, made) = (split.report.clone(), split.made.clone());
    let record = DatasetManifest { format: FORMAT, train, test, test_is_train: split.test_is_train, import, made };
    let object = store.put_json(&layout::dataset_manifest(term), &record).await?;
    Ok(Stored { record, object })
}

async fn put_side(name: &str, pairs: &[Pair], store: &Store) -> Result<SplitManifest> {
    let num_columns = pairs.first().map_or(2, |pair| 2 + pair.negatives.len());
    let mut shards = Vec::new();
    let mut first_row = 0;
    for (index, rows) in cut(pairs).enumerate() {
        let bytes = encode_shard(rows)?;
        let key = layout::dataset_shard(name, index, Digest::of(&bytes).as_str());
        let object = store.put(&key, bytes).await?;
        shards.push(ShardRef { object, first_row, num_rows: rows.len() as u64 });
        first_row += rows.len() as u64;
    }
    Ok(SplitManifest { num_rows: first_row, num_columns: num_columns as u32, shards, digest: digest(pairs, num_columns) })
}

/// SHA-256 over the number of columns and all texts in order, each with its length.
fn digest(pairs: &[Pair], num_columns: usize) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(&(num_columns as u64).to_le_bytes());
    for text in pairs.iter().flat_map(Pair::columns) {
        hasher.field(text.as_bytes());
    }
    hasher.finish()
}

/// Cuts rows into shards of bounded rows and text.
fn cut(pairs: &[Pair]) -> impl Iterator<Item = &[Pair]> {
    let mut rest = pairs;
    std::iter::from_fn(move || {
        let mut text_bytes = 0;
        let fits = |pair: &&Pair| {
            text_bytes += pair.columns().map(str::len).sum::<usize>();
            text_bytes <= MAX_SHARD_TEXT_BYTES
        };
        let num_rows = rest.iter().take(MAX_SHARD_ROWS).take_while(fits).count().max(1).min(rest.len());
        let (shard, after) = rest.split_at(num_rows);
        rest = after;
        (!shard.is_empty()).then_some(shard)
    })
}
