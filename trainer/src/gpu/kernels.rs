//! The kernel files, and which kernels are in each.

/// A kernel file.
#[derive(Debug, Clone, Copy)]
pub struct KernelFile {
    /// Its name, without the ending.
    pub name: &'static str,
    /// The kernels in it.
    pub kernels: &'static [&'static str],
}

impl KernelFile {
    /// The name of its source, for kernels that store f32 or bf16.
    pub fn source(&self, wide: bool) -> &'static str {
        if self.name == "attention" && wide { "attention_wide" } else { self.name }
    }
}

/// All of them.
pub const KERNEL_FILES: [KernelFile; 6] = [
    KernelFile {
        name: "rows",
        kernels: &[
            "embed_512",
            "embed_backward_512",
            "normalize_512",
            "residual_normalize_512",
            "residual_normalize_backward_512",
            "embed_768",
            "embed_backward_768",
            "normalize_768",
            "residual_normalize_768",
            "residual_normalize_backward_768",
            "embed_1024",
            "embed_backward_1024",
            "normalize_1024",
            "residual_normalize_1024",
            "residual_normalize_backward_1024",
            "scatter_rows",
            "column_sums",
            "add_partials",
        ],
    },
    KernelFile { name: "activation", kernels: &["activate_2", "activate_8", "activate_backward_2", "activate_backward_8"] },
    KernelFile { name: "pooling", kernels: &["pool", "pool_backward"] },
    KernelFile {
        name: "attention",
        kernels: &[
            "attention_mask",
            "attention_16",
            "attention_32",
            "attention_64",
            "attention_backward_queries_16",
            "attention_backward_queries_32",
            "attention_backward_queries_64",
            "attention_backward_keys_16",
            "attention_backward_keys_32",
            "attention_backward_keys_64",
        ],
    },
    KernelFile { name: "weights", kernels: &["copy_weights", "narrow_vector", "widen_vector", "sum_squares", "clip", "adamw"] },
    KernelFile {
        name: "loss",
        kernels: &["prefix_norms", "copy_vector", "row_sums", "add_loss", "coefficients", "column_radials", "subtract_radials"],
    },
];
