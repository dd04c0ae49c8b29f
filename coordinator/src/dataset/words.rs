//! A text's words, for finding texts that are alike: lower case, letters and digits only.

/// Words of a shingle.
pub(super) const SHINGLE_WORDS: usize = 5;

/// What a text comes to when case and punctuation are left out.
#[derive(Default)]
pub(super) struct Words {
    hashes: Vec<u64>,
    word: String,
}

impl Words {
    /// Takes a text's words in place of the last text's.
    pub(super) fn read(&mut self, text: &str) {
        self.hashes.clear();
        let hashes = &mut self.hashes;
        each_word(text, &mut self.word, |word| hashes.push(hash_bytes(word.as_bytes())));
    }

    /// The hashes of the words in their order.
    pub(super) fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// The text without case and punctuation, as a number; `None` if nothing is left of it.
    pub(super) fn key(&self) -> Option<u128> {
        let low = self.hashes.iter().fold(1, |sum, &word| mix(sum, word));
        let high = self.hashes.iter().fold(2, |sum, &word| mix(sum, word));
        (!self.hashes.is_empty()).then_some(u128::from(high) << 64 | u128::from(low))
    }

    /// The set of word 5-grams, ascending; the set of words where there are fewer than five.
    pub(super) fn shingles(&self, into: &mut Vec<u64>) {
        into.clear();
        if self.hashes.len() < SHINGLE_WORDS {
            into.extend(self.hashes.iter().map(|&word| mix(3, word)));
        } else {
            into.extend(self.hashes.windows(SHINGLE_WORDS).map(|words| words.iter().fold(4, |sum, &word| mix(sum, word))));
        }
        into.sort_unstable();
        into.dedup();
    }
}

/// Calls `f` with each word of a text, in lower case; `buffer` is where the words are made.
///
/// A letter of a script that writes no spaces between words is a word of its own.
pub(super) fn each_word(text: &str, buffer: &mut String, mut f: impl FnMut(&str)) {
    buffer.clear();
    let mut end_word = |word: &mut String| {
        if !word.is_empty() {
            f(word);
            word.clear();
        }
    };
    for letter in text.chars() {
        if !letter.is_alphanumeric() {
            end_word(buffer);
        } else if letter.is_ascii() {
            buffer.push(letter.to_ascii_lowercase());
        } else if is_unspaced(letter) {
            end_word(buffer);
            buffer.push(letter);
            end_word(buffer);
        } else {
            buffer.extend(letter.to_lowercase());
        }
    }
    end_word(buffer);
}

/// Whether the letter's script writes no spaces between words.
pub(super) fn is_unspaced(letter: char) -> bool {
    matches!(u32::from(letter),
        0x0E00..=0x0EFF | 0x1000..=0x109F | 0x1780..=0x17FF | 0x3040..=0x30FF | 0x3400..=0x4DBF | 0x4E00..=0x9FFF
        | 0xF900..=0xFAFF | 0x20000..=0x323AF)
}

/// A 64-bit hash that is the same on every machine and in every release.
pub(super) fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut sum = mix(5, bytes.len() as u64);
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        sum = mix(sum, u64::from_le_bytes(word));
    }
    sum
}

/// Folds a word into a running hash: the two halves of a 128-bit product, xored.
pub(super) fn mix(sum: u64, word: u64) -> u64 {
    let product = u128::from(sum ^ 0x9E37_79B9_7F4A_7C15) * u128::from(word ^ 0xD1B5_4A32_D192_ED03);
    finish(product as u64 ^ (product >> 64) as u64 ^ sum.rotate_left(29))
}

/// Spreads every bit over all others (the finaliser of SplitMix64).
fn finish(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Words {
        let mut words = Words::default();
        words.read(text);
        words
    }

    /// Goal: case, punctuation and spacing do not count, words and their order do. Method: pairs that are and are not alike.
    #[test]
    fn keys() {
        let key = |text| words(text).key();
        assert_eq!(key("What is (are) ÉCZEMA ?"), key(" what   is are éczema"));
        assert_ne!(key("what is this"), key("what this is"));
        assert_ne!(key("what is this"), key("whatis this"));
        assert_eq!((key("..."), key("🙂")), (None, None));
        assert_eq!(words("頭痛の薬").hashes.len(), 4);
    }

    /// Goal: shingles are the set of 5-grams, or of words. Method: counts by hand.
    #[test]
    fn shingles() {
        let count = |text| {
            let mut set = Vec::new();
            words(text).shingles(&mut set);
            set.len()
        };
        assert_eq!((count(""), count("a b a"), count("a b c d"), count("a b c d e")), (0, 2, 4, 1));
        assert_eq!((count("a b c d e f"), count("a a a a a a a")), (2, 1));
    }
}
