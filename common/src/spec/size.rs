//! Sizes as people write them: `2GB`, `1.5 GiB`, `800M`.

/// Bytes of a text such as `2GB` (powers of 1,000) or `2GiB`, `2Gi` (powers of 1,024); `None` if it is no size.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..split].parse().ok()?;
    let unit = text[split..].trim().to_ascii_lowercase();
    let power = match unit.chars().next() {
        None | Some('b') => 0,
        Some('k') => 1,
        Some('m') => 2,
        Some('g') => 3,
        Some('t') => 4,
        Some(_) => return None,
    };
    let base: f64 = match unit.get(1..).unwrap_or("") {
        "" => 1000.0,
        "b" if power > 0 => 1000.0,
        "i" | "ib" if power > 0 => 1024.0,
        _ => return None,
    };
    let bytes = number * base.powi(power);
    (bytes.is_finite() && bytes < i64::MAX as f64).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    /// Goal: sizes mean what they say. Method: one of each form, and texts that are none.
    #[test]
    fn forms() {
        assert_eq!(parse_bytes("2GB"), Some(2_000_000_000));
        assert_eq!(parse_bytes("1.5 GiB"), Some(1_610_612_736));
        assert_eq!(parse_bytes("800m"), Some(800_000_000));
        assert_eq!(parse_bytes("4Gi"), Some(4 << 30));
        assert_eq!(parse_bytes("123"), Some(123));
        assert_eq!(parse_bytes("123 B"), Some(123));
        for wrong in ["", "GB", "2 apples", "2GBs", "-1GB", "1..2GB", "2bi", "é", "9e9TB"] {
            assert_eq!(parse_bytes(wrong), None, "{wrong}");
        }
    }
}
