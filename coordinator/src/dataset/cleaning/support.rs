//! Whether an answer is taken from its chunk: which of its content words and numbers the chunk has.
//!
//! Words are compared by their stems, roughly: the first five letters of a longer word (two syllables in Hangul), a shorter one without a final s.
//! In scripts without spaces pairs of neighbouring letters are compared.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::super::words::{each_word, hash_bytes, is_unspaced, mix};

const STEM_LETTERS: usize = 5;
const HANGUL_STEM_LETTERS: usize = 2;
/// Longest word of an alphabet that is taken to say nothing.
const MAX_EMPTY_LETTERS: usize = 2;

/// Words that say nothing by themselves, in several languages; those of one or two letters are left out anyway.
const STOP_WORDS: &[&str] = &[
    "about", "after", "all", "also", "and", "any", "are", "because", "been", "before", "being", "between", "both", "but", "can",
    "could", "did", "does", "each", "for", "from", "had", "has", "have", "her", "here", "him", "his", "how", "into", "its",
    "may", "more", "most", "must", "not", "only", "other", "our", "over", "shall", "she", "should", "some", "such", "than",
    "that", "the", "their", "them", "then", "there", "these", "they", "this", "those", "through", "under", "very", "was", "were",
    "what", "when", "where", "which", "while", "who", "why", "will", "with", "would", "yes", "you", "your", //
    "aber", "als", "auch", "auf", "aus", "bei", "bis", "das", "dass", "dem", "den", "der", "des", "die", "diese", "dieser",
    "durch", "ein", "eine", "einem", "einen", "einer", "für", "hat", "ist", "kann", "mit", "muss", "nach", "nicht", "nur",
    "oder", "sein", "sich", "sie", "sind", "über", "und", "von", "vor", "war", "werden", "wie", "wird", "zum", "zur", //
    "aux", "avec", "ces", "cette", "dans", "elle", "est", "être", "les", "leur", "mais", "nous", "ont", "par", "pas", "peut",
    "plus", "pour", "que", "qui", "sans", "ses", "son", "sont", "sur", "une", "vous", //
    "como", "con", "del", "ella", "entre", "esta", "este", "las", "los", "más", "para", "pero", "por", "pueden", "puede", "ser",
    "sin", "sobre", "son", "sus", "una", "uno", //
    "che", "dei", "della", "delle", "gli", "nel", "nella", "non", "per", "più", "sono", "una", //
    "das", "dos", "ele", "foi", "mais", "não", "pela", "pelo", "são", "uma", //
    "aan", "dat", "een", "het", "naar", "niet", "ook", "van", "voor", "wordt", "zijn",
];

/// Numbers that chunks spell out and answers write in digits.
const NUMBER_WORDS: [&[&str]; 13] = [
    &["zero", "none", "no"],
    &["one", "first", "once", "single"],
    &["two", "second", "twice", "both"],
    &["three", "third"],
    &["four", "fourth"],
    &["five", "fifth"],
    &["six", "sixth"],
    &["seven", "seventh"],
    &["eight", "eighth"],
    &["nine", "ninth"],
    &["ten", "tenth"],
    &["eleven", "eleventh"],
    &["twelve", "twelfth"],
];

static IS_STOP_WORD: LazyLock<HashSet<&str>> = LazyLock::new(|| STOP_WORDS.iter().copied().collect());
static NUMBER_OF_WORD: LazyLock<HashMap<&str, usize>> = LazyLock::new(|| {
    let words = NUMBER_WORDS.iter().enumerate();
    words.flat_map(|(number, words)| words.iter().map(move |&word| (word, number))).collect()
});

/// The stems and numbers of a text, each ascending.
#[derive(Default)]
pub(super) struct Content {
    stems: Vec<u64>,
    numbers: Vec<u64>,
    buffer: String,
}

/// How far a chunk supports an answer.
#[derive(Debug, PartialEq)]
pub(super) struct Support {
    /// Share of the answer's stems that the chunk has; 1 where there are none.
    pub(super) share: f64,
    /// A number that the chunk has not, if there is one.
    pub(super) missing_number: Option<String>,
}

impl Content {
    /// Takes a chunk's content in place of the last one's.
    pub(super) fn read(&mut self, chunk: &str) {
        stems(chunk, &mut self.buffer, &mut self.stems);
        self.numbers.clear();
        let numbers = &mut self.numbers;
        each_number(chunk, |number, _| numbers.push(hash_bytes(number.as_bytes())));
        each_word(chunk, &mut self.buffer, |word| {
            let spelled = NUMBER_OF_WORD.get(word);
            numbers.extend(spelled.map(|number| hash_bytes(number.to_string().as_bytes())));
        });
        numbers.sort_unstable();
        numbers.dedup();
    }

    /// What of an answer this chunk has; `of_answer` is where the answer's stems are made.
    pub(super) fn support(&mut self, answer: &str, of_answer: &mut Vec<u64>) -> Support {
        stems(answer, &mut self.buffer, of_answer);
        let num_found = of_answer.iter().filter(|stem| self.stems.binary_search(stem).is_ok()).count();
        let share = if of_answer.is_empty() { 1.0 } else { num_found as f64 / of_answer.len() as f64 };
        let mut missing_number = None;
        each_number(answer, |number, is_list_mark| {
            let is_there = || self.numbers.binary_search(&hash_bytes(number.as_bytes())).is_ok();
            if missing_number.is_none() && !is_list_mark && !is_there() {
                missing_number = Some(number.to_owned());
            }
        });
        Support { share, missing_number }
    }
}

/// The set of stems of a text's content words, ascending.
fn stems(text: &str, buffer: &mut String, into: &mut Vec<u64>) {
    into.clear();
    let mut before: Option<u64> = None;
    each_word(text, buffer, |word| {
        let first = word.chars().next().unwrap_or(' ');
        if is_unspaced(first) {
            let letter = hash_bytes(word.as_bytes());
            into.extend(before.map(|before| mix(before, letter)));
            before = Some(letter);
            return;
        }
        before = None;
        let num_letters = word.chars().count();
        if first.is_numeric() || num_letters <= MAX_EMPTY_LETTERS && first.is_lowercase() || IS_STOP_WORD.contains(word) {
            return;
        }
        let stem_letters = if ('\u{AC00}'..='\u{D7A3}').contains(&first) { HANGUL_STEM_LETTERS } else { STEM_LETTERS };
        let stem = match word.char_indices().nth(stem_letters) {
            Some((end, _)) => &word[..end],
            None if num_letters > 3 => word.strip_suffix('s').unwrap_or(word),
            None => word,
        };
        into.push(hash_bytes(stem.as_bytes()));
    });
    into.sort_unstable();
    into.dedup();
}

/// Calls `f` with each number, written one way (`10,000` as `10000`, `5,2` as `5.2`), and whether it only numbers a list's item.
fn each_number(text: &str, mut f: impl FnMut(&str, bool)) {
    if !text.bytes().any(|byte| byte.is_ascii_digit()) {
        return;
    }
    let letters: Vec<char> = text.chars().collect();
    let digit = |at: usize| letters.get(at).is_some_and(char::is_ascii_digit);
    let mut number = String::new();
    let mut at = 0;
    while at < letters.len() {
        if !digit(at) {
            at += 1;
            continue;
        }
        let start = at;
        number.clear();
        while digit(at) || matches!(letters.get(at), Some('.' | ',')) && digit(at + 1) {
            if digit(at) {
                number.push(letters[at]);
            } else if !(digit(at + 1) && digit(at + 2) && digit(at + 3) && !digit(at + 4)) {
                number.push('.');
            }
            at += 1;
        }
        let starts_line =
            letters[..start].iter().rev().take_while(|letter| **letter != '\n').all(|letter| !letter.is_alphanumeric());
        let is_list_mark = starts_line && number.len() <= 2 && matches!(letters.get(at), Some('.' | ')'));
        let plain = number.trim_start_matches('0');
        f(if plain.is_empty() { "0" } else { plain }, is_list_mark);
    }
}

#[cfg(test)]
mod tests;
