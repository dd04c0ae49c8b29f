//! Pairs out of JSON: an object or a list, bare, in a fence, after a sentence, or cut off.

use serde_json::{Map, Value};

use super::Found;

/// Places in a reply at which JSON is looked for.
const MOST_STARTS: usize = 32;
/// Levels of lists and objects below which no pair is looked for.
const MOST_DEPTH: usize = 8;

/// Takes the pairs of the reply's JSON; false when the reply is not JSON with pairs in it and may be read as text.
pub(super) fn collect(reply: &str, found: &mut Found) -> bool {
    let starts = reply.match_indices(['{', '[']).map(|(at, _)| at).filter(|at| begins_json(&reply[*at..]));
    for at in starts.take(MOST_STARTS) {
        let mut values = serde_json::Deserializer::from_str(&reply[at..]).into_iter::<Value>();
        let Some(Ok(value)) = values.next() else { continue };
        let before = (found.pairs.len(), found.trouble.is_some());
        walk(&value, MOST_DEPTH, found);
        // several values one after the other, one a line
        values.map_while(Result::ok).for_each(|value| walk(&value, MOST_DEPTH, found));
        let whole = at == 0 || reply[..at].trim_end().ends_with("json");
        if before != (found.pairs.len(), found.trouble.is_some()) || whole {
            found.trouble("the JSON has no question with an answer");
            return true;
        }
    }
    let Some(at) = first_pair(reply) else { return false };
    salvage(&reply[at..], found);
    found.trouble("the JSON is cut off or broken, and no pair in it is whole");
    true
}

/// Whether this is how JSON of objects, lists or texts begins.
fn begins_json(text: &str) -> bool {
    let after = text[1..].trim_start();
    after.starts_with(['"', '{', '[', '}', ']'])
}

/// The first brace after which a key of pairs stands in quotes.
fn first_pair(reply: &str) -> Option<usize> {
    let names_pairs = |at: &usize| {
        let Some(rest) = reply[at + 1..].trim_start().strip_prefix('"') else { return false };
        let key: String = rest.chars().take(24).take_while(|c| *c != '"').collect();
        let key = plain(&key);
        key == "pairs" || key == "questions" || (key.len() > 1 && half(&key).is_some())
    };
    reply.match_indices('{').map(|(at, _)| at).find(names_pairs)
}

/// Takes every object that is whole and holds no other: what is left of a list that was cut off.
fn salvage(reply: &str, found: &mut Found) {
    let (mut open, mut in_text, mut escaped) = (None, false, false);
    for (at, byte) in reply.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' if !in_text => open = Some(at),
            b'}' if !in_text => {
                let object = open.take().and_then(|from| serde_json::from_str::<Value>(&reply[from..=at]).ok());
                object.iter().for_each(|object| walk(object, 1, found));
            }
            _ => {}
        }
    }
}

/// Takes the pairs of a value and of what lies in it.
fn walk(value: &Value, depth: usize, found: &mut Found) {
    match value {
        _ if depth == 0 => {}
        Value::Array(items) => items.iter().for_each(|item| walk(item, depth - 1, found)),
        Value::Object(map) => {
            pairs_of(map, found);
            map.values().for_each(|inner| walk(inner, depth - 1, found));
        }
        _ => {}
    }
}

/// The pairs of one object: `question` and `answer`, or `question_1`, `answer_1`, ...
fn pairs_of(map: &Map<String, Value>, found: &mut Found) {
    for (key, value) in map {
        let Some((Half::Question, number)) = half(key) else { continue };
        let Some(question) = scalar(value) else { continue };
        let answer = map.iter().find(|(other, _)| half(other) == Some((Half::Answer, number.clone())));
        match answer.and_then(|(_, value)| scalar(value)) {
            Some(answer) => found.push(&question, &answer),
            None => found.trouble("no answer to the question"),
        }
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(bool) => Some(if *bool { "Yes" } else { "No" }.to_owned()),
        _ => None,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Question,
    Answer,
}

fn plain(key: &str) -> String {
    key.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// Which half a key names, and the number after it.
fn half(key: &str) -> Option<(Half, String)> {
    let key = plain(key);
    let word = key.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = key[word.len()..].to_owned();
    match word {
        "question" | "q" | "query" | "questiontext" => Some((Half::Question, number)),
        "answer" | "a" | "ans" | "answertext" | "response" => Some((Half::Answer, number)),
        _ => None,
    }
}
