//! Documents in, elements and chunks out. Everything here is a plain function of bytes: no network, no store, no async.

pub mod element;
pub mod read;
