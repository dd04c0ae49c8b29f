//! Ids that differ: the evaluation tells queries and documents apart by them.

use std::collections::{HashMap, HashSet};

use artel_common::records::Pair;

/// Gives each row whose id an earlier row has an id of its own (`ID#2`, `ID#3`, ...); how many got one.
///
/// Files that were written one by one count from 0 each, so repeated ids are common, and refusing them would help nobody;
/// taking the later row for the earlier one, as a dictionary does, would lose rows.
pub(crate) fn make_unique(pairs: &mut [Pair]) -> u64 {
    let mut taken: HashSet<String> = HashSet::with_capacity(pairs.len());
    let mut repeated = Vec::new();
    for (index, pair) in pairs.iter().enumerate() {
        if !taken.insert(pair.id.clone()) {
            repeated.push(index);
        }
    }
    let mut next: HashMap<String, u64> = HashMap::new();
    for &index in &repeated {
        let id = std::mem::take(&mut pairs[index].id);
        let number = next.entry(id.clone()).or_insert(2);
        loop {
            let candidate = format!("{id}#{number}");
            *number += 1;
            if taken.insert(candidate.clone()) {
                pairs[index].id = candidate;
                break;
            }
        }
    }
    repeated.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: ids end up unique, and those that were are kept. Method: repeats, and a row that already has the id that a repeat would get.
    #[test]
    fn repeats_are_numbered() {
        let pair = |id: &str| Pair { id: id.into(), anchor: "a".into(), positive: "b".into(), negatives: vec![], group: None };
        let mut pairs: Vec<_> = ["0", "1", "0", "0#2", "0", "1"].map(pair).into();
        assert_eq!(make_unique(&mut pairs), 3);
        assert_eq!(pairs.iter().map(|p| p.id.as_str()).collect::<Vec<_>>(), ["0", "1", "0#3", "0#2", "0#4", "1#2"]);
    }
}
