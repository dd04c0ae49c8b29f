//! The batch plan of an epoch (SAME-1, DUP-1): sample order and batch boundaries, indexed by step.
