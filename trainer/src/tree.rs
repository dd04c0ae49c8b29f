//! The fixed binary tree in which leaves are summed (SAME-3).
