//! The machine: processor, memory, files, GPU.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use artel_common::memory::{self, Memory};
use artel_trainer::{kernels, speed};
use rustix::process::Resource;
use serde::Serialize;

use super::proc;
use crate::failure::Failure;

/// How long each speed is measured.
const MEASURED: Duration = Duration::from_millis(300);
/// Bounds of the memory that the bandwidth is measured over; at most an eighth of what is available besides.
const LEAST_TRIAD_BYTES: u64 = 128 << 20;
const MOST_TRIAD_BYTES: u64 = 1 << 30;
/// Where the system keeps libcuda.so.1, beside the folders of `LD_LIBRARY_PATH`.
const LIBRARY_FOLDERS: [&str; 7] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/lib/wsl/lib",
    "/usr/local/nvidia/lib64",
    "/usr/local/cuda/compat",
];

/// What the machine is, and how fast.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub cpu: Cpu,
    pub memory: MemoryFacts,
    pub files: Files,
    pub gpu: Gpu,
}

/// The processor.
#[derive(Debug, Clone, Serialize)]
pub struct Cpu {
    pub model: Option<String>,
    /// Those that this process may use.
    pub cores: usize,
    /// All that the machine has.
    pub machine_cores: Option<usize>,
    /// Threads that wanted to run, over the minute before: others' work, which lowers what is measured.
    pub load_average: Option<f64>,
    /// Whether the processor has each of the features that the kernels ask for.
    pub features: BTreeMap<&'static str, bool>,
    /// `avx512`, `avx2` or `baseline`.
    pub kernel_path: &'static str,
    /// What multiplies matrices.
    pub matrix_library: &'static str,
    pub one_thread_gflops: f64,
    /// On `cores` threads.
    pub all_threads_gflops: f64,
}

/// Memory; figures that the system does not tell are left out.
#[derive(Debug, Clone, Serialize)]
pub struct MemoryFacts {
    pub total_bytes: Option<u64>,
    pub available_bytes: Option<u64>,
    /// The least limit of the cgroups around this process.
    pub cgroup_limit_bytes: Option<u64>,
    /// What one worker on this machine plans with where its spec sets no `memory_limit`.
    pub worker_bytes: u64,
    pub bandwidth_gb_per_s: f64,
    /// What the bandwidth was measured over.
    pub measured_over_bytes: u64,
}

/// Open files and room for temporary ones.
#[derive(Debug, Clone, Serialize)]
pub struct Files {
    /// `None` for no limit.
    pub open_files_limit: Option<u64>,
    pub temp_folder: PathBuf,
    pub temp_free_bytes: Option<u64>,
}

/// A GPU's driver.
#[derive(Debug, Clone, Serialize)]
pub struct Gpu {
    pub used: bool,
    pub driver_version: Option<String>,
    pub libcuda: Option<PathBuf>,
}

impl Machine {
    /// Looks, and measures for about a second.
    ///
    /// # Errors
    /// A measurement fails.
    pub fn examine(cores: usize) -> Result<Self, Failure> {
        let memory = Memory::read();
        let spare = memory.map_or(LEAST_TRIAD_BYTES, |memory| memory.available_bytes / 8);
        let bytes = (4 * last_cache_bytes()).clamp(LEAST_TRIAD_BYTES, MOST_TRIAD_BYTES).min(spare);
        Ok(Self {
            cpu: Cpu::examine(cores, spare)?,
            memory: MemoryFacts {
                total_bytes: memory.map(|memory| memory.total_bytes),
                available_bytes: memory.map(|memory| memory.available_bytes),
                cgroup_limit_bytes: memory.and_then(|memory| memory.limit_bytes),
                worker_bytes: memory::worker_bytes(1),
                bandwidth_gb_per_s: rounded(speed::triad_bytes_per_second(cores, bytes as usize, MEASURED)? / 1e9),
                measured_over_bytes: bytes,
            },
            files: Files::examine(),
            gpu: Gpu::examine(),
        })
    }
}

impl Cpu {
    fn examine(cores: usize, spare: u64) -> Result<Self, Failure> {
        let (model, machine_cores) = proc::cpuinfo(&text("/proc/cpuinfo"));
        let load_average = text("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok());
        let one = speed::products_per_second(1, spare as usize, MEASURED)?;
        let all = if cores > 1 { speed::products_per_second(cores, spare as usize, MEASURED)? } else { one };
        Ok(Self {
            model,
            cores,
            machine_cores,
            load_average,
            features: features(),
            kernel_path: kernels::kernel_path(),
            matrix_library: "gemm (f32)",
            one_thread_gflops: rounded(one / 1e9),
            all_threads_gflops: rounded(all / 1e9),
        })
    }
}

impl Files {
    fn examine() -> Self {
        let temp_folder = std::env::temp_dir();
        let free = rustix::fs::statvfs(&temp_folder).ok().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
        let open_files_limit = rustix::process::getrlimit(Resource::Nofile).current;
        Self { open_files_limit, temp_folder, temp_free_bytes: free }
    }
}

impl Gpu {
    fn examine() -> Self {
        let version = text("/proc/driver/nvidia/version");
        let own = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
        let folders = std::env::split_paths(&own).chain(LIBRARY_FOLDERS.iter().map(PathBuf::from));
        let libcuda = folders.map(|folder| folder.join("libcuda.so.1")).find(|path| path.is_absolute() && path.exists());
        Self { used: artel_trainer::gpu::BUILT, driver_version: proc::nvidia_version(&version).map(str::to_owned), libcuda }
    }
}

/// Three digits say enough of what was measured in a moment.
pub(super) fn rounded(value: f64) -> f64 {
    let scale = 10_f64.powf((2.0 - value.abs().max(1e-9).log10().floor()).max(0.0));
    (value * scale).round() / scale
}

fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[cfg(target_arch = "x86_64")]
fn features() -> BTreeMap<&'static str, bool> {
    use std::arch::is_x86_feature_detected as has;
    BTreeMap::from([
        ("avx2", has!("avx2")),
        ("fma", has!("fma")),
        ("bmi1", has!("bmi1")),
        ("bmi2", has!("bmi2")),
        ("avx512f", has!("avx512f")),
        ("avx512bw", has!("avx512bw")),
        ("avx512cd", has!("avx512cd")),
        ("avx512dq", has!("avx512dq")),
        ("avx512vl", has!("avx512vl")),
    ])
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> BTreeMap<&'static str, bool> {
    BTreeMap::new()
}

/// All last-level caches (L3) of the machine together, each counted once; 0 where the system does not tell.
fn last_cache_bytes() -> u64 {
    let mut caches = BTreeMap::new();
    let cpus = std::fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    for cpu in cpus.map(|entry| entry.path()) {
        let read = |name: &str| std::fs::read_to_string(cpu.join(Path::new("cache/index3").join(name)));
        if let (Ok(shared), Ok(size)) = (read("shared_cpu_list"), read("size")) {
            caches.insert(shared, proc::cache_bytes(&size).unwrap_or(0));
        }
    }
    caches.values().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: figures keep three digits. Method: one of each size.
    #[test]
    fn three_digits() {
        let shown = [1234.6, 123.46, 52.4001, 0.012_346, 0.0].map(|value| format!("{}", rounded(value)));
        assert_eq!(shown, ["1235", "123", "52.4", "0.0123", "0"]);
    }
}
