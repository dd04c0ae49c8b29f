//! With the feature `cuda`: compiles the kernels to PTX by nvcc, for compute capability 8.0, from which drivers make code for every newer
//! device.

use std::path::PathBuf;
use std::process::Command;

const FILES: [&str; 6] = ["rows", "activation", "pooling", "attention", "weights", "loss"];

fn main() {
    println!("cargo::rerun-if-changed=kernels");
    println!("cargo::rerun-if-env-changed=CUDA_PATH");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    let toolkit = std::env::var_os("CUDA_PATH").map(|path| PathBuf::from(path).join("bin/nvcc")).filter(|nvcc| nvcc.exists());
    let nvcc = toolkit.unwrap_or_else(|| "nvcc".into());
    for file in FILES {
        let compiled = Command::new(&nvcc)
            .args(["-ptx", "-arch=compute_80", "-std=c++17", "-O3"])
            .arg(format!("kernels/{file}.cu"))
            .arg("-o")
            .arg(out.join(file).with_extension("ptx"))
            .output();
        match compiled {
            Err(error) => panic!(
                "{}: {error}; the feature `cuda` needs nvcc of CUDA 12.0 or newer: put it in the PATH, or run deploy/cuda-toolchain.sh and source the file that it names (docs/guides/gpu.md)",
                nvcc.display()
            ),
            Ok(run) if !run.status.success() => panic!("kernels/{file}.cu:\n{}", String::from_utf8_lossy(&run.stderr)),
            Ok(_) => {}
        }
    }
}
