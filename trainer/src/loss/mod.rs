//! Losses over embeddings.
