//! Small words in which two questions may not differ: numbers, letters and negations. "Type A" is not "type B", "version 2" not
//! "version 3", "non-small" not "small", however long the rest is.

use super::super::words::{each_word, hash_bytes, mix};

const NEGATIONS: &[&str] = &["non", "not", "without", "except", "never", "nicht", "ohne", "sans", "sin", "senza"];
const ROMAN_DIGITS: &str = "IVX";

/// A hash of a question's numbers and negations, whatever their order.
///
/// A number is a word that begins with a digit, one capital letter, or two and more Roman digits; the first word and "I" are none,
/// and a question in capitals has only those with digits.
pub(super) fn marks_key(question: &str) -> u64 {
    let mut marks = Vec::new();
    each_word(question, &mut String::new(), |word| {
        if word.starts_with(|letter: char| letter.is_numeric()) || NEGATIONS.contains(&word) {
            marks.push(hash_bytes(word.as_bytes()));
        }
    });
    if question.contains(|letter: char| letter.is_lowercase()) {
        let words = question.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
        let is_mark = |word: &&str| {
            let is_letter = word.len() == 1 && word.bytes().all(|byte| byte.is_ascii_uppercase()) && *word != "I";
            is_letter || word.len() > 1 && word.chars().all(|letter| ROMAN_DIGITS.contains(letter))
        };
        marks.extend(words.skip(1).filter(is_mark).map(|word| hash_bytes(word.as_bytes())));
    }
    marks.sort_unstable();
    marks.dedup();
    marks.into_iter().fold(9, mix)
}

#[cfg(test)]
mod tests;
