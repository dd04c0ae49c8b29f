//! A file of texts, block by block, so that its size does not matter: a line is a text, as `str::lines` cuts them.

use std::io::{BufRead, Read as _};

use crate::failure::Failure;
use crate::text;

/// What bounds a block.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most texts of a block.
    pub texts: usize,
    /// Most bytes of a block, ends of lines included; a longer line is a block of its own.
    pub bytes: usize,
    /// Most bytes of a line.
    pub line_bytes: usize,
}

/// Those of `artel encode`; the first two decide which texts are encoded together, and so are part of what fixes the bits.
/// Tokenising takes up to some 70 times a block's bytes, the most for a line that fills it.
pub const LIMITS: Limits = Limits { texts: 8192, bytes: 16_000_000, line_bytes: 16_000_000 };

/// Some lines that follow one another; at least one.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    lines: String,
    /// The number of the first, from 1.
    pub first_line: u64,
    /// Bytes of the file up to the end of the last.
    pub end: u64,
}

impl Block {
    /// The lines without their ends.
    pub fn texts(&self) -> Vec<&str> {
        self.lines.lines().collect()
    }
}

/// The blocks of a file that is being read.
pub struct Blocks<R> {
    input: R,
    name: String,
    limits: Limits,
    /// A line that found no room in the block before.
    carried: Vec<u8>,
    lines: u64,
    bytes: u64,
}

impl<R: BufRead> Blocks<R> {
    /// Blocks of `input`, which errors call `name`.
    pub fn new(input: R, name: String, limits: Limits) -> Self {
        Self { input, name, limits, carried: Vec::new(), lines: 0, bytes: 0 }
    }

    /// The next block, or `None` at the end of the file.
    ///
    /// # Errors
    /// The file cannot be read, a line is too long, or it is not UTF-8.
    pub fn next(&mut self) -> Result<Option<Block>, Failure> {
        let mut bytes = std::mem::take(&mut self.carried);
        let mut num_texts = usize::from(!bytes.is_empty());
        while num_texts < self.limits.texts {
            let before = bytes.len();
            if !self.read_line(&mut bytes, self.lines + num_texts as u64 + 1)? {
                break;
            }
            if before > 0 && bytes.len() > self.limits.bytes {
                self.carried = bytes.split_off(before);
                break;
            }
            num_texts += 1;
        }
        if num_texts == 0 {
            return Ok(None);
        }
        let first_line = self.lines + 1;
        self.lines += num_texts as u64;
        self.bytes += bytes.len() as u64;
        let lines = String::from_utf8(bytes).map_err(|e| {
            let good = e.utf8_error().valid_up_to();
            let line = first_line + e.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count() as u64;
            Failure::data(format!("{}:{line}: not UTF-8 text", self.name))
        })?;
        Ok(Some(Block { lines, first_line, end: self.bytes }))
    }

    /// Adds a line with its end; false where there is none any more.
    fn read_line(&mut self, bytes: &mut Vec<u8>, number: u64) -> Result<bool, Failure> {
        let most = self.limits.line_bytes + 1;
        let mut input = (&mut self.input).take(most as u64);
        let read = input.read_until(b'\n', bytes).map_err(|e| Failure::data(format!("{}: {e}", self.name)))?;
        if read == most && bytes.last() != Some(&b'\n') {
            let limit = text::bytes(self.limits.line_bytes as u64);
            return Err(Failure::data(format!(
                "{}:{number}: a line of more than {limit}; a line is one text, of which the model reads the beginning: break it or cut it",
                self.name
            )));
        }
        Ok(read > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Limits = Limits { texts: 3, bytes: 12, line_bytes: 20 };

    /// The texts of each block, and the last block's end.
    fn blocks(file: &[u8]) -> Result<(Vec<Vec<String>>, u64), Failure> {
        let mut blocks = Blocks::new(file, "x.txt".to_owned(), SMALL);
        let (mut all, mut end, mut line) = (Vec::new(), 0, 1);
        while let Some(block) = blocks.next()? {
            assert_eq!(block.first_line, line, "blocks follow one another");
            all.push(block.texts().into_iter().map(str::to_owned).collect::<Vec<_>>());
            (end, line) = (block.end, line + block.texts().len() as u64);
        }
        Ok((all, end))
    }

    /// Goal: blocks hold every line once and in order, as `str::lines` cuts the whole, within their limits. Method: files
    /// with both ends of lines, empty lines, a bare carriage return, no last end, and lines longer than a block.
    #[test]
    fn blocks_are_the_lines() {
        for file in [
            "",
            "\n",
            "\r\n",
            "one",
            "one\n",
            "a\r\nb\n\n\r\nc\rd\n",
            "a\nb\nc\nd\ne\nf\n",
            "a\nb\nc\nd\ne\nf",
            "\n\n\n\n\n\n\n",
            "last\r",
            "0123456789\n0123456789\n",
            "a\n0123456789abcdef\r\nb\nc",
            "0123456789abcdefghi\n0123456789abcdefghi\nä\nö\nü\n",
        ] {
            let (found, end) = blocks(file.as_bytes()).expect("good lines");
            assert_eq!(found.concat(), file.lines().collect::<Vec<_>>(), "{file:?}");
            assert_eq!(end, file.len() as u64);
            for block in found {
                let bytes: usize = block.iter().map(String::len).sum();
                assert!((1..=SMALL.texts).contains(&block.len()) && (block.len() == 1 || bytes <= SMALL.bytes), "{block:?}");
            }
        }
    }

    /// Goal: an error names the line, wherever its block begins. Method: bytes that are not UTF-8, a line too long, and one
    /// as long as it may be, after several blocks.
    #[test]
    fn errors_name_the_line() {
        let after = |lines: usize, last: &[u8]| [b"line\n".repeat(lines), last.to_vec()].concat();
        let said = |file: &[u8]| blocks(file).expect_err("a bad line").message.expect("a reason");
        assert_eq!(said(&after(0, b"\xff\n")), "x.txt:1: not UTF-8 text");
        assert_eq!(said(&after(7, b"good\nbad \xff\nmore")), "x.txt:9: not UTF-8 text");
        assert!(said(&after(8, &[b'x'; 21])).starts_with("x.txt:9: a line of more than 20 B; a line is one text"));
        assert!(said(&after(1, &[b'x'; 500])).starts_with("x.txt:2: a line of more"));
        assert!(blocks(&after(8, &[b'x'; 20])).is_ok());
        assert!(blocks(&after(8, b"01234567890123456789\nx")).is_ok());
    }
}
