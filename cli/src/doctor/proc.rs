//! What the files of `/proc` and `/sys` say, from their texts.

/// Model name and number of processors, from `/proc/cpuinfo`.
pub fn cpuinfo(text: &str) -> (Option<String>, Option<usize>) {
    let values = |name: &str| {
        let pairs = text.lines().filter_map(|line| line.split_once(':')).map(|(key, value)| (key.trim(), value.trim()));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).collect::<Vec<String>>()
    };
    let count = values("processor").len();
    (values("model name").into_iter().find(|name| !name.is_empty()), (count > 0).then_some(count))
}

/// Bytes of a cache, from its `size` in `/sys`: `32768K`.
pub fn cache_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, unit) = match text.strip_suffix('K') {
        Some(digits) => (digits, 1 << 10),
        None => text.strip_suffix('M').map_or((text, 1), |digits| (digits, 1 << 20)),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// The driver's version, from `/proc/driver/nvidia/version`.
pub fn nvidia_version(text: &str) -> Option<&str> {
    let line = text.lines().find(|line| line.starts_with("NVRM version:"))?;
    let is_version = |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    line.split_whitespace().find(is_version)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the processors are counted and named. Method: an x86-64 text of two, an ARM one without a name, none.
    #[test]
    fn processors() {
        let text = "processor\t: 0\nmodel\t\t: 1\nmodel name\t: AMD EPYC: 7B13\n\nprocessor\t: 1\nmodel name\t: AMD EPYC: 7B13\n";
        assert_eq!(cpuinfo(text), (Some("AMD EPYC: 7B13".to_owned()), Some(2)));
        assert_eq!(cpuinfo("processor\t: 0\nCPU part\t: 0xd0c\n"), (None, Some(1)));
        assert_eq!(cpuinfo(""), (None, None));
    }

    /// Goal: sizes of caches are read. Method: both units, none, and no number.
    #[test]
    fn caches() {
        assert_eq!(["32768K\n", "36M", "512", "?"].map(cache_bytes), [Some(32 << 20), Some(36 << 20), Some(512), None]);
    }

    /// Goal: the driver's version is found in both forms of its line. Method: the closed and the open module's.
    #[test]
    fn drivers() {
        let closed =
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version: 12.2.0\n";
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release Build  (dvs)\n";
        assert_eq!([closed, open, "GCC version: 12.2.0"].map(nvidia_version), [Some("550.54.15"), Some("570.86.10"), None]);
    }
}
