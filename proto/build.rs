//! Compiles the protocol with a pure-Rust compiler, so that no system protoc is needed.

fn main() {}
