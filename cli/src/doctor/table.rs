//! The findings for people: a title and a line each, problems last.

use artel_trainer::speed;

use super::machine::{Cpu, Files, Gpu, MemoryFacts};
use super::model::Facts;
use super::{Findings, GpuCheck, Model, StoreCheck};
use crate::text::{bytes, count, rate};

/// The lines.
pub fn lines(findings: &Findings) -> Vec<String> {
    let machine = &findings.machine;
    let mut rows = vec![("artel", format!("{}, {}", findings.version, kinds()))];
    rows.extend(of_cpu(&machine.cpu));
    rows.extend(of_memory(&machine.memory));
    rows.push(("files", of_files(&machine.files)));
    rows.push(("gpu", of_gpu(&machine.gpu)));
    rows.push(("documents", findings.documents.words()));
    rows.extend(findings.store.as_ref().map(|store| ("store", of_store(store))));
    rows.extend(findings.model.iter().flat_map(of_model));
    rows.extend(findings.gpu_check.iter().flat_map(of_gpu_check));
    let mut lines: Vec<String> = rows.into_iter().map(|(title, words)| format!("{title:<9} {words}")).collect();
    lines.extend(findings.problems.iter().map(|problem| format!("problem: {problem}")));
    if findings.problems.is_empty() {
        lines.push("no problem was found".to_owned());
    }
    lines
}

fn of_cpu(cpu: &Cpu) -> Vec<(&'static str, String)> {
    let model = cpu.model.as_deref().unwrap_or("of unknown make");
    let machine = cpu.machine_cores.map_or(String::new(), |all| format!(" of the machine's {}", count(all as u64)));
    let named =
        |present| cpu.features.iter().filter(|(_, has)| **has == present).map(|(name, _)| *name).collect::<Vec<_>>().join(" ");
    let [rows, inner, columns] = speed::PRODUCT;
    let (one, all) = (rate(cpu.one_thread_gflops), rate(cpu.all_threads_gflops));
    let product = format!("f32 products, {rows} x {inner} by {inner} x {columns}");
    let load = cpu.load_average.map_or(String::new(), |load| format!(", load average {}", rate(load)));
    let mut rows = vec![("cpu", format!("{model}, {}{machine} cores{load}", count(cpu.cores as u64)))];
    let (has, lacks) = (named(true), named(false));
    if !cpu.features.is_empty() {
        let lacks = if lacks.is_empty() { String::new() } else { format!("; not {lacks}") };
        rows.push(("features", format!("{has}{lacks}")));
    }
    rows.push(("kernels", format!("{}, matrix products by {}", cpu.kernel_path, cpu.matrix_library)));
    rows.push(("compute", format!("{one} GFLOP/s on one thread, {all} on {} ({product})", count(cpu.cores as u64))));
    rows
}

fn of_memory(memory: &MemoryFacts) -> Vec<(&'static str, String)> {
    let known = |value: Option<u64>| value.map_or("unknown".to_owned(), bytes);
    let limit = memory.cgroup_limit_bytes.map_or("no cgroup limit".to_owned(), |limit| format!("cgroup limit {}", bytes(limit)));
    let (total, available) = (known(memory.total_bytes), known(memory.available_bytes));
    let (speed, over) = (rate(memory.bandwidth_gb_per_s), bytes(memory.measured_over_bytes));
    vec![
        ("memory", format!("{total}, {available} available, {limit}")),
        (
            "planned",
            format!("{} by one worker, divided where there are more (or memory_limit of the spec)", bytes(memory.worker_bytes)),
        ),
        ("bandwidth", format!("{speed} GB/s on all threads (a = b + s c over {over})")),
    ]
}

fn of_files(files: &Files) -> String {
    let limit = files.open_files_limit.map_or("any number".to_owned(), count);
    let free = files.temp_free_bytes.map_or("unknown room".to_owned(), |free| format!("{} free", bytes(free)));
    format!("{limit} may be open at once; {free} in {}", files.temp_folder.display())
}

fn of_gpu(gpu: &Gpu) -> String {
    let found = match (&gpu.driver_version, &gpu.libcuda) {
        (Some(version), _) => format!("an NVIDIA driver is there, version {version}"),
        (None, Some(path)) => format!("an NVIDIA driver's library is there, {}", path.display()),
        (None, None) => "no NVIDIA driver was found".to_owned(),
    };
    let used = if gpu.used { "this build can use one" } else { "not used by this build" };
    format!("{used}; {found}")
}

/// What this build computes on.
fn kinds() -> &'static str {
    if artel_trainer::gpu::BUILT { "this build computes on the CPU and on NVIDIA GPUs" } else { "this build computes on the CPU" }
}

fn of_gpu_check(gpu: &GpuCheck) -> Vec<(&'static str, String)> {
    let mut rows: Vec<_> = gpu.device.iter().map(|device| ("device", device.clone())).collect();
    rows.push((
        "nccl",
        match &gpu.nccl {
            Ok(version) => version.clone(),
            Err(why) => format!("none, which several GPUs need: {why}"),
        },
    ));
    rows.extend(gpu.checks.iter().map(|check| {
        let verdict = if check.passed { "passed" } else { "FAILED" };
        ("check", format!("{verdict}: {}: {} ({} s)", check.name, check.found, check.seconds))
    }));
    rows
}

fn of_store(store: &StoreCheck) -> String {
    let took = &store.latency_ms;
    let steps = [("create", took.create), ("read", took.read), ("second create refused", took.refuse), ("delete", took.delete)];
    let steps = steps.iter().filter_map(|(name, ms)| ms.map(|ms| format!("{name} {} ms", rate(ms))));
    let steps = steps.collect::<Vec<_>>().join(", ");
    let verdict = if store.usable { "usable" } else { "not usable" };
    let separator = if steps.is_empty() { "" } else { ": " };
    format!("{} is {verdict}{separator}{steps}", store.url)
}

fn of_model(model: &Model) -> Vec<(&'static str, String)> {
    let path = model.path.display();
    let Some(facts) = &model.facts else { return vec![("model", format!("{path} is not usable"))] };
    let Facts { num_layers, num_heads, hidden_size, max_seq_length, pooling, .. } = facts;
    let normalized = if facts.normalize { ", normalised" } else { "" };
    let (parameters, vocabulary) = (count(facts.num_parameters as u64), count(facts.vocab_size as u64));
    let (tokenize, encode) = (rate(facts.tokenize_tokens_per_s), rate(facts.encode_tokens_per_s));
    vec![
        ("model", format!("{path}: {parameters} parameters, {num_layers} layers of width {hidden_size} with {num_heads} heads")),
        ("", format!("{vocabulary} words, texts of up to {max_seq_length} tokens, {pooling} pooling{normalized}")),
        ("tokenise", format!("{tokenize} tokens/s on one thread")),
        ("encode", format!("{encode} tokens/s on all threads")),
    ]
}
