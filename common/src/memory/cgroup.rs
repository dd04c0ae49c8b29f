//! The memory limits of this process's cgroup and of those around it, of either version.

use std::path::{Path, PathBuf};

/// From here on a version 1 limit is the kernel's word for none.
const NO_LIMIT_BYTES: u64 = 1 << 60;

/// A cgroup that limits memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level {
    pub limit_bytes: u64,
    /// What cannot be reclaimed at once.
    pub used_bytes: u64,
}

/// Names of the files of a version.
#[derive(PartialEq, Eq)]
struct Version {
    limit: &'static str,
    usage: &'static str,
    /// In `memory.stat`: the cache that nobody used of late, which the kernel drops before it refuses memory.
    inactive: &'static str,
}

const VERSION_1: Version =
    Version { limit: "memory.limit_in_bytes", usage: "memory.usage_in_bytes", inactive: "total_inactive_file " };
const VERSION_2: Version = Version { limit: "memory.max", usage: "memory.current", inactive: "inactive_file " };

impl Level {
    /// What the cgroup leaves free.
    pub(super) fn free_bytes(&self) -> u64 {
        self.limit_bytes.saturating_sub(self.used_bytes)
    }

    /// From the texts of a cgroup's files; `None` where it sets no limit.
    fn parse(version: &Version, limit: &str, usage: &str, stat: &str) -> Option<Self> {
        let limit_bytes = limit.trim().parse().ok().filter(|limit| *limit < NO_LIMIT_BYTES)?;
        let usage: u64 = usage.trim().parse().ok()?;
        let inactive = stat.lines().find_map(|line| line.strip_prefix(version.inactive)?.trim().parse().ok());
        Some(Self { limit_bytes, used_bytes: usage.saturating_sub(inactive.unwrap_or(0)) })
    }

    fn read(version: &Version, folder: &Path) -> Option<Self> {
        let text = |name: &str| std::fs::read_to_string(folder.join(name));
        let stat = text("memory.stat").unwrap_or_default();
        Self::parse(version, &text(version.limit).ok()?, &text(version.usage).ok()?, &stat)
    }
}

/// Every cgroup around this process that limits memory.
pub(super) fn levels() -> Vec<Level> {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let Some((version, folders)) = folders(&text("/proc/self/cgroup"), &text("/proc/self/mountinfo")) else {
        return Vec::new();
    };
    folders.iter().filter_map(|folder| Level::read(version, folder)).collect()
}

/// The folders of the process's memory cgroup, the innermost first, as far out as they are mounted. Where the memory
/// controller belongs to version 1, version 2 does not have it.
fn folders(cgroup: &str, mountinfo: &str) -> Option<(&'static Version, Vec<PathBuf>)> {
    let own = |wanted: &dyn Fn(&str) -> bool| {
        // "4:memory:/path", "0::/path"
        let parts = cgroup.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        parts.into_iter().find_map(|(controllers, path)| wanted(controllers).then_some(path))
    };
    let is_memory = |controllers: &str| controllers.split(',').any(|controller| controller == "memory");
    let (version, path) = match own(&is_memory) {
        Some(path) => (&VERSION_1, path),
        None => (&VERSION_2, own(&str::is_empty)?),
    };
    let (root, mount) = mountinfo.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let (kind, options) = kind.split_once(' ')?;
        let fits = match kind {
            "cgroup" => *version == VERSION_1 && is_memory(options.rsplit(' ').next()?),
            "cgroup2" => *version == VERSION_2,
            _ => false,
        };
        let mut fields = place.split(' ').skip(3);
        fits.then_some((fields.next()?, Path::new(fields.next()?)))
    })?;
    // a path that lies outside of what is mounted is that of a container's host: the mount itself is the process's own
    let inside = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
    let inside = if path.contains("/..") { Path::new("") } else { inside };
    Some((version, inside.ancestors().map(|part| mount.join(part)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNT_1: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const MOUNT_2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

    fn found(cgroup: &str, mountinfo: &str) -> (bool, Vec<String>) {
        let (version, folders) = folders(cgroup, mountinfo).expect("a memory cgroup");
        (*version == VERSION_2, folders.iter().map(|folder| folder.display().to_string()).collect())
    }

    /// Goal: the right folders are read. Method: both versions and a mix of them, a container that sees its own folder under its
    /// host's path, a path outside of the mount, a system without cgroups.
    #[test]
    fn folders_of_both_versions() {
        let (base, base_1) = ("/sys/fs/cgroup/", "/sys/fs/cgroup/memory/");
        let (two, parts) = found("9:name=systemd:/\n4:cpu,memory:/a/b\n0::/\n", MOUNT_1);
        assert_eq!((two, parts), (false, vec![format!("{base_1}a/b"), format!("{base_1}a"), base_1.to_owned()]));
        let (two, parts) = found("0::/user.slice/x.scope\n", MOUNT_2);
        let expected = vec![format!("{base}user.slice/x.scope"), format!("{base}user.slice"), base.to_owned()];
        assert_eq!((two, parts), (true, expected));
        let docker = MOUNT_1.replace("0:32 /", "0:32 /docker/1f");
        assert_eq!(found("4:memory:/docker/1f\n", &docker).1, [base_1]);
        assert_eq!(found("0::/../other\n", MOUNT_2).1, [base]);
        assert!(folders("", MOUNT_2).is_none() && folders("0::/\n", "").is_none());
    }

    /// Goal: limit and use are read as they are meant. Method: a limit with and without cache, the words of both versions for none.
    #[test]
    fn limits_of_both_versions() {
        let stat = "cache 9\ninactive_file 300\ntotal_inactive_file 400\n";
        let level = |version, limit| Level::parse(version, limit, "1000\n", stat);
        assert_eq!(level(&VERSION_2, "5000\n"), Some(Level { limit_bytes: 5000, used_bytes: 700 }));
        assert_eq!(level(&VERSION_1, "5000\n").map(|level| level.free_bytes()), Some(4400));
        assert_eq!(level(&VERSION_1, "500\n").map(|level| level.free_bytes()), Some(0));
        assert_eq!((level(&VERSION_2, "max\n"), level(&VERSION_1, "9223372036854771712\n")), (None, None));
    }
}
