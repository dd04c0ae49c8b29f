//! A worker's threads stay near its GPU: where a machine has several NUMA nodes, launches and copies from the GPU's own node take less time.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// Where the system tells of devices, by their PCI addresses.
const DEVICES: &str = "/sys/bus/pci/devices";
/// Where it lists this process's threads.
const THREADS: &str = "/proc/self/task";
/// How often threads are looked for: those that begin meanwhile may have the set of one that was not yet bound.
const MOST_PASSES: usize = 3;

/// CPUs by their numbers.
type Cpus = BTreeSet<usize>;

/// Binds this process to the CPUs near this GPU, of those that it may use. Where nothing is known, or nothing would change, all stays as it was.
pub(crate) fn stay_near(pci_bus_id: &str) {
    match near(Path::new(DEVICES), pci_bus_id) {
        Err(error) => tracing::debug!("which CPUs are near GPU {pci_bus_id} is not known: {error}"),
        Ok(local) => match allowed(0).map(|present| chosen(&local, &present)) {
            Ok(None) => tracing::debug!("the process is bound as well as the CPUs near GPU {pci_bus_id} allow"),
            Ok(Some(cpus)) => match bind_process(&cpus) {
                Ok(()) => tracing::info!("threads stay on the {} CPUs near GPU {pci_bus_id}", cpus.len()),
                Err(error) => tracing::warn!("threads cannot be bound to the CPUs near GPU {pci_bus_id}: {error}"),
            },
            Err(error) => tracing::warn!("which CPUs this process may use is not known: {error}"),
        },
    }
}

/// The CPUs that the system calls local to a device.
fn near(devices: &Path, pci_bus_id: &str) -> io::Result<Cpus> {
    let path = devices.join(folder_name(pci_bus_id)).join("local_cpulist");
    let text = std::fs::read_to_string(&path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {text:?} is no list", path.display())))
}

/// A device's folder: small letters, and a domain of four digits, of which some drivers write eight.
fn folder_name(pci_bus_id: &str) -> String {
    let name = pci_bus_id.to_lowercase();
    match name.split_once(':') {
        Some((domain, rest)) if domain.len() > 4 => format!("{:0>4}:{rest}", domain.trim_start_matches('0')),
        _ => name,
    }
}

/// `0-15,32-47`; nothing for an empty text.
fn parse(text: &str) -> Option<Cpus> {
    let mut cpus = Cpus::new();
    for range in text.trim().split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= libc::CPU_SETSIZE as usize {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// What to bind to: a scheduler's or container's own binding counts, and where nothing would be left of it or nothing would change there is nothing to do.
fn chosen(near: &Cpus, present: &Cpus) -> Option<Cpus> {
    let both: Cpus = near.intersection(present).copied().collect();
    (!both.is_empty() && both != *present).then_some(both)
}

/// The CPUs that a thread may use; 0 is the calling one.
fn allowed(thread: libc::pid_t) -> io::Result<Cpus> {
    // SAFETY: the set is of the size that is said, and any bytes are one.
    let (result, set) = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        (libc::sched_getaffinity(thread, size_of::<libc::cpu_set_t>(), &raw mut set), set)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the numbers lie within the set.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect())
}

/// Binds all threads of this process.
fn bind_process(cpus: &Cpus) -> io::Result<()> {
    for _ in 0..MOST_PASSES {
        if !bind(threads()?, cpus)? {
            break;
        }
    }
    Ok(())
}

/// This process's threads.
fn threads() -> io::Result<Vec<libc::pid_t>> {
    let entries = std::fs::read_dir(THREADS)?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// Binds threads; whether one of them was not yet.
fn bind(threads: Vec<libc::pid_t>, cpus: &Cpus) -> io::Result<bool> {
    // SAFETY: zeros are an empty set, and numbers beyond it are passed over by `parse`.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        cpus.iter().for_each(|cpu| libc::CPU_SET(*cpu, &mut set));
        set
    };
    let mut changed = false;
    for thread in threads {
        if allowed(thread).is_ok_and(|has| has == *cpus) {
            continue;
        }
        // SAFETY: the set is of the size that is said.
        if unsafe { libc::sched_setaffinity(thread, size_of::<libc::cpu_set_t>(), &raw const set) } == 0 {
            changed = true;
            continue;
        }
        let error = io::Error::last_os_error();
        // a thread that has ended meanwhile needs no binding
        if error.raw_os_error() != Some(libc::ESRCH) {
            return Err(error);
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn cpus(numbers: impl IntoIterator<Item = usize>) -> Cpus {
        numbers.into_iter().collect()
    }

    /// Goal: lists of CPUs are read as the system writes them, and nothing else is. Method: lists, good and bad.
    #[test]
    fn lists_of_cpus() {
        assert_eq!(parse("0-2,8-9\n"), Some(cpus([0, 1, 2, 8, 9])));
        assert_eq!(parse("7\n"), Some(cpus([7])));
        assert_eq!(parse("\n"), Some(cpus([])));
        for bad in ["x", "3-1", "1-", "-1", "0-99999", "0;1"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    /// Goal: near CPUs are taken of those that are allowed, and nothing is done where that is nothing or all. Method: a folder that stands in for the system's,
    /// and bindings of a scheduler.
    #[test]
    fn near_and_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("0000:3b:00.0");
        std::fs::create_dir(&device).unwrap();
        std::fs::write(device.join("local_cpulist"), "0-3,8-11\n").unwrap();
        let found = near(folder.path(), "00000000:3B:00.0").unwrap();
        assert_eq!(found, near(folder.path(), "0000:3B:00.0").unwrap());
        assert_eq!(chosen(&found, &cpus(0..16)), Some(cpus([0, 1, 2, 3, 8, 9, 10, 11])));
        assert_eq!(chosen(&found, &cpus([2, 3, 4])), Some(cpus([2, 3])));
        for nothing in [cpus([2, 3]), cpus([4, 5]), found.clone()] {
            assert_eq!(chosen(&found, &nothing), None);
        }
        assert_eq!(chosen(&cpus([]), &cpus(0..16)), None);
        assert!(near(folder.path(), "0000:3c:00.0").unwrap_err().to_string().contains("0000:3c:00.0"));
        std::fs::write(device.join("local_cpulist"), "all").unwrap();
        assert!(near(folder.path(), "0000:3b:00.0").unwrap_err().to_string().contains("is no list"));
    }

    /// Goal: threads of this process get the set, those that they begin too, and one that is gone is no failure. Method: a thread that waits is bound to one CPU
    /// and then begins another.
    #[test]
    fn threads_are_bound() {
        let (tell, told) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            // SAFETY: it only gives a number.
            tell.send(unsafe { libc::gettid() }).unwrap();
            wait.recv().unwrap();
            std::thread::spawn(|| allowed(0).unwrap()).join().unwrap()
        });
        let id = told.recv().unwrap();
        assert!(threads().unwrap().contains(&id));
        let one = cpus(allowed(0).unwrap().into_iter().take(1));
        let others = allowed(0).unwrap();
        let was_not = allowed(id).unwrap() != one;
        assert_eq!(bind(vec![id, libc::pid_t::MAX], &one).unwrap(), was_not);
        assert!(!bind(vec![id], &one).unwrap(), "it is bound already");
        assert_eq!(allowed(id).unwrap(), one);
        go.send(()).unwrap();
        assert_eq!(thread.join().unwrap(), one);
        assert_eq!(allowed(0).unwrap(), others, "other threads stay as they were");
    }
}
