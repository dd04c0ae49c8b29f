//! The packed BERT encoder: forward and backward written out.
