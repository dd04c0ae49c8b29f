//! Optimizer, clipping and learning-rate schedules.
