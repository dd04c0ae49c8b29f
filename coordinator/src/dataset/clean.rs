//! Exact copies: rows whose anchor, positive and negatives all equal an earlier row's.

use std::collections::HashSet;

use artel_common::records::Pair;

/// Keeps the first of equal rows; how many were removed.
pub(super) fn remove_copies(pairs: &mut Vec<Pair>) -> u64 {
    let mut known = HashSet::with_capacity(pairs.len());
    let first: Vec<bool> = pairs.iter().map(|pair| known.insert((&pair.anchor, &pair.positive, &pair.negatives))).collect();
    drop(known);
    let before = pairs.len();
    let mut first = first.into_iter();
    pairs.retain(|_| first.next().expect("one flag a row"));
    (before - pairs.len()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: only whole copies go, and the first stays. Method: rows that differ in one column each.
    #[test]
    fn copies() {
        let pair = |id: &str, a: &str, p: &str, n: &str| Pair {
            id: id.into(),
            anchor: a.into(),
            positive: p.into(),
            negatives: vec![n.into()],
            group: Some(id.into()),
        };
        let mut pairs =
            vec![pair("0", "a", "p", "n"), pair("1", "a", "p", "m"), pair("2", "a", "p", "n"), pair("3", "b", "p", "n")];
        assert_eq!(remove_copies(&mut pairs), 1);
        assert_eq!(pairs.iter().map(|p| p.id.as_str()).collect::<Vec<_>>(), ["0", "1", "3"]);
    }
}
