//! A judge's reply to its score: JSON where there is some, else a label with a number after it, else a mere number.

use serde_json::Value;

use crate::parse::{MOST_REPLY_BYTES, Malformed, without_thoughts};

/// The scale: from 1 to this.
const MOST: u64 = 5;
/// Places in a reply at which JSON is looked for, and levels of it that are looked at.
const MOST_STARTS: usize = 32;
const MOST_DEPTH: usize = 8;
/// A note after a label, as in `Score (1 to 5):`, has at most this many characters.
const MOST_NOTE_CHARS: usize = 40;
/// What a score is called.
const LABELS: [&str; 2] = ["score", "rating"];

/// The score in a judge's reply, 1 to 5. Of a number with a fraction the whole part counts: against a whole threshold it comes to the same.
///
/// # Errors
/// There is no score in it, or one that is not from 1 to 5.
pub fn parse_score(reply: &str) -> Result<u8, Malformed> {
    if reply.len() > MOST_REPLY_BYTES {
        return Err(Malformed(format!("the reply has {} bytes, at most {MOST_REPLY_BYTES}", reply.len())));
    }
    let reply = without_thoughts(reply.trim_start_matches('\u{feff}').trim());
    if reply.is_empty() {
        return Err(Malformed("the reply is empty".into()));
    }
    let found = of_json(reply).or_else(|| of_label(reply)).or_else(|| of_number(reply));
    match found {
        Some(Ok(score)) => Ok(score),
        Some(Err(what)) => Err(Malformed(what)),
        None => Err(Malformed("no score in the reply".into())),
    }
}

/// A score, or why what stands in its place is none.
type Found = Option<Result<u8, String>>;

/// The first score of the reply's JSON.
fn of_json(reply: &str) -> Found {
    let starts = reply.match_indices(['{', '[']).map(|(at, _)| at).take(MOST_STARTS);
    starts.into_iter().find_map(|at| {
        let value = serde_json::Deserializer::from_str(&reply[at..]).into_iter::<Value>().next()?.ok()?;
        in_value(&value, MOST_DEPTH)
    })
}

fn in_value(value: &Value, depth: usize) -> Found {
    match value {
        _ if depth == 0 => None,
        Value::Array(items) => items.iter().find_map(|item| in_value(item, depth - 1)),
        Value::Object(map) => {
            let named = map.iter().find(|(key, _)| LABELS.contains(&key.trim().to_lowercase().as_str()));
            match named {
                Some((_, Value::Number(number))) => number_at(&number.to_string()),
                Some((_, Value::String(text))) => number_at(text),
                _ => map.values().find_map(|inner| in_value(inner, depth - 1)),
            }
        }
        _ => None,
    }
}

/// The number after the last label that has one: what a model says last is its verdict.
fn of_label(reply: &str) -> Found {
    let lower = reply.to_ascii_lowercase();
    let labels = LABELS.iter().flat_map(|label| lower.match_indices(label).map(|(at, label)| (at, at + label.len())));
    let mut labels: Vec<(usize, usize)> = labels.collect();
    labels.sort_unstable();
    labels.into_iter().rev().find_map(|(start, end)| {
        let is_word = !lower[..start].ends_with(char::is_alphanumeric) && !lower[end..].starts_with(char::is_alphanumeric);
        is_word.then(|| number_at(after_label(&lower[end..])))?
    })
}

/// What follows a label, without a note in parentheses, signs, and `is` or `of`.
fn after_label(text: &str) -> &str {
    let is_sign = |c: char| {
        c.is_whitespace() || matches!(c, '*' | '_' | '`' | '"' | '\'' | ':' | '\u{ff1a}' | '=' | '-' | '\u{2013}' | '|' | '[')
    };
    let rest = text.trim_start_matches(is_sign);
    let note = rest.strip_prefix('(').and_then(|note| {
        let end = note.char_indices().take(MOST_NOTE_CHARS).find(|(_, c)| *c == ')')?.0;
        let after = note[end + 1..].trim_start_matches(is_sign);
        after.starts_with(|c: char| c.is_ascii_digit()).then_some(after)
    });
    let rest = note.unwrap_or(rest).trim_start_matches('(');
    let word = ["is", "of"].iter().find_map(|word| rest.strip_prefix(word)).filter(|after| after.starts_with(is_sign));
    word.map_or(rest, |after| after.trim_start_matches(is_sign))
}

/// The number that is all there is, in bold or a fence maybe.
fn of_number(reply: &str) -> Found {
    let is_frame = |c: char| c.is_whitespace() || matches!(c, '*' | '_' | '`' | '"' | '.' | '(' | ')');
    let bare = reply.trim_matches(is_frame);
    let is_alone = bare.len() <= 12 && bare.starts_with(|c: char| c.is_ascii_digit()) && !bare.contains('\n');
    is_alone.then(|| number_at(bare))?.filter(|_| ends_with_scale(bare))
}

/// Whether nothing but a scale follows a number: `4`, `4.0`, `4/5`, `4 out of 5`.
fn ends_with_scale(text: &str) -> bool {
    let (_, rest) = split_number(text);
    rest.trim().is_empty() || scale(rest).is_some_and(|(_, after)| after.trim().is_empty())
}

/// Digits, with a fraction maybe, and what follows.
fn split_number(text: &str) -> (&str, &str) {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let fraction =
        text[digits..].strip_prefix('.').map_or(0, |rest| rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
    let end = if fraction == 0 { digits } else { digits + 1 + fraction };
    text.split_at(end)
}

/// The scale that a number is on, where one is named: `/5`, `out of 5`, `of 5`; and what follows.
fn scale(text: &str) -> Option<(&str, &str)> {
    let rest = text.trim_start_matches([' ', '*', '_', '"']);
    let rest = ["/", "out of ", "of "].iter().find_map(|word| rest.strip_prefix(word))?.trim_start();
    let (number, after) = split_number(rest);
    (!number.is_empty()).then_some((number, after))
}

/// The score that a text begins with.
fn number_at(text: &str) -> Found {
    let text = text.trim_start();
    let (number, rest) = split_number(text);
    if number.is_empty() {
        return None;
    }
    // a range, a percentage, part of a word or of a date
    let near = rest.trim_start_matches([' ', '*', '_']);
    let end_of_range = near.strip_prefix(['-', '\u{2013}']).or_else(|| near.strip_prefix("to ")).map(str::trim_start);
    let is_range = end_of_range.is_some_and(|end| end.starts_with(|c: char| c.is_ascii_digit()));
    if is_range || rest.starts_with(char::is_alphanumeric) {
        return None;
    }
    if near.starts_with('%') {
        return Some(Err(format!("the score is {number}%, not from 1 to {MOST}")));
    }
    if let Some((of, _)) = scale(rest).filter(|(of, _)| of.parse::<f64>() != Ok(MOST as f64)) {
        return Some(Err(format!("the score is {number} of {of}, not of {MOST}")));
    }
    let whole = number.split('.').next().unwrap_or_default().parse::<u64>().ok().filter(|whole| (1..=MOST).contains(whole));
    // above 5 by a fraction is above 5
    let whole = whole.filter(|_| number.parse::<f64>().is_ok_and(|number| number <= MOST as f64));
    Some(whole.and_then(|whole| u8::try_from(whole).ok()).ok_or_else(|| format!("the score is {number}, not from 1 to {MOST}")))
}
