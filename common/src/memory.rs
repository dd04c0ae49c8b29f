//! How much memory processes really take (proportional set size, so that shared pages count once), and how much there is.

mod cgroup;

/// Share of the memory at hand that the workers of a machine plan with where their spec sets no `memory_limit`.
const WORKERS_SHARE: f64 = 0.8;
/// Taken to be at hand where the system does not tell.
const ASSUMED_BYTES: u64 = 4 << 30;

/// The memory of this machine, as this process may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// The machine's own.
    pub total_bytes: u64,
    /// What is left of it, and of the cgroup's limit.
    pub available_bytes: u64,
    /// The least limit of this process's cgroup and those around it, if one is set.
    pub limit_bytes: Option<u64>,
}

impl Memory {
    /// Asks the system; `None` where it does not tell (no Linux).
    pub fn read() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/meminfo").ok()?;
        let (total_bytes, free) = (field_bytes(&text, "MemTotal:")?, field_bytes(&text, "MemAvailable:")?);
        // a limit beyond what the machine has limits nothing
        let levels: Vec<_> = cgroup::levels().into_iter().filter(|level| level.limit_bytes < total_bytes).collect();
        Some(Self {
            total_bytes,
            available_bytes: levels.iter().map(cgroup::Level::free_bytes).min().unwrap_or(free).min(free),
            limit_bytes: levels.iter().map(|level| level.limit_bytes).min(),
        })
    }
}

/// Gives the system what this process has freed: allocators keep it for what comes next.
pub fn give_back() {
    // SAFETY: it touches nothing but the allocator's free memory, under its lock
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The PSS of a process in bytes, or `None` where the system does not tell (no Linux, gone, not ours).
pub fn pss_bytes(pid: u32) -> Option<u64> {
    field_bytes(&std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?, "Pss:")
}

/// Readings of a [`Gauge`] from one count of the shared pages to the next.
const READINGS_A_COUNT: u32 = 64;

/// The PSS of this process, to be read often: the kernel walks every page to count what is shared, so that is done seldom,
/// while the pages of its own are in a counter.
#[derive(Debug, Default)]
pub struct Gauge {
    readings: u32,
    shared_bytes: u64,
}

impl Gauge {
    /// The PSS in bytes, its part of files as of a while ago; `None` where the system does not tell (no Linux).
    pub fn read(&mut self) -> Option<u64> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let Some(own_bytes) = field_bytes(&status, "RssAnon:") else { return pss_bytes(std::process::id()) };
        if self.readings.is_multiple_of(READINGS_A_COUNT) {
            let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").ok()?;
            let part = |name: &str| field_bytes(&rollup, name).unwrap_or(0);
            self.shared_bytes = part("Pss_File:") + part("Pss_Shmem:");
        }
        self.readings = self.readings.wrapping_add(1);
        Some(own_bytes + self.shared_bytes)
    }
}

/// Memory that this machine (or the cgroup) still has, in bytes.
pub fn available_bytes() -> Option<u64> {
    Memory::read().map(|memory| memory.available_bytes)
}

/// What each of this many workers of a machine plans with where their spec sets no `memory_limit`, in bytes.
pub fn worker_bytes(local_workers: usize) -> u64 {
    (available_bytes().unwrap_or(ASSUMED_BYTES) as f64 * WORKERS_SHARE / local_workers.max(1) as f64) as u64
}

/// The value of a line `NAME VALUE kB` in bytes.
fn field_bytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the figure is of the right size. Method: this very process has between 1 MiB and 100 GiB.
    #[test]
    fn own_process() {
        let pss = pss_bytes(std::process::id()).expect("Linux tells its own processes");
        assert!((1 << 20..100 << 30).contains(&pss), "{pss}");
    }

    /// Goal: the gauge tells what the kernel counts, also between its counts. Method: both, before and after 64 MiB more.
    #[test]
    fn gauge() {
        let mut gauge = Gauge::default();
        let before = gauge.read().expect("Linux tells its own processes");
        let held = std::hint::black_box(vec![1u8; 64 << 20]);
        let (after, counted) = (gauge.read().unwrap(), pss_bytes(std::process::id()).unwrap());
        drop(held);
        assert!((60 << 20..80 << 20).contains(&(after - before)), "{before} {after}");
        assert!(after.abs_diff(counted) < 16 << 20, "{after} {counted}");
    }

    /// Goal: the machine's figures fit together. Method: read them; two workers plan with half of what one does.
    #[test]
    fn own_machine() {
        let memory = Memory::read().expect("Linux tells its memory");
        assert!((1..=memory.total_bytes).contains(&memory.available_bytes), "{memory:?}");
        assert!(memory.limit_bytes.is_none_or(|limit| limit < memory.total_bytes && memory.available_bytes <= limit));
        let (one, two) = (worker_bytes(1) as f64, worker_bytes(2) as f64);
        assert!(one < memory.total_bytes as f64 && (0.3..0.8).contains(&(two / one)), "{one} {two}");
    }
}
