//! Words for people: text from data made harmless, durations, counts.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with everything that could steer a terminal written out; line feeds and tabs stay.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(steers) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if steers(character) {
            write!(shown, "{}", character.escape_unicode()).expect("writing to a String cannot fail");
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Control characters (C0, DEL, C1) and those that turn the direction of writing.
fn steers(character: char) -> bool {
    let turns = matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    turns || (character.is_control() && character != '\n' && character != '\t')
}

/// `0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        _ if seconds < 9.95 => format!("{:.1} s", seconds.max(0.0)),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `812 B`, `8.1 MB`, `1.3 GB`.
pub fn bytes(number: u64) -> String {
    match number as f64 {
        small if small < 1e3 => format!("{number} B"),
        some if some < 1e6 => format!("{:.1} kB", some / 1e3),
        more if more < 1e9 => format!("{:.1} MB", more / 1e6),
        most => format!("{:.1} GB", most / 1e9),
    }
}

/// `3.1`, `42`, `1,234`: as many digits as tell something.
pub fn rate(per_second: f64) -> String {
    if !per_second.is_finite() || per_second < 0.0 {
        return "?".to_owned();
    }
    match per_second {
        rate if rate < 9.995 => format!("{rate:.2}"),
        rate if rate < 99.95 => format!("{rate:.1}"),
        rate => count(rate.round() as u64),
    }
}

/// A path or URL as a shell word.
pub fn shell_word(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: data cannot steer a terminal. Method: an escape sequence, a C1 control and a direction override are
    /// written out; ordinary text of other scripts stays as it is.
    #[test]
    fn control_characters_are_shown() {
        assert_eq!(printable("a\u{1b}[2Jb\u{9b}c\u{202e}d\re"), "a\\u{1b}[2Jb\\u{9b}c\\u{202e}d\\u{d}e");
        assert!(matches!(printable("naïve 日本語 🙂\n\tline"), Cow::Borrowed(_)));
    }

    /// Goal: figures read well at every size. Method: one value for each form.
    #[test]
    fn figures_for_people() {
        let durations: Vec<_> = [0.04, 9.94, 9.96, 59.6, 185.0, 7640.0].into_iter().map(duration).collect();
        assert_eq!(durations, ["0.0 s", "9.9 s", "10 s", "1 min 00 s", "3 min 05 s", "2 h 07 min"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.5, 12.34, 1234.0, f64::NAN].map(rate), ["0.50", "12.3", "1,234", "?"]);
    }

    /// Goal: a command that is printed can be pasted. Method: a plain word stays, others are quoted.
    #[test]
    fn shell_words() {
        assert_eq!(shell_word("s3://bucket/run-1"), "s3://bucket/run-1");
        assert_eq!(shell_word("it's here"), r"'it'\''s here'");
    }
}
