//! Exchanges between the ranks of a world.
