//! Counter-based dropout (SAME-2): whether an element is kept is a pure function of (seed, step, sample, column,
//! layer, site, element). Elements are numbered in the sequence's own coordinates, so a mask does not depend on
//! where in which micro-batch a sequence stands, and the backward makes it again instead of keeping it.

use crate::kernels::philox::{self, GROUP, Stream};
use crate::packed::SampleKey;
use crate::{Error, Result};

/// What all masks of one step have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DropoutKey {
    /// The run's seed.
    pub seed: u64,
    /// The step.
    pub step: u64,
}

/// The dropout of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// Seed and step.
    pub key: DropoutKey,
    /// The probability of dropping an element of the embeddings or of either output of a layer, in [0, 1).
    pub hidden: f32,
    /// The probability of dropping an attention probability, in [0, 1).
    pub attention: f32,
}

/// Where in the encoder elements are dropped, as BERT does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    /// After the embeddings' LayerNorm; element = token * h + feature.
    Embeddings = 0,
    /// Attention probabilities; element = (head * length + query) * length + key.
    AttentionProbabilities = 1,
    /// The attention's output, before the residual is added; element = token * h + feature.
    AttentionOutput = 2,
    /// The feed-forward output, before the residual is added; element = token * h + feature.
    FeedForwardOutput = 3,
}

/// Numbers buffered by a [`MaskStream`]: at least this many, and two groups more than a row.
const BUFFERED: usize = 32 * GROUP;
/// Bounds of the counter's fields.
const MAX_COLUMNS: u32 = 1 << 12;
const MAX_LAYERS: usize = 1 << 16;
const MAX_ELEMENTS: u64 = 1 << 35;

impl Dropout {
    /// Checks the probabilities.
    ///
    /// # Errors
    /// One of them lies outside [0, 1).
    pub fn validate(&self) -> Result<()> {
        for (name, p) in [("hidden", self.hidden), ("attention", self.attention)] {
            if !(0.0..1.0).contains(&p) {
                return Err(Error::input(format!("{name} dropout {p} must lie in [0, 1)")));
            }
        }
        Ok(())
    }

    /// The masks of one site of one layer; none where nothing is dropped.
    pub fn site(&self, layer: usize, site: Site) -> Option<SiteDropout> {
        assert!(layer < MAX_LAYERS, "layer {layer} is beyond the dropout counter");
        let p = if site == Site::AttentionProbabilities { self.attention } else { self.hidden };
        let threshold = (f64::from(p) * 65536.0).round() as u32;
        (threshold > 0).then(|| SiteDropout {
            philox_key: self.key.philox_key(),
            layer_and_site: (layer as u32) << 4 | site as u32,
            threshold: threshold.min(65535) as u16,
            scale: 1.0 / (1.0 - f64::from(p)),
        })
    }
}

impl DropoutKey {
    /// Seed and step, mixed into Philox's key.
    fn philox_key(self) -> [u32; 2] {
        let counter = [self.seed as u32, (self.seed >> 32) as u32, self.step as u32, (self.step >> 32) as u32];
        let [a, b, ..] = philox::block(counter, [0x6172_7465, 0x6c64_726f]);
        [a, b]
    }
}

/// The masks of one site of one layer in one step.
#[derive(Debug, Clone, Copy)]
pub struct SiteDropout {
    philox_key: [u32; 2],
    layer_and_site: u32,
    threshold: u16,
    scale: f64,
}

impl SiteDropout {
    /// Philox's key, and the word of its counter that names layer and site.
    pub(crate) fn counter(&self) -> ([u32; 2], u32) {
        (self.philox_key, self.layer_and_site)
    }

    /// An element is kept if its number is at least this.
    pub(crate) fn threshold(&self) -> u16 {
        self.threshold
    }

    /// What kept elements are multiplied by: 1 / (1 - p).
    pub(crate) fn scale(&self) -> f64 {
        self.scale
    }

    /// The numbers of one sequence's elements, from element 0 on, in rows of at most `max_row`.
    pub fn stream(&self, key: SampleKey, max_row: usize) -> MaskStream {
        assert!(key.column < MAX_COLUMNS, "column {} is beyond the dropout counter", key.column);
        let tail = [key.sample as u32, (key.sample >> 32) as u32, key.column << 20 | self.layer_and_site];
        let capacity = BUFFERED.max((max_row + 2 * GROUP).next_multiple_of(GROUP));
        let stream = Stream { key: self.philox_key, tail };
        let (threshold, scale) = (self.threshold, self.scale);
        MaskStream { stream, threshold, scale, next_group: 0, numbers: vec![0; capacity], begin: capacity, end: capacity }
    }
}

/// One sequence's numbers at one site, read from the first element on.
pub struct MaskStream {
    stream: Stream,
    threshold: u16,
    scale: f64,
    next_group: u32,
    numbers: Vec<u16>,
    begin: usize,
    end: usize,
}

impl MaskStream {
    /// What kept elements are multiplied by: 1 / (1 - p).
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// An element is kept if its number is at least this.
    pub fn threshold(&self) -> u16 {
        self.threshold
    }

    /// The numbers of the next `len` elements.
    pub fn take(&mut self, len: usize) -> &[u16] {
        if self.end - self.begin < len {
            self.refill(len);
        }
        let begin = self.begin;
        self.begin += len;
        &self.numbers[begin..begin + len]
    }

    fn refill(&mut self, len: usize) {
        let left = self.end - self.begin;
        assert!(len + GROUP <= self.numbers.len(), "a row of {len} is longer than the mask stream was made for");
        self.numbers.copy_within(self.begin..self.end, 0);
        let groups = (self.numbers.len() - left) / GROUP;
        self.end = left + groups * GROUP;
        self.begin = 0;
        assert!(
            (u64::from(self.next_group) + groups as u64) * GROUP as u64 <= MAX_ELEMENTS,
            "a sequence has more elements than the dropout counter"
        );
        philox::fill_groups(self.stream, self.next_group, &mut self.numbers[left..self.end]);
        self.next_group += groups as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropout(seed: u64, step: u64, p: f32) -> Dropout {
        Dropout { key: DropoutKey { seed, step }, hidden: p, attention: p }
    }

    fn numbers(dropout: Dropout, layer: usize, site: Site, sample: u64, column: u32, rows: &[usize]) -> Vec<u16> {
        let mut stream = dropout.site(layer, site).unwrap().stream(SampleKey { sample, column }, 5000);
        rows.iter().flat_map(|&len| stream.take(len).to_vec()).collect()
    }

    /// Goal: element i's number does not depend on how rows cut the stream. Method: several cuts, one of them long.
    #[test]
    fn cuts_do_not_matter() {
        let d = dropout(1, 2, 0.1);
        let whole = numbers(d, 3, Site::AttentionOutput, 4, 1, &[5000, 5000]);
        let cut: Vec<usize> = std::iter::repeat_n([1, 127, 128, 129, 615], 10).flatten().collect();
        assert_eq!(whole, numbers(d, 3, Site::AttentionOutput, 4, 1, &cut));
    }

    /// Goal: every part of the key matters. Method: change one at a time.
    #[test]
    fn every_part_of_the_key_matters() {
        let base = numbers(dropout(1, 2, 0.1), 3, Site::AttentionOutput, 4, 1, &[64]);
        let others = [
            numbers(dropout(9, 2, 0.1), 3, Site::AttentionOutput, 4, 1, &[64]),
            numbers(dropout(1, 9, 0.1), 3, Site::AttentionOutput, 4, 1, &[64]),
            numbers(dropout(1, 2, 0.1), 9, Site::AttentionOutput, 4, 1, &[64]),
            numbers(dropout(1, 2, 0.1), 3, Site::FeedForwardOutput, 4, 1, &[64]),
            numbers(dropout(1, 2, 0.1), 3, Site::AttentionOutput, 4 << 32, 1, &[64]),
            numbers(dropout(1, 2, 0.1), 3, Site::AttentionOutput, 4, 9, &[64]),
        ];
        for other in others {
            let equal = base.iter().zip(&other).filter(|(a, b)| a == b).count();
            assert!(equal < 3, "{equal} of 64 numbers are equal");
        }
    }

    /// Goal: the share of dropped elements is p. Method: a million numbers, within four standard deviations.
    #[test]
    fn the_share_dropped_is_p() {
        for p in [0.1f32, 0.5] {
            let d = dropout(5, 6, p);
            let threshold = d.site(0, Site::Embeddings).unwrap().threshold;
            let all = numbers(d, 0, Site::Embeddings, 7, 0, &[5000; 200]);
            let dropped = all.iter().filter(|&&number| number < threshold).count() as f64 / all.len() as f64;
            let deviation = (f64::from(p) * (1.0 - f64::from(p)) / all.len() as f64).sqrt();
            assert!((dropped - f64::from(p)).abs() < 4.0 * deviation, "{dropped} of {p}");
        }
        assert!(dropout(1, 1, 0.0).site(0, Site::Embeddings).is_none());
        assert!(dropout(1, 1, 1.0).validate().is_err() && dropout(1, 1, f32::NAN).validate().is_err());
    }
}
