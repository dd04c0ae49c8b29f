//! Near-duplicates: texts whose sets of word 5-grams have a Jaccard index of at least a threshold. All of them, exactly.
//!
//! A set's members are put into one order for all texts, rare ones first. Two sets of sizes x >= y are alike at threshold t only
//! if they share at least a = t / (1 + t) * (x + y) members, hence only if they share one among the first x - a + 1 of the
//! one and the first y - a + 1 of the other (prefix filtering: Bayardo, Ma, Srikant, "Scaling up all pairs similarity
//! search", 2007; Xiao et al., "Efficient similarity joins for near duplicate detection", 2008). Taking texts by
//! ascending size, a text is looked up by its first x - tx + 1 members and filed under its first y - 2t / (1 + t) * y + 1.
//! A 5-gram that only one text has can match nothing and is counted, not stored: of texts that share nothing, nothing is kept.

use std::collections::HashMap;

use super::union::Union;
use super::words::Words;

/// Bytes of text for each slot of the table of counts.
const TEXT_BYTES_PER_SLOT: usize = 4;
const MIN_SLOTS: usize = 1 << 12;
const MAX_SLOTS: usize = 1 << 26;

/// The shingle sets of a list of texts, ready to be compared.
pub(super) struct ShingleSets {
    sets: Vec<Set>,
    /// Members that several texts may have: 16 bits of how many, 48 of hash; ascending within a set.
    members: Vec<u64>,
    /// Sets by ascending size.
    by_size: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Set {
    /// Members, stored or not.
    size: u32,
    start: usize,
    end: usize,
}

impl Set {
    /// Members that no other text has; they come first in the order.
    fn num_single(&self) -> usize {
        self.size as usize - (self.end - self.start)
    }
}

/// Texts that have a member in common.
#[derive(Default)]
struct Posting {
    /// Texts that were alone when they were last looked at.
    alone: Vec<u32>,
    /// Texts that hang together, so that one match settles them all.
    clusters: Vec<Vec<u32>>,
}

fn at_least(share: f64) -> usize {
    (share - 1e-9).ceil().max(0.0) as usize
}

impl ShingleSets {
    /// Reads the texts twice: to count 5-grams, and to keep those that several may have.
    pub(super) fn new(texts: &[&str]) -> Self {
        let num_bytes: usize = texts.iter().map(|text| text.len()).sum();
        let num_slots = (num_bytes / TEXT_BYTES_PER_SLOT).next_power_of_two().clamp(MIN_SLOTS, MAX_SLOTS);
        let slot = |shingle: u64| (shingle as usize) & (num_slots - 1);
        let mut counts = vec![0u16; num_slots];
        let (mut words, mut shingles) = (Words::default(), Vec::new());
        for text in texts {
            words.read(text);
            words.shingles(&mut shingles);
            for &shingle in &shingles {
                let count = &mut counts[slot(shingle)];
                *count = count.saturating_add(1);
            }
        }
        let mut members = Vec::new();
        let mut sets = Vec::with_capacity(texts.len());
        for text in texts {
            words.read(text);
            words.shingles(&mut shingles);
            let start = members.len();
            let counted = shingles.iter().map(|&shingle| (u64::from(counts[slot(shingle)]), shingle));
            members.extend(counted.filter(|(count, _)| *count > 1).map(|(count, shingle)| count << 48 | shingle >> 16));
            members[start..].sort_unstable();
            sets.push(Set { size: shingles.len() as u32, start, end: members.len() });
        }
        let mut by_size: Vec<u32> = (0..sets.len() as u32).filter(|&text| sets[text as usize].size > 0).collect();
        by_size.sort_by_key(|&text| sets[text as usize].size);
        Self { sets, members, by_size }
    }

    fn set(&self, text: u32) -> Set {
        self.sets[text as usize]
    }

    /// The stored ones among the first `length` members of a set.
    fn prefix(&self, set: Set, length: usize) -> &[u64] {
        let stored = length.saturating_sub(set.num_single()).min(set.end - set.start);
        &self.members[set.start..set.start + stored]
    }

    /// What a larger or equal set is looked up by.
    fn lookup_prefix(&self, set: Set, threshold: f64) -> &[u64] {
        let size = set.size as usize;
        self.prefix(set, size - at_least(threshold * size as f64).min(size) + 1)
    }

    /// What a smaller or equal set is filed under.
    fn filing_prefix(&self, set: Set, threshold: f64) -> &[u64] {
        let size = set.size as usize;
        self.prefix(set, size - at_least(2.0 * threshold / (1.0 + threshold) * size as f64).min(size) + 1)
    }

    /// Whether two texts are alike: sizes first, then a merge that stops when too few members are left.
    fn alike(&self, a: u32, b: u32, threshold: f64) -> bool {
        let (a, b) = (self.set(a), self.set(b));
        let total = (a.size + b.size) as usize;
        let needed = at_least(threshold / (1.0 + threshold) * total as f64);
        let (mut left, mut right) = (&self.members[a.start..a.end], &self.members[b.start..b.end]);
        let mut shared = 0;
        while let (Some((&l, left_rest)), Some((&r, right_rest))) = (left.split_first(), right.split_first()) {
            if shared + left.len().min(right.len()) < needed {
                return false;
            }
            shared += usize::from(l == r);
            (left, right) = (if l <= r { left_rest } else { left }, if r <= l { right_rest } else { right });
        }
        shared as f64 + 1e-9 >= threshold * (total - shared) as f64
    }

    /// Joins texts that are alike, and so all that hang together through them.
    pub(super) fn join_alike(&self, threshold: f64, union: &mut Union) {
        let mut postings: HashMap<u64, Posting> = HashMap::new();
        let mut seen = vec![u32::MAX; self.sets.len()];
        for &text in &self.by_size {
            let set = self.set(text);
            for member in self.lookup_prefix(set, threshold) {
                let Some(posting) = postings.get_mut(member) else { continue };
                posting.settle(union);
                let mut check = |other: u32, union: &mut Union| {
                    if std::mem::replace(&mut seen[other as usize], text) == text || !self.alike(text, other, threshold) {
                        return false;
                    }
                    union.join(text, other);
                    true
                };
                for cluster in &posting.clusters {
                    if union.find(cluster[0]) != union.find(text) {
                        cluster.iter().any(|&other| check(other, union));
                    }
                }
                for &other in &posting.alone {
                    check(other, union);
                }
            }
            for &member in self.filing_prefix(set, threshold) {
                postings.entry(member).or_default().alone.push(text);
            }
        }
    }

    /// Which of the first `num_first` texts are like one of the others.
    pub(super) fn alike_across(&self, threshold: f64, num_first: usize) -> Vec<bool> {
        let mut flags = vec![false; num_first];
        let mut postings: [HashMap<u64, Vec<u32>>; 2] = Default::default();
        for &text in &self.by_size {
            let set = self.set(text);
            let is_first = (text as usize) < num_first;
            for member in self.lookup_prefix(set, threshold) {
                let Some(others) = postings[usize::from(is_first)].get_mut(member) else { continue };
                if is_first {
                    if others.iter().any(|&other| self.alike(text, other, threshold)) {
                        flags[text as usize] = true;
                        break;
                    }
                } else {
                    // What is flagged needs no second reason.
                    others.retain(|&other| {
                        let flag = &mut flags[other as usize];
                        *flag = *flag || self.alike(text, other, threshold);
                        !*flag
                    });
                }
            }
            for &member in self.filing_prefix(set, threshold) {
                postings[usize::from(!is_first)].entry(member).or_default().push(text);
            }
        }
        flags
    }
}

impl Posting {
    /// Moves texts that are no longer alone to their clusters, and merges clusters that have become one.
    fn settle(&mut self, union: &mut Union) {
        let mut at = 0;
        while at < self.alone.len() {
            if union.is_alone(self.alone[at]) {
                at += 1;
            } else {
                self.clusters.push(vec![self.alone.swap_remove(at)]);
            }
        }
        if self.clusters.len() > 1 {
            self.clusters.sort_by_cached_key(|cluster| union.find(cluster[0]));
            self.clusters.dedup_by(|later, earlier| {
                let same = union.find(later[0]) == union.find(earlier[0]);
                if same {
                    earlier.append(later);
                }
                same
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Jaccard over the sets of word 5-grams (words where fewer), from strings.
    fn jaccard(a: &str, b: &str) -> f64 {
        let set = |text: &str| -> BTreeSet<String> {
            let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
            if words.len() < 5 { words.into_iter().collect() } else { words.windows(5).map(|w| w.join(" ")).collect() }
        };
        let (a, b) = (set(a), set(b));
        a.intersection(&b).count() as f64 / a.union(&b).count().max(1) as f64
    }

    fn texts() -> impl Strategy<Value = Vec<String>> {
        // Few bases, few edits: many texts near the threshold.
        let text = (0..4usize, prop::collection::vec((0..40usize, 0..3u8), 0..4), 1..40usize);
        prop::collection::vec(text, 2..40).prop_map(|texts| {
            let build = |(base, edits, length): (usize, Vec<(usize, u8)>, usize)| {
                let mut words: Vec<String> = (0..length).map(|n| format!("w{}", (base * 7 + n * n) % 23)).collect();
                for (at, kind) in edits {
                    let at = at % words.len();
                    words[at] = format!("edit{kind}");
                }
                words.join(" ")
            };
            texts.into_iter().map(build).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Goal: exactly the pairs at or above the threshold are joined. Method: every pair's Jaccard index from strings.
        #[test]
        fn joins_equal_brute_force(texts in texts(), threshold in prop::sample::select(vec![0.3, 0.5, 0.8, 0.9, 1.0])) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let sets = ShingleSets::new(&texts);
            let (mut found, mut wanted) = (Union::new(texts.len()), Union::new(texts.len()));
            sets.join_alike(threshold, &mut found);
            for a in 0..texts.len() {
                for b in 0..a {
                    let alike = jaccard(texts[a], texts[b]) >= threshold;
                    prop_assert_eq!(sets.alike(a as u32, b as u32, threshold), alike, "{} / {}", texts[a], texts[b]);
                    if alike {
                        wanted.join(a as u32, b as u32);
                    }
                }
            }
            for a in 0..texts.len() as u32 {
                for b in 0..a {
                    prop_assert_eq!(found.find(a) == found.find(b), wanted.find(a) == wanted.find(b));
                }
            }
        }

        /// Goal: exactly the first texts with a partner among the others are flagged. Method: as above.
        #[test]
        fn flags_equal_brute_force(texts in texts(), share in 0.0..1.0f64, threshold in prop::sample::select(vec![0.3, 0.8, 1.0])) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let (first, others) = texts.split_at((texts.len() as f64 * share) as usize);
            let flags = ShingleSets::new(&texts).alike_across(threshold, first.len());
            let wanted: Vec<_> = first.iter().map(|a| others.iter().any(|b| jaccard(a, b) >= threshold)).collect();
            prop_assert_eq!(flags, wanted);
        }
    }

    /// Goal: templates do not make it slow. Method: 20,000 texts that differ in one word, above and below the threshold.
    #[test]
    fn templates_are_fast() {
        for (length, alone) in [(100, false), (30, true)] {
            let rest: String = (0..length).map(|n| format!(" w{n}")).collect();
            let texts: Vec<String> = (0..20_000).map(|n| format!("a b c d e number{n} f g h i j{rest}")).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let mut union = Union::new(texts.len());
            let began = std::time::Instant::now();
            ShingleSets::new(&texts).join_alike(0.8, &mut union);
            assert_eq!(union.is_alone(7), alone);
            assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
        }
    }
}
