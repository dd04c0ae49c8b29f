//! Counter-based dropout (SAME-2).
