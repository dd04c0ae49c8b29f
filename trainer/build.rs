//! With the feature `cuda`: compiles the kernels to PTX by nvcc, for compute capability 8.0, from which drivers make code for every newer
//! device; once for bf16 and once for f32.

use std::path::PathBuf;
use std::process::Command;

/// What is compiled, its source, and whether values are f32 there.
const FILES: [(&str, &str, bool); 11] = [
    ("rows", "rows", false),
    ("activation", "activation", false),
    ("pooling", "pooling", false),
    ("attention", "attention", false),
    ("weights", "weights", false),
    ("loss", "loss", false),
    ("rows_wide", "rows", true),
    ("activation_wide", "activation", true),
    ("pooling_wide", "pooling", true),
    ("attention_wide", "attention_wide", true),
    ("weights_wide", "weights", true),
];

fn main() {
    println!("cargo::rerun-if-changed=kernels");
    println!("cargo::rerun-if-env-changed=CUDA_PATH");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    let toolkit = std::env::var_os("CUDA_PATH").map(|path| PathBuf::from(path).join("bin/nvcc")).filter(|nvcc| nvcc.exists());
    let nvcc = toolkit.unwrap_or_else(|| "nvcc".into());
    for (name, file, wide) in FILES {
        let compiled = Command::new(&nvcc)
            .args(["-ptx", "-arch=compute_80", "-std=c++17", "-O3"])
            .args(wide.then_some("-DWIDE_VALUES"))
            .arg(format!("kernels/{file}.cu"))
            .arg("-o")
            .arg(out.join(name).with_extension("ptx"))
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
