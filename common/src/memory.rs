//! How much memory processes really take: proportional set size (PSS), so that shared pages count once.

/// The PSS of a process in bytes, or `None` where the system does not tell (no Linux, gone, not ours).
pub fn pss_bytes(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Pss:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Memory that this machine (or the cgroup) still has, in bytes.
pub fn available_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    let free = kib * 1024;
    Some(cgroup_free_bytes().map_or(free, |cgroup| cgroup.min(free)))
}

/// What the cgroup (v2) of this process leaves free, in bytes, if it sets a limit.
fn cgroup_free_bytes() -> Option<u64> {
    let limit: u64 = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok()?.trim().parse().ok()?;
    let used: u64 = std::fs::read_to_string("/sys/fs/cgroup/memory.current").ok()?.trim().parse().ok()?;
    Some(limit.saturating_sub(used))
}

#[cfg(test)]
mod tests {
    /// Goal: the figure is of the right size. Method: this very process has between 1 MiB and 100 GiB.
    #[test]
    fn own_process() {
        let pss = super::pss_bytes(std::process::id()).expect("Linux tells its own processes");
        assert!((1 << 20..100 << 30).contains(&pss), "{pss}");
    }
}
