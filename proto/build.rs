//! Compiles the protocol with a pure-Rust compiler, so that no system protoc is needed.

fn main() {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(["artel/v1/coordinator.proto"], ["proto"]).expect("the protocol compiles");
    tonic_prost_build::configure().compile_fds(descriptors).expect("the protocol's code can be written");
}
