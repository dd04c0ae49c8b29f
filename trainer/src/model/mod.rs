//! Model folders: configuration, pooling, weights, tokenizer, export.
