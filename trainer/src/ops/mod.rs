//! Operations on candle tensors, and the kernels below them.
