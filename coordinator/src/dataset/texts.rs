//! The distinct texts of a data set, numbered, and which of them are the same but for case and punctuation.

use std::collections::HashMap;

use super::union::Union;
use super::words::Words;

/// Distinct texts by number.
#[derive(Default)]
pub(super) struct Texts<'a> {
    numbers: HashMap<&'a str, u32>,
    all: Vec<&'a str>,
}

impl<'a> Texts<'a> {
    /// The number of a text, new if it is.
    pub(super) fn number(&mut self, text: &'a str) -> u32 {
        let all = &mut self.all;
        *self.numbers.entry(text).or_insert_with(|| {
            all.push(text);
            (all.len() - 1) as u32
        })
    }

    /// The texts by number.
    pub(super) fn all(&self) -> &[&'a str] {
        &self.all
    }

    /// Joins texts that are the same but for case and punctuation; the first of each, and which first each belongs to.
    pub(super) fn join_equal(&self, union: &mut Union) -> Vec<u32> {
        let mut words = Words::default();
        let mut first_of: HashMap<u128, u32> = HashMap::with_capacity(self.all.len());
        let mut firsts = Vec::with_capacity(self.all.len());
        for (number, text) in self.all.iter().enumerate() {
            let number = number as u32;
            words.read(text);
            let Some(key) = words.key() else { continue };
            let first = *first_of.entry(key).or_insert(number);
            if first == number {
                firsts.push(number);
            } else {
                union.join(first, number);
            }
        }
        firsts
    }
}
