//! Pairs in, a split data set out: readers, cleaning, split, manifest, batch plan.
