//! Token tables: the texts of a split as token ids, row by row, and their binary form.

use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"ARTELTK1";

/// Token ids of `num_rows` x `num_columns` texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenTable {
    num_columns: usize,
    /// Where each text begins in `ids`, and at last where the last ends.
    offsets: Vec<u64>,
    ids: Vec<u32>,
    /// Tokens of each column's prompt, special tokens left out.
    prompt_lens: Vec<u32>,
}

impl TokenTable {
    /// An empty table; `prompt_lens` has an entry a column.
    pub fn new(prompt_lens: Vec<u32>) -> Self {
        Self { num_columns: prompt_lens.len(), offsets: vec![0], ids: Vec::new(), prompt_lens }
    }

    /// Adds the next text, columns of a row first.
    pub fn push_text(&mut self, ids: &[u32]) {
        self.ids.extend_from_slice(ids);
        self.offsets.push(self.ids.len() as u64);
    }

    /// Adds another table's rows.
    ///
    /// # Errors
    /// The tables have other columns or prompts.
    pub fn append(&mut self, other: &Self) -> Result<()> {
        if self.prompt_lens != other.prompt_lens {
            return Err(Error::Internal("token tables of different columns cannot be joined".into()));
        }
        let base = self.ids.len() as u64;
        self.ids.extend_from_slice(&other.ids);
        self.offsets.extend(other.offsets[1..].iter().map(|offset| base + offset));
        Ok(())
    }

    /// Rows.
    pub fn num_rows(&self) -> usize {
        (self.offsets.len() - 1).checked_div(self.num_columns).unwrap_or(0)
    }

    /// Columns a row.
    pub fn num_columns(&self) -> usize {
        self.num_columns
    }

    /// Tokens over all texts.
    pub fn num_tokens(&self) -> usize {
        self.ids.len()
    }

    /// Tokens of a column's prompt.
    pub fn prompt_len(&self, column: usize) -> u32 {
        self.prompt_lens[column]
    }

    /// The ids of a text, special tokens included.
    pub fn text(&self, row: usize, column: usize) -> &[u32] {
        let index = row * self.num_columns + column;
        &self.ids[self.offsets[index] as usize..self.offsets[index + 1] as usize]
    }

    /// Tokens of a row over all its columns.
    pub fn row_len(&self, row: usize) -> usize {
        let first = row * self.num_columns;
        (self.offsets[first + self.num_columns] - self.offsets[first]) as usize
    }

    /// The table as bytes: magic, counts, prompt lengths, offsets, ids; all little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(32 + self.offsets.len() * 8 + self.ids.len() * 4);
        bytes.extend_from_slice(MAGIC);
        for count in [self.num_columns as u64, (self.offsets.len() - 1) as u64, self.ids.len() as u64] {
            bytes.extend_from_slice(&count.to_le_bytes());
        }
        self.prompt_lens.iter().for_each(|n| bytes.extend_from_slice(&n.to_le_bytes()));
        self.offsets.iter().for_each(|n| bytes.extend_from_slice(&n.to_le_bytes()));
        self.ids.iter().for_each(|n| bytes.extend_from_slice(&n.to_le_bytes()));
        bytes
    }

    /// Reads [`TokenTable::to_bytes`].
    ///
    /// # Errors
    /// The bytes are not a token table, or are cut short.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::parse(bytes).ok_or_else(|| Error::input("not a token table, or a damaged one: tokenise again into an empty store"))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(MAGIC)?;
        let mut count = || -> Option<usize> {
            let (head, tail) = rest.split_first_chunk::<8>()?;
            rest = tail;
            usize::try_from(u64::from_le_bytes(*head)).ok()
        };
        let (num_columns, num_texts, num_ids) = (count()?, count()?, count()?);
        let expected = num_columns
            .checked_mul(4)?
            .checked_add(num_texts.checked_add(1)?.checked_mul(8)?)?
            .checked_add(num_ids.checked_mul(4)?)?;
        if rest.len() != expected || num_columns == 0 || !num_texts.is_multiple_of(num_columns) {
            return None;
        }
        let (prompts, rest) = rest.split_at(num_columns * 4);
        let (offsets, ids) = rest.split_at((num_texts + 1) * 8);
        let offsets: Vec<u64> = offsets.as_chunks::<8>().0.iter().map(|c| u64::from_le_bytes(*c)).collect();
        if offsets[0] != 0 || offsets[num_texts] != num_ids as u64 || !offsets.is_sorted() {
            return None;
        }
        let words = |bytes: &[u8]| bytes.as_chunks::<4>().0.iter().map(|c| u32::from_le_bytes(*c)).collect();
        Some(Self { num_columns, offsets, ids: words(ids), prompt_lens: words(prompts) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a table survives its binary form, and a cut one is refused. Method: every prefix of the bytes.
    #[test]
    fn round_trip_and_every_cut() {
        let mut table = TokenTable::new(vec![0, 2]);
        for text in [&[1u32, 2, 3][..], &[], &[4], &[5, 6]] {
            table.push_text(text);
        }
        let bytes = table.to_bytes();
        assert_eq!(TokenTable::from_bytes(&bytes).unwrap(), table);
        assert_eq!((table.num_rows(), table.row_len(1), table.text(1, 1)), (2, 3, &[5u32, 6][..]));
        for cut in 0..bytes.len() {
            assert!(TokenTable::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }
}
