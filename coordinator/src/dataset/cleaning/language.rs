//! Whether a question or an answer is in another language than its chunk.
//!
//! A text most of whose words are in the chunk is in the chunk's language, whatever a detector says of a name or a command. Of
//! the others the script decides, then `whatlang`, where it calls both texts sure. On 8,000 real English questions it was sure of
//! another language twice; of 31 short questions in 15 languages it was sure of 18, and right (`docs/adr/near-duplicate-pairs.md`).

use whatlang::{Lang, Script, detect, detect_script};

use super::super::words::{Words, hash_bytes};

/// Share of a text's words in the chunk from which nothing more is asked.
const SHARE_OF_SAME: f64 = 0.5;
/// Letters of a text that are looked at.
const MAX_LETTERS: usize = 1000;

/// The words and the language of a chunk.
#[derive(Default)]
pub(super) struct Language {
    words: Vec<u64>,
    reader: Words,
    beginning: String,
    /// Asked for when it is first needed: detecting costs more than all other rules.
    sure: Option<Option<Lang>>,
}

fn beginning(text: &str) -> &str {
    text.char_indices().nth(MAX_LETTERS).map_or(text, |(end, _)| &text[..end])
}

/// The language, if the detector is sure of it.
fn sure_language(text: &str) -> Option<Lang> {
    detect(text).filter(whatlang::Info::is_reliable).map(|info| info.lang())
}

/// The script, those of Japanese and Chinese taken as one.
fn script(text: &str) -> Option<Script> {
    detect_script(text).map(|script| match script {
        Script::Hiragana | Script::Katakana => Script::Mandarin,
        other => other,
    })
}

impl Language {
    /// Takes a chunk in place of the last one.
    pub(super) fn read(&mut self, chunk: &str) {
        self.reader.read(chunk);
        self.words.clear();
        self.words.extend_from_slice(self.reader.hashes());
        self.words.sort_unstable();
        self.words.dedup();
        self.beginning.clear();
        self.beginning.push_str(beginning(chunk));
        self.sure = None;
    }

    /// What the text is in, and what the chunk is in, where they differ for sure.
    pub(super) fn differs(&mut self, text: &str) -> Option<(String, String)> {
        self.reader.read(text);
        let hashes = self.reader.hashes();
        let num_known = hashes.iter().filter(|word| self.words.binary_search(word).is_ok()).count();
        if hashes.is_empty() || self.words.is_empty() || num_known as f64 >= SHARE_OF_SAME * hashes.len() as f64 {
            return None;
        }
        let text = beginning(text);
        let (own, of_chunk) = (script(text)?, script(&self.beginning)?);
        if own != of_chunk {
            return Some((own.name().to_owned(), of_chunk.name().to_owned()));
        }
        let of_chunk = (*self.sure.get_or_insert_with(|| sure_language(&self.beginning)))?;
        let own = sure_language(text).filter(|own| *own != of_chunk)?;
        Some((own.eng_name().to_owned(), of_chunk.eng_name().to_owned()))
    }
}

/// A question's or an answer's words as one number each, for telling whether one is the other.
pub(super) fn word_hashes(text: &str) -> Vec<u64> {
    let mut words = Words::default();
    words.read(text);
    if words.hashes().is_empty() && !text.trim().is_empty() {
        return vec![hash_bytes(text.trim().as_bytes())];
    }
    words.hashes().to_vec()
}

#[cfg(test)]
mod tests;
