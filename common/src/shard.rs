//! Shards of rows as Parquet: written once by the coordinator, read by workers.
