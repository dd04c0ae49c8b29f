//! Questions that stand word for word in another chunk, as sentences of a text do that was put together from others or came in several copies: that chunk
//! would be found first, and training would learn that it is wrong.

use std::collections::{HashMap, HashSet};

use super::super::words::{Words, mix};
use super::pair::GeneratedPair;
use super::parts::by_parts;
use super::report::Filtered;

/// Name of the rule for questions that stand in the chunk of another pair that stays.
pub const QUESTION_ELSEWHERE: &str = "question_elsewhere";

/// A question is looked for by so many of its first words, the most that it has; long ones keep apart questions that begin alike.
const ANCHOR_WORDS: [usize; 10] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32];

/// Takes out a pair whose question stands in the chunk of an earlier pair that stays, or whose chunk holds the question of one. Pairs of
/// one chunk do not count against each other.
pub(super) fn remove_found_elsewhere(pairs: &mut Vec<GeneratedPair>) -> Filtered {
    let mut filtered = Filtered::new(QUESTION_ELSEWHERE);
    let (chunk_of, chunks) = chunks(pairs);
    let found = occurrences(pairs, &chunk_of, &chunks);
    // a chunk with a pair that stays, and one that such a pair's question stands in, with the pair
    let (mut kept, mut taken): (HashMap<u32, u32>, HashMap<u32, u32>) = (HashMap::new(), HashMap::new());
    let mut at = 0;
    let mut stays = Vec::with_capacity(pairs.len());
    for (number, pair) in (0u32..).zip(pairs.iter()) {
        let from = at;
        while found.get(at).is_some_and(|(question, _)| *question == number) {
            at += 1;
        }
        let (own, others) = (chunk_of[number as usize], &found[from..at]);
        let earlier = taken.get(&own).or_else(|| others.iter().find_map(|(_, chunk)| kept.get(chunk))).copied();
        if let Some(earlier) = earlier {
            let earlier = &pairs[earlier as usize];
            let reason = || format!("a question and the chunk of another: pair {} of {}", earlier.id, earlier.document);
            filtered.add(pair, reason, true);
        } else {
            kept.entry(own).or_insert(number);
            for (_, chunk) in others {
                taken.entry(*chunk).or_insert(number);
            }
        }
        stays.push(earlier.is_none());
    }
    let mut stays = stays.into_iter();
    pairs.retain(|_| stays.next().expect("one entry a pair"));
    filtered
}

/// The number of each pair's chunk, and a pair of each chunk; equal texts are one chunk.
fn chunks(pairs: &[GeneratedPair]) -> (Vec<u32>, Vec<u32>) {
    let (mut numbers, mut of, mut firsts): (HashMap<&str, u32>, Vec<u32>, Vec<u32>) = Default::default();
    for (number, pair) in (0u32..).zip(pairs) {
        let new = numbers.len() as u32;
        let chunk = *numbers.entry(&pair.chunk).or_insert(new);
        if chunk == new {
            firsts.push(number);
        }
        of.push(chunk);
    }
    (of, firsts)
}

/// Questions and the chunks, others than their own, that they stand in; ascending, each once.
fn occurrences(pairs: &[GeneratedPair], chunk_of: &[u32], chunks: &[u32]) -> Vec<(u32, u32)> {
    let mut words = Words::default();
    let mut begins: HashMap<u64, Vec<u32>> = HashMap::new();
    let mut lengths = HashSet::new();
    let questions: Vec<Box<[u64]>> = pairs
        .iter()
        .map(|pair| {
            words.read(&pair.question);
            words.hashes().into()
        })
        .collect();
    for (number, question) in (0u32..).zip(&questions) {
        if let Some(&length) = ANCHOR_WORDS.iter().rev().find(|length| **length <= question.len()) {
            lengths.insert(length);
            begins.entry(anchor_key(&question[..length])).or_default().push(number);
        }
    }
    let found = by_parts(chunks.len(), |range| {
        let (mut words, mut found) = (Words::default(), Vec::new());
        for chunk in range {
            words.read(&pairs[chunks[chunk] as usize].chunk);
            let text = words.hashes();
            for (start, length) in (0..text.len()).flat_map(|start| lengths.iter().map(move |length| (start, *length))) {
                let Some(anchor) = text.get(start..start + length) else { continue };
                for &question in begins.get(&anchor_key(anchor)).into_iter().flatten() {
                    let is_other = chunk_of[question as usize] != chunk as u32;
                    if is_other && text[start..].starts_with(&questions[question as usize]) {
                        found.push((question, chunk as u32));
                    }
                }
            }
        }
        found
    });
    let mut found: Vec<(u32, u32)> = found.into_iter().flatten().collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn anchor_key(words: &[u64]) -> u64 {
    words.iter().fold(words.len() as u64, |sum, &word| mix(sum, word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(number: usize, question: &str, chunk: &str) -> GeneratedPair {
        let (question, answer) = (question.to_owned(), "rest".to_owned());
        GeneratedPair { id: number.to_string(), question, answer, chunk: chunk.into(), document: "d".into(), score: None }
    }

    fn left(rows: &[(&str, &str)]) -> Vec<String> {
        let mut pairs: Vec<_> = rows.iter().enumerate().map(|(i, (question, chunk))| pair(i, question, chunk)).collect();
        let all = pairs.len();
        let filtered = remove_found_elsewhere(&mut pairs);
        assert_eq!(filtered.count as usize, all - pairs.len());
        pairs.into_iter().map(|pair| pair.id).collect()
    }

    /// Goal: of chunks that hold each other's questions the first one's pairs stay, whichever of the two holds the other's; others stay.
    /// Method: copies cut at other places, a question within a word and at the end, two pairs of a chunk, equal chunks.
    #[test]
    fn first_stays() {
        let chunk = "The tower is old. It has a red door. Nobody lives there.";
        let copy = "It has a red door! Nobody lives there. The garden is large.";
        assert_eq!(left(&[("It has a red door.", chunk), ("The garden is large.", copy)]), ["0"]);
        assert_eq!(left(&[("The tower is old.", chunk), ("Nobody lives THERE", copy)]), ["0"]);
        assert_eq!(left(&[("The tower is old.", chunk), ("The garden is large.", copy)]), ["0", "1"]);
        assert_eq!(left(&[("It has a red door.", chunk), ("Nobody lives there.", chunk)]), ["0", "1"]);
        let copy_of_chunk = &String::from(chunk);
        assert_eq!(left(&[("It has a red door.", chunk), ("Nobody lives there.", copy_of_chunk)]), ["0", "1"]);
        assert_eq!(left(&[("He has a red doo", chunk), ("has a red doo", copy)]), ["0", "1"]);
        // what was taken out takes nothing out
        let third = "The garden is large. A wall goes around it.";
        assert_eq!(
            left(&[("It has a red door.", chunk), ("Nobody lives there.", copy), ("The garden is large.", third)]),
            ["0", "2"]
        );
        let long = "one two three four five six seven eight nine ten";
        assert_eq!(left(&[("one two three four five six seven eleven", "x"), (long, "y")]), ["0", "1"]);
        assert_eq!(left(&[(long, "x"), ("y", &format!("y {long}"))]), ["0"]);
        assert_eq!(left(&[("?", "x"), ("...", "y")]), ["0", "1"]);
    }
}
