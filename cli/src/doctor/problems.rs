//! What is wrong with a machine, and what to do: a pure function of what was found.

use super::machine::{Files, Machine, MemoryFacts};
use crate::text::{bytes, count};

/// A load beyond this share of the cores takes from what is measured.
const BUSY_SHARE: f64 = 0.5;
/// Less memory than this is little for a worker.
const LITTLE_MEMORY_BYTES: u64 = 2 << 30;
/// Fewer open files than this are unusual.
const FEW_OPEN_FILES: u64 = 1024;
/// Less room for temporary files than this may not hold a base model.
const LITTLE_ROOM_BYTES: u64 = 2 << 30;

/// Each problem as `what is wrong; what to do`, the gravest for speed first.
pub fn of_machine(machine: &Machine, is_debug_build: bool) -> Vec<String> {
    let cpu = &machine.cpu;
    let mut problems = Vec::new();
    if is_debug_build {
        problems.push("this build is for development and slower than it could be; build with `cargo build --release`".to_owned());
    }
    if cpu.kernel_path == "baseline" {
        let what = "the kernels take the slow baseline path, because the processor has not all of AVX2, FMA, BMI1 and BMI2";
        let advice = "use an x86-64 machine with AVX2, or let the virtual machine show its host's processor (QEMU: -cpu host)";
        problems.push(format!("{what}; {advice}"));
    }
    if let Some(all) = cpu.machine_cores.filter(|all| *all > cpu.cores) {
        let what =
            format!("this process may use {} of the machine's {all} cores (its affinity or its cgroup's quota)", cpu.cores);
        problems.push(format!("{what}; raise the container's CPU limit where a run should have more"));
    }
    let all = cpu.machine_cores.unwrap_or(cpu.cores);
    if let Some(load) = cpu.load_average.filter(|load| *load > all as f64 * BUSY_SHARE) {
        let what = format!("other programs keep the machine busy (load average {load:.1} on {all} cores)");
        problems.push(format!("{what}, so speeds are lower than they could be; end them, or look again later"));
    }
    problems.extend(of_memory(&machine.memory));
    problems.extend(of_files(&machine.files));
    problems
}

fn of_memory(memory: &MemoryFacts) -> Option<String> {
    let available = memory.available_bytes.filter(|available| *available < LITTLE_MEMORY_BYTES)?;
    let limit = memory.cgroup_limit_bytes.map_or(String::new(), |limit| format!(" of a cgroup's limit of {}", bytes(limit)));
    let advice = "end other programs or raise the limit; else take a small model and one worker with one or two threads";
    Some(format!("only {} of memory are available{limit}; {advice}", bytes(available)))
}

fn of_files(files: &Files) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(limit) = files.open_files_limit.filter(|limit| *limit < FEW_OPEN_FILES) {
        problems.push(format!("only {} files may be open at once; raise it with `ulimit -n 4096`", count(limit)));
    }
    let folder = files.temp_folder.display();
    match files.temp_free_bytes {
        None => problems.push(format!("the folder for temporary files, {folder}, cannot be looked at; make it, or set TMPDIR")),
        Some(free) if free < LITTLE_ROOM_BYTES => {
            let what = format!("only {} are free in {folder}, where workers unpack the base model", bytes(free));
            problems.push(format!("{what}; free some, or set TMPDIR to a folder with more room"));
        }
        Some(_) => {}
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::machine::{Cpu, Gpu};

    fn good() -> Machine {
        Machine {
            cpu: Cpu {
                model: None,
                cores: 8,
                machine_cores: Some(8),
                load_average: Some(3.9),
                features: [].into(),
                kernel_path: "avx2",
                matrix_library: "gemm (f32)",
                one_thread_gflops: 60.0,
                all_threads_gflops: 400.0,
            },
            memory: MemoryFacts {
                total_bytes: Some(16 << 30),
                available_bytes: Some(8 << 30),
                cgroup_limit_bytes: None,
                worker_bytes: 6 << 30,
                bandwidth_gb_per_s: 20.0,
                measured_over_bytes: 128 << 20,
            },
            files: Files { open_files_limit: None, temp_folder: "/tmp".into(), temp_free_bytes: Some(9 << 30) },
            gpu: Gpu { used: false, driver_version: None, libcuda: None },
        }
    }

    fn judged(change: impl FnOnce(&mut Machine)) -> Vec<String> {
        let mut machine = good();
        change(&mut machine);
        of_machine(&machine, false)
    }

    /// Goal: a good machine has no problem, also where the system does not tell. Method: one that has everything, one that is silent.
    #[test]
    fn nothing_is_made_up() {
        assert_eq!(judged(|_| ()), Vec::<String>::new());
        let silent = judged(|machine| {
            machine.cpu.machine_cores = None;
            machine.cpu.load_average = None;
            machine.memory.available_bytes = None;
        });
        assert_eq!(silent, Vec::<String>::new());
    }

    /// Goal: each problem is told alone, with what to do. Method: one change at a time.
    #[test]
    fn each_problem_is_told() {
        type Change = fn(&mut Machine);
        let cases: [(Change, &str); 8] = [
            (|machine| machine.cpu.kernel_path = "baseline", "-cpu host"),
            (|machine| machine.cpu.machine_cores = Some(64), "8 of the machine's 64 cores"),
            (|machine| machine.cpu.load_average = Some(4.1), "load average 4.1 on 8 cores"),
            (|machine| machine.memory.available_bytes = Some(1 << 30), "only 1.1 GB of memory are available;"),
            (
                |machine| {
                    machine.memory.available_bytes = Some(1 << 30);
                    machine.memory.cgroup_limit_bytes = Some(3_000_000_000);
                },
                "limit of 3.0 GB;",
            ),
            (|machine| machine.files.open_files_limit = Some(256), "ulimit -n"),
            (|machine| machine.files.temp_free_bytes = Some(1), "only 1 B are free in /tmp"),
            (|machine| machine.files.temp_free_bytes = None, "TMPDIR"),
        ];
        for (change, words) in cases {
            let problems = judged(change);
            assert!(problems.len() == 1 && problems[0].contains(words) && problems[0].contains("; "), "{words}: {problems:?}");
        }
        assert!(of_machine(&good(), true)[0].contains("--release"));
    }
}
