//! What the tests of Artel share: a sandbox of real processes.
//! It may know every crate.
//! Nothing may depend on it.
