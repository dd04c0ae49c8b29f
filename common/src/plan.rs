//! The batch plan of an epoch (SAME-1, DUP-1): sample order and batch boundaries, indexed by step.
//!
//! As bytes, little-endian: 8 bytes of magic, then u32 each of version, epoch, left_out, length of `order`, length of
//! `batch_starts`; the two arrays of u32; last the SHA-256 of all before it as 64 hexadecimal characters.

use bytes::Bytes;

use crate::digest::Digest;
use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"ARTELPLN";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 8 + 5 * 4;
const DIGEST_BYTES: usize = 64;

/// Which rows each batch of an epoch holds, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochPlan {
    /// Which pass over the data, from 0.
    pub epoch: u32,
    /// Row numbers of the training split, batch after batch; each row at most once.
    pub order: Vec<u32>,
    /// Where each batch begins in `order`, and where the last one ends: one more than there are batches.
    pub batch_starts: Vec<u32>,
    /// Rows of the split that no batch of this epoch holds.
    pub left_out: u32,
}

impl EpochPlan {
    /// How many batches the epoch has.
    pub fn num_batches(&self) -> usize {
        self.batch_starts.len().saturating_sub(1)
    }

    /// Rows of the split: those that a batch holds and those left out.
    pub fn num_rows(&self) -> u64 {
        self.order.len() as u64 + u64::from(self.left_out)
    }

    /// The row numbers of batch `index`.
    ///
    /// # Panics
    /// There are not so many batches.
    pub fn batch(&self, index: usize) -> &[u32] {
        &self.order[self.batch_starts[index] as usize..self.batch_starts[index + 1] as usize]
    }

    /// All batches in order.
    pub fn batches(&self) -> impl Iterator<Item = &[u32]> {
        (0..self.num_batches()).map(|index| self.batch(index))
    }

    /// The plan as an object's bytes.
    pub fn to_bytes(&self) -> Bytes {
        let num_words = self.order.len() + self.batch_starts.len();
        let mut bytes = Vec::with_capacity(HEADER_BYTES + num_words * 4 + DIGEST_BYTES);
        bytes.extend_from_slice(MAGIC);
        let header = [VERSION, self.epoch, self.left_out, self.order.len() as u32, self.batch_starts.len() as u32];
        for word in header.iter().chain(&self.order).chain(&self.batch_starts) {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        let digest = Digest::of(&bytes);
        bytes.extend_from_slice(digest.as_str().as_bytes());
        Bytes::from(bytes)
    }

    /// Reads what [`EpochPlan::to_bytes`] wrote.
    ///
    /// # Errors
    /// The bytes are not a plan, are of another version, were cut or altered, or contradict themselves.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let damaged =
            |what: &str| Error::Store(format!("a batch plan is damaged: {what}; start the run afresh in another store"));
        if bytes.len() < HEADER_BYTES + DIGEST_BYTES || &bytes[..8] != MAGIC {
            return Err(damaged("it does not begin as one"));
        }
        let word = |index: usize| {
            let at = 8 + index * 4;
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        if word(0) != VERSION {
            return Err(Error::Store(format!(
                "a batch plan has format {}, this binary reads {VERSION}; use the binary that began the run",
                word(0)
            )));
        }
        let (num_order, num_starts) = (word(3) as usize, word(4) as usize);
        let body = HEADER_BYTES + (num_order + num_starts) * 4;
        if bytes.len() != body + DIGEST_BYTES {
            return Err(damaged("its length is not what its header says"));
        }
        if Digest::of(&bytes[..body]).as_str().as_bytes() != &bytes[body..] {
            return Err(damaged("its digest does not match"));
        }
        let order: Vec<u32> = (5..5 + num_order).map(word).collect();
        let batch_starts: Vec<u32> = (5 + num_order..5 + num_order + num_starts).map(word).collect();
        let plan = Self { epoch: word(1), order, batch_starts, left_out: word(2) };
        plan.check().map_err(damaged)?;
        Ok(plan)
    }

    /// Boundaries ascend from 0 to the end; row numbers are in range and differ.
    fn check(&self) -> Result<(), &'static str> {
        let ends = (self.batch_starts.first().copied(), self.batch_starts.last().map(|&last| last as usize));
        if ends != (Some(0), Some(self.order.len())) || self.batch_starts.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err("its batch boundaries do not ascend");
        }
        let Ok(num_rows) = u32::try_from(self.num_rows()) else { return Err("it has more rows than a plan can number") };
        let mut seen = vec![false; num_rows as usize];
        for &row in &self.order {
            match seen.get_mut(row as usize) {
                None => return Err("a row number is out of range"),
                Some(true) => return Err("a row occurs twice"),
                Some(first) => *first = true,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> EpochPlan {
        EpochPlan { epoch: 3, order: vec![4, 0, 2, 5, 1], batch_starts: vec![0, 2, 4, 5], left_out: 1 }
    }

    /// Goal: a plan survives its bytes, and batches are what the boundaries say. Method: write, read, compare.
    #[test]
    fn round_trip() {
        let plan = sample();
        assert_eq!(EpochPlan::from_bytes(&plan.to_bytes()).unwrap(), plan);
        assert_eq!((plan.num_batches(), plan.num_rows()), (3, 6));
        assert_eq!(plan.batches().collect::<Vec<_>>(), [&[4, 0][..], &[2, 5], &[1]]);
    }

    /// Goal: no damaged plan is read and none panics. Method: flip every bit, cut at every length.
    #[test]
    fn damage_is_seen() {
        let bytes = sample().to_bytes();
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.to_vec();
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(EpochPlan::from_bytes(&flipped).is_err(), "bit {at}");
        }
        for length in 0..bytes.len() {
            assert!(EpochPlan::from_bytes(&bytes[..length]).is_err(), "length {length}");
        }
    }

    /// Goal: a well-sealed plan that contradicts itself is refused. Method: one contradiction each.
    #[test]
    fn contradictions_are_refused() {
        let cases = [
            EpochPlan { batch_starts: vec![], ..sample() },
            EpochPlan { batch_starts: vec![0, 4], ..sample() },
            EpochPlan { batch_starts: vec![1, 5], ..sample() },
            EpochPlan { batch_starts: vec![0, 2, 2, 5], ..sample() },
            EpochPlan { order: vec![4, 0, 2, 6, 1], ..sample() },
            EpochPlan { order: vec![4, 0, 2, 4, 1], ..sample() },
            EpochPlan { left_out: u32::MAX, ..sample() },
        ];
        for plan in cases {
            assert!(EpochPlan::from_bytes(&plan.to_bytes()).is_err(), "{plan:?}");
        }
    }
}
