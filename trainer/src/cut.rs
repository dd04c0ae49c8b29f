//! How a batch is cut into leaves and micro-batches (SAME-3): a pure function of the rows' lengths, never of
//! memory, threads or workers.

use std::ops::Range;

/// Consecutive rows of a batch whose gradients are summed in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Rows of the batch.
    pub rows: Range<usize>,
    /// The same rows, cut into micro-batches.
    pub micro_batches: Vec<Range<usize>>,
}

/// Cuts `0..lens.len()` into `parts` consecutive ranges of as nearly equal sums as whole rows allow: boundary k
/// stands where the running sum is nearest to k/parts of the whole. Ranges may be empty.
fn cut_evenly(lens: &[usize], parts: usize) -> Vec<Range<usize>> {
    let total: usize = lens.iter().sum();
    let mut cuts = Vec::with_capacity(parts + 1);
    cuts.push(0);
    let (mut index, mut sum) = (0, 0);
    for k in 1..parts {
        // in units of 1/parts, so that nothing is rounded
        let target = k * total;
        while index < lens.len() && (sum + lens[index]) * parts <= target {
            sum += lens[index];
            index += 1;
        }
        // the running sum may stand beyond the target already, where a long row was taken for an earlier boundary
        if index < lens.len() && (sum + lens[index]) * parts + sum * parts < 2 * target {
            sum += lens[index];
            index += 1;
        }
        cuts.push(index);
    }
    cuts.push(lens.len());
    cuts.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

/// Cuts rows evenly into the fewest micro-batches of at most `limit` tokens; a longer row stands alone.
fn micro_batches(lens: &[usize], limit: usize) -> Vec<Range<usize>> {
    if lens.is_empty() {
        return Vec::new();
    }
    let total: usize = lens.iter().sum();
    let fits = |part: &Range<usize>| part.len() <= 1 || lens[part.clone()].iter().sum::<usize>() <= limit;
    for parts in total.div_ceil(limit.max(1)).max(1)..=lens.len() {
        let ranges = cut_evenly(lens, parts);
        if ranges.iter().all(fits) {
            return ranges.into_iter().filter(|range| !range.is_empty()).collect();
        }
    }
    (0..lens.len()).map(|row| row..row + 1).collect()
}

/// Deals a batch's rows, in order, to `num_leaves` leaves, and cuts each into micro-batches.
/// `lens` are the tokens of each row over all columns.
pub fn cut_batch(lens: &[usize], num_leaves: usize, micro_batch_tokens: usize) -> Vec<Leaf> {
    cut_evenly(lens, num_leaves)
        .into_iter()
        .map(|rows| {
            let within = micro_batches(&lens[rows.clone()], micro_batch_tokens);
            let micro_batches = within.into_iter().map(|part| rows.start + part.start..rows.start + part.end).collect();
            Leaf { rows, micro_batches }
        })
        .collect()
}

/// Packs texts for encoding: sorted by length, then cut greedily into groups of at most `limit` tokens.
/// Returns indices of texts; a pure function of the lengths.
pub fn pack_texts(lens: &[usize], limit: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lens.len()).collect();
    order.sort_by_key(|&index| (lens[index], index));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for index in order {
        if groups.is_empty() || lens[index] > room {
            groups.push(Vec::new());
            room = limit.max(lens[index]);
        }
        room -= lens[index];
        groups.last_mut().expect("a group was just made").push(index);
    }
    groups
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Goal: leaves and micro-batches hold every row once, in order, within the limit. Method: random lengths.
        #[test]
        fn cuts_are_partitions(lens in prop::collection::vec(1usize..700, 0..90), leaves in 1usize..20, limit in 1usize..2048) {
            let cut = cut_batch(&lens, leaves, limit);
            prop_assert_eq!(cut.len(), leaves);
            let rows: Vec<usize> = cut.iter().flat_map(|leaf| leaf.rows.clone()).collect();
            prop_assert_eq!(&rows, &(0..lens.len()).collect::<Vec<_>>());
            for leaf in &cut {
                let inner: Vec<usize> = leaf.micro_batches.iter().cloned().flatten().collect();
                prop_assert_eq!(inner, leaf.rows.clone().collect::<Vec<_>>());
                for part in &leaf.micro_batches {
                    prop_assert!(!part.is_empty());
                    prop_assert!(part.len() == 1 || lens[part.clone()].iter().sum::<usize>() <= limit);
                }
            }
        }

        /// Goal: a leaf is never further from its fair share than the longest row. Method: random lengths.
        #[test]
        fn leaves_are_even(lens in prop::collection::vec(1usize..300, 8..90), leaves in 1usize..9) {
            let total: usize = lens.iter().sum();
            let longest = lens.iter().max().copied().unwrap_or(0);
            for leaf in cut_batch(&lens, leaves, 1024) {
                let sum: usize = lens[leaf.rows].iter().sum();
                prop_assert!(sum * leaves <= total + longest * leaves && total <= sum * leaves + longest * leaves);
            }
        }

        /// Goal: packing holds every text once within the limit. Method: random lengths.
        #[test]
        fn packing_is_a_partition(lens in prop::collection::vec(1usize..700, 0..90), limit in 1usize..2048) {
            let groups = pack_texts(&lens, limit);
            let mut all: Vec<usize> = groups.iter().flatten().copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..lens.len()).collect::<Vec<_>>());
            for group in groups {
                prop_assert!(group.len() == 1 || group.iter().map(|&i| lens[i]).sum::<usize>() <= limit);
            }
        }
    }
}
