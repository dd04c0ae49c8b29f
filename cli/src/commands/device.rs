//! What a run computes on, as this machine stands to it: said at its start and by `artel check`.

use std::path::Path;

use artel_common::spec::{DeviceKind, RunSpec, WorkersSection};
use artel_trainer::gpu;

use crate::failure::Failure;

/// There where a driver of NVIDIA's is.
const DRIVER: &str = "/proc/driver/nvidia/version";

/// GPUs of this machine, where the spec computes on GPUs. Where neither it nor a flag says how many workers there are, each GPU gets one.
///
/// # Errors
/// More GPUs than workers can take part.
pub fn share_out(spec: &mut RunSpec, is_counted: bool) -> Result<usize, Failure> {
    if spec.workers.device == DeviceKind::Cpu {
        return Ok(0);
    }
    let gpus = gpu::count();
    if spec.workers.every_gpu && !is_counted && gpus > 1 {
        spec.override_workers(gpus)?;
    }
    Ok(gpus)
}

/// What computes, in words: the device, how it was chosen, how many workers there are.
pub fn words(section: &WorkersSection, gpus: usize) -> String {
    let workers = section.count;
    let s = |count: usize| if count == 1 { "" } else { "s" };
    match section.device {
        DeviceKind::Cuda if gpus == 0 => format!("GPUs, {workers} worker{}; this machine shows none to this build", s(workers)),
        DeviceKind::Cuda => {
            let share =
                if workers == gpus { format!("{gpus} GPU{}", s(gpus)) } else { format!("{workers} of {gpus} GPU{}", s(gpus)) };
            format!("{share}, {workers} worker{}", s(workers))
        }
        DeviceKind::Cpu => {
            let why = if section.device_found { unused(gpu::trouble()) } else { String::new() };
            format!("CPU, {workers} worker{}{why}", s(workers))
        }
    }
}

/// Why the CPU was found, and not a GPU.
fn unused(trouble: Option<String>) -> String {
    match (trouble, gpu::BUILT, Path::new(DRIVER).exists()) {
        (Some(trouble), ..) => format!("; warning: GPUs cannot be used: {trouble}"),
        (None, false, true) => {
            "; there is an NVIDIA driver, and this artel was built without GPUs: see docs/guides/gpu.md".to_owned()
        }
        (None, true, true) => {
            "; there is an NVIDIA driver, and it shows no GPU to this process: see `artel doctor --gpu`".to_owned()
        }
        (None, _, false) => "; the spec leaves the device open, and this machine shows no GPU".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what computes is said for each device. Method: sections of both, with and without GPUs.
    #[test]
    fn devices_in_words() {
        let section = |device: &str, count: usize| {
            let text =
                format!("[data]\npairs = \"p\"\n[model]\nbase = \"b\"\n[workers]\ndevice = \"{device}\"\ncount = {count}\n");
            RunSpec::parse(&text, "s.toml").unwrap().0.workers
        };
        for (device, count, gpus, expected) in [
            ("cpu", 1, 0, "CPU, 1 worker"),
            ("cpu", 2, 0, "CPU, 2 workers"),
            ("cuda", 8, 8, "8 GPUs, 8 workers"),
            ("cuda", 1, 1, "1 GPU, 1 worker"),
            ("cuda", 2, 8, "2 of 8 GPUs, 2 workers"),
            ("cuda", 16, 0, "GPUs, 16 workers; this machine shows none to this build"),
        ] {
            assert_eq!(words(&section(device, count), gpus), expected);
        }
        assert!(
            unused(Some("the driver is of another version".to_owned())).contains("warning: GPUs cannot be used: the driver is")
        );
    }
}
