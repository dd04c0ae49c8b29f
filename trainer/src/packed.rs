//! Batches without padding.
