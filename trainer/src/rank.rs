//! Exact ranking of passages for queries.
