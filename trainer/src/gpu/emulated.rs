//! A GPU that is none: the kernels run on the CPU, by `kernels/emulator.hpp`, compiled when a test first wants them.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use candle_core::Device;
use half::bf16;
use libloading::{Library, Symbol};
use sha2::{Digest, Sha256};

use super::kernels::KERNEL_FILES;
use super::{Backend, Gpu, Launch, Matrix, Precision, Product, Repeats, Width};
use crate::kernels::{Mat, MatMut, gemm};
use crate::{Error, Result};

/// What happens in the place of a kernel, if it is not itself.
type Alter = dyn Fn(&Launch) -> Option<Result<()>> + Send + Sync;

/// The emulator's one function.
type Emulate = unsafe extern "C" fn(*const c_char, *const u32, u32, u32, *const *mut c_void, *mut c_char, usize) -> c_int;

/// Room for the emulator's reason.
const REASON: usize = 256;

/// Kernels that no GPU could run to their end.
const BROKEN: &str = r#"
#include "emulator.hpp"
namespace {
#include "device.cuh"
KERNEL barrier_of_some(float* x) {
    if (threadIdx.x < 32u) return;
    __syncthreads();
    x[0] = 1.0f;
}
KERNEL shuffle_of_some(float* x) {
    if (threadIdx.x % 32u == 5u) return;
    x[0] = __shfl_xor_sync(ALL_LANES, x[0], 1u);
}
}
EMULATED(barrier_of_some, "barrier_of_some")
EMULATED(shuffle_of_some, "shuffle_of_some")
"#;

/// Kernels on the CPU.
#[derive(Debug)]
pub(crate) struct Emulated {
    library: &'static Library,
    precision: Precision,
}

/// A GPU on the CPU, in bf16.
pub(crate) fn gpu() -> Gpu {
    gpu_in(Precision::Bf16)
}

/// The same in any precision.
pub(crate) fn gpu_in(precision: Precision) -> Gpu {
    Gpu::new(Box::new(emulated(precision))).expect("there is memory")
}

/// A GPU on the CPU, some of whose kernels do something else.
pub(crate) fn altered(precision: Precision, alter: impl Fn(&Launch) -> Option<Result<()>> + Send + Sync + 'static) -> Gpu {
    Gpu::new(Box::new(Altered { rest: emulated(precision), alter: Box::new(alter) })).expect("there is memory")
}

/// The emulator.
pub(crate) fn emulated(precision: Precision) -> Emulated {
    static LIBRARY: OnceLock<Library> = OnceLock::new();
    // SAFETY: the library is ours; loading it enters its kernels in a table and does nothing else.
    let library = LIBRARY.get_or_init(|| unsafe { Library::new(built()) }.expect("the emulator can be loaded"));
    Emulated { library, precision }
}

/// What the emulator calls a kernel.
fn entry(kernel: &str, wide: bool) -> String {
    if wide { format!("{kernel} in f32") } else { kernel.to_owned() }
}

/// The emulator with all kernels, built where the test's own program lies unless it is there.
fn built() -> PathBuf {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
    let mut digest = Sha256::new();
    let mut files: Vec<_> =
        std::fs::read_dir(&sources).expect("the kernels are there").flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in &files {
        digest.update(std::fs::read(file).expect("the kernels can be read"));
    }
    digest.update(format!("{KERNEL_FILES:?}{}", include_str!("emulated.rs")));
    let name: String = digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let library = std::env::current_exe().expect("a test has a program").with_file_name(format!("emulated-kernels-{name}.so"));
    if !library.exists() {
        let folder = tempfile::tempdir().expect("there is room for the emulator");
        let mut units = vec![sources.join("emulator.cpp")];
        for (file, wide) in KERNEL_FILES.iter().flat_map(|file| [(file, false), (file, true)]) {
            let entry = |kernel: &&str| format!("EMULATED({kernel}, \"{}\")\n", entry(kernel, wide));
            let registered: String = file.kernels.iter().map(entry).collect();
            let unit = folder.path().join(format!("{}{}.cpp", file.name, if wide { "_wide" } else { "" }));
            let values = if wide { "#define WIDE_VALUES\n" } else { "" };
            let source = file.source(wide);
            let text = format!("{values}#include \"emulator.hpp\"\nnamespace {{\n#include \"{source}.cu\"\n}}\n{registered}");
            std::fs::write(&unit, text).expect("there is room for the emulator");
            units.push(unit);
        }
        let unit = folder.path().join("broken.cpp");
        std::fs::write(&unit, BROKEN).expect("there is room for the emulator");
        units.push(unit);
        let made = folder.path().join("kernels.so");
        let run = Command::new("c++")
            .args([
                "-std=c++17",
                "-O2",
                "-shared",
                "-fPIC",
                "-Wall",
                "-Werror",
                "-Wno-unknown-pragmas",
                "-Wno-unused-function",
                "-I",
            ])
            .arg(&sources)
            .args(&units)
            .arg("-o")
            .arg(&made)
            .output()
            .expect("a C++ compiler (c++) is needed for the kernels' tests: install g++ or clang");
        assert!(run.status.success(), "the kernels do not compile:\n{}", String::from_utf8_lossy(&run.stderr));
        let beside = library.with_extension(std::process::id().to_string());
        std::fs::copy(made, &beside).expect("the target folder can be written");
        std::fs::rename(beside, &library).expect("the target folder can be written");
    }
    library
}

impl Backend for Emulated {
    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn describe(&self) -> String {
        "an emulated GPU".to_owned()
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn multiprocessors(&self) -> u32 {
        2
    }

    fn free_bytes(&self) -> Result<usize> {
        Ok(1 << 32)
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    unsafe fn launch(&self, launch: &Launch) -> Result<()> {
        let name = CString::new(entry(&launch.kernel, self.precision.is_wide())).expect("names have no zero byte");
        let mut reason = [0u8; REASON];
        // SAFETY: the symbol is of this type; the arguments are the caller's promise.
        let failed = unsafe {
            let emulate: Symbol<'_, Emulate> = self.library.get(b"emulate").expect("the emulator's function");
            let (arguments, reason) = (launch.arguments(), reason.as_mut_ptr().cast());
            emulate(name.as_ptr(), launch.grid.as_ptr(), launch.threads, launch.shared_bytes, arguments.as_ptr(), reason, REASON)
        };
        let reason = CStr::from_bytes_until_nul(&reason).expect("the reason ends").to_string_lossy();
        if failed == 0 { Ok(()) } else { Err(Error::Internal(format!("kernel {}: {reason}", launch.kernel))) }
    }

    unsafe fn multiply(&self, product: &Product) -> Result<()> {
        let repeats = product.repeats;
        if repeats.count > 1 {
            let bytes = |width, elements: usize| (elements * if width == Width::Narrow { 2 } else { 4 }) as u64;
            for index in 0..repeats.count {
                let mut one = Product { repeats: Repeats::ONCE, ..*product };
                one.left.address += bytes(product.operands, index * repeats.left);
                one.right.address += bytes(product.operands, index * repeats.right);
                one.out.0 += bytes(product.result, index * repeats.out);
                // SAFETY: the caller's promise.
                unsafe { self.multiply(&one)? };
            }
            return Ok(());
        }
        let (m, n, k) = product.sizes;
        // SAFETY: the caller's promise.
        let [left, right] = [(product.left, m, k), (product.right, k, n)]
            .map(|(matrix, rows, columns)| unsafe { values(matrix, product.operands, rows, columns) });
        let mut sums = vec![0.0; m * n];
        gemm(MatMut::new(&mut sums, m, n, n), false, 1.0, left.as_mat(), right.as_mat());
        let (address, stride) = product.out;
        for (row, sums) in sums.chunks_exact(n).enumerate() {
            for (column, &sum) in sums.iter().enumerate() {
                let at = row * stride + column;
                // SAFETY: the caller's promise.
                unsafe {
                    if product.result != Width::Narrow {
                        let out = (address as *mut f32).add(at);
                        *out = if product.accumulate { *out + sum } else { sum };
                    } else {
                        let out = (address as *mut bf16).add(at);
                        *out = bf16::from_f32(if product.accumulate { (*out).to_f32() + sum } else { sum });
                    }
                }
            }
        }
        Ok(())
    }
}

struct Altered {
    rest: Emulated,
    alter: Box<Alter>,
}

impl std::fmt::Debug for Altered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Altered")
    }
}

impl Backend for Altered {
    fn device(&self) -> &Device {
        self.rest.device()
    }

    fn describe(&self) -> String {
        self.rest.describe()
    }

    fn precision(&self) -> Precision {
        self.rest.precision()
    }

    fn multiprocessors(&self) -> u32 {
        self.rest.multiprocessors()
    }

    fn free_bytes(&self) -> Result<usize> {
        self.rest.free_bytes()
    }

    fn synchronize(&self) -> Result<()> {
        self.rest.synchronize()
    }

    unsafe fn launch(&self, launch: &Launch) -> Result<()> {
        // SAFETY: the caller's promise.
        (self.alter)(launch).unwrap_or_else(|| unsafe { self.rest.launch(launch) })
    }

    unsafe fn multiply(&self, product: &Product) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.rest.multiply(product) }
    }
}

/// Rounds to the ten bits of mantissa that tf32 has, to the nearest, ties to even.
fn tf32(x: f32) -> f32 {
    let bits = x.to_bits();
    if x.is_finite() { f32::from_bits((bits + 0xfff + (bits >> 13 & 1)) & !0x1fff) } else { x }
}

/// An operand as it lies in memory, in f32.
struct Operand {
    values: Vec<f32>,
    rows: usize,
    columns: usize,
    transposed: bool,
}

/// # Safety
/// The matrix lies in live memory.
unsafe fn values(matrix: Matrix, width: Width, rows: usize, columns: usize) -> Operand {
    let (rows, columns) = if matrix.transposed { (columns, rows) } else { (rows, columns) };
    let mut values = Vec::with_capacity(rows * columns);
    for row in 0..rows {
        let first = row * matrix.stride;
        // SAFETY: the caller's promise.
        unsafe {
            match width {
                Width::Wide | Width::Rounded => {
                    let row = std::slice::from_raw_parts((matrix.address as *const f32).add(first), columns);
                    values.extend(row.iter().map(|&value| if width == Width::Rounded { tf32(value) } else { value }));
                }
                Width::Narrow => {
                    let row = std::slice::from_raw_parts((matrix.address as *const bf16).add(first), columns);
                    values.extend(row.iter().map(|value| value.to_f32()));
                }
            }
        }
    }
    Operand { values, rows, columns, transposed: matrix.transposed }
}

impl Operand {
    fn as_mat(&self) -> Mat<'_, f32> {
        let mat = Mat::new(&self.values, self.rows, self.columns, self.columns);
        if self.transposed { mat.t() } else { mat }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Tensor;

    use super::*;
    use crate::gpu::address::element;

    /// Goal: what would hang or be undefined on a GPU is an error here. Method: a barrier and a shuffle that not all threads reach, a kernel that is
    /// not there, a block of half a warp; then one that is right.
    #[test]
    fn broken_kernels_are_refused() {
        let gpu = gpu();
        let x = Tensor::new(&[1.0f32, 2.0], gpu.device()).unwrap();
        let run = |kernel: &str, threads| {
            let launch = Launch::new(kernel, [1, 1, 1], threads).with(element(&x, 0).unwrap());
            // SAFETY: the kernels take the address of one float.
            unsafe { gpu.backend().launch(&launch) }.unwrap_err().to_string()
        };
        assert!(run("barrier_of_some", 64).contains("kernel barrier_of_some: some threads of a block ended before a barrier"));
        assert!(run("shuffle_of_some", 64).contains("some lanes of a warp never reach an operation"));
        assert!(run("no_such_kernel", 64).contains("there is no such kernel"));
        assert!(run("barrier_of_some", 16).contains("whole warps"));
        let (to, from) = (element(&x, 1).unwrap(), element(&x, 0).unwrap());
        let copy = Launch::new("copy_vector", [1, 1, 1], 32).with(to).with(from).count(1);
        // SAFETY: both addresses are of one float.
        unsafe { gpu.backend().launch(&copy).unwrap() };
        assert_eq!(x.to_vec1::<f32>().unwrap(), [1.0, 1.0]);
    }
}
