//! Which texts may be alike: MinHash over words by weight, in bands.
//!
//! A text's value under a random order is the least of h(word) / weight(word) over its words. Two texts have the same one with a
//! probability of about their likeness by weight (Broder, "On the resemblance and containment of documents", 1997; the weights as in
//! Chum, Philbin, Zisserman, "Near duplicate image detection: min-Hash and tf-idf weighting", 2008). They share one of b
//! bands of r values with a probability of 1 - (1 - s^r)^b: with 24 bands of 4, .97 at s = .6, .999 at .7, and one in
//! 50,000 at .03, which is what two texts about different things come to.

use artel_common::rng::Rng;

use super::super::words::{Words, mix};
use super::parts::{by_parts, by_parts_of};
use super::weights::{Weights, word_set};

const NUM_BANDS: usize = 24;
const BAND_ROWS: usize = 4;
const NUM_VALUES: usize = NUM_BANDS * BAND_ROWS;

/// Texts that share a band, found for all bands.
pub(super) struct Buckets {
    /// Text and bucket, ascending; only buckets of two or more.
    pub(super) members: Vec<(u32, u32)>,
    /// How many buckets there are.
    pub(super) num_buckets: usize,
}

/// Finds all texts that share a band.
pub(super) fn buckets<'a>(num_texts: usize, weights: &Weights, text: impl Fn(usize) -> &'a str + Sync) -> Buckets {
    let mut rng = Rng::stream("minhash of answers", &[]);
    // h(x) = a x + b, the upper half: strongly universal for 32-bit x (Dietzfelbinger, 1996).
    let orders: Vec<(u64, u64)> = (0..NUM_VALUES).map(|_| (rng.next_u64(), rng.next_u64())).collect();
    let parts = by_parts(num_texts, |range| {
        let (mut words, mut set) = (Words::default(), Vec::new());
        let mut signatures = Vec::with_capacity(range.len());
        for index in range {
            word_set(text(index), &mut words, &mut set);
            signatures.push(signature(&set, weights, &orders));
        }
        signatures
    });
    let signatures = || parts.iter().flatten();
    let cores = parts.len();
    let found = by_parts_of(NUM_BANDS, cores, |bands| {
        let (mut members, mut num_buckets) = (Vec::new(), 0);
        let mut keys: Vec<u64> = Vec::new();
        for band in bands {
            keys.clear();
            keys.extend(signatures().zip(0u64..).map(|(signature, index)| u64::from(signature[band]) << 32 | index));
            keys.sort_unstable();
            for bucket in keys.chunk_by(|a, b| a >> 32 == b >> 32).filter(|bucket| bucket.len() > 1) {
                members.extend(bucket.iter().map(|&key| (key as u32, num_buckets)));
                num_buckets += 1;
            }
        }
        (members, num_buckets)
    });
    drop(parts);
    let (mut members, mut num_buckets) = (Vec::new(), 0u32);
    for (part, buckets_of_part) in found {
        members.extend(part.into_iter().map(|(index, bucket)| (index, bucket + num_buckets)));
        num_buckets += buckets_of_part;
    }
    members.sort_unstable();
    Buckets { members, num_buckets: num_buckets as usize }
}

/// A hash for each band of a text's values.
fn signature(set: &[u32], weights: &Weights, orders: &[(u64, u64)]) -> [u32; NUM_BANDS] {
    let mut least = [f32::INFINITY; NUM_VALUES];
    for &word in set {
        let share = 1.0 / weights.of(word);
        for (value, (factor, summand)) in least.iter_mut().zip(orders) {
            let hash = u64::from(word).wrapping_mul(*factor).wrapping_add(*summand) >> 33;
            *value = value.min(hash as i32 as f32 * share);
        }
    }
    let mut bands = [0; NUM_BANDS];
    for (band, values) in bands.iter_mut().zip(least.chunks(BAND_ROWS)) {
        *band = (values.iter().fold(8, |sum, value| mix(sum, u64::from(value.to_bits()))) >> 32) as u32;
    }
    bands
}

#[cfg(test)]
mod tests;
