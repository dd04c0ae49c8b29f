//! Accents that a file draws apart from their letters.

use unicode_normalization::UnicodeNormalization;

/// The combining mark of an accent that stands alone.
pub fn combining(text: &str) -> Option<char> {
    let mut chars = text.chars();
    let mark = match chars.next()? {
        '`' | '\u{2cb}' => '\u{300}',
        '\u{b4}' | '\u{2ca}' => '\u{301}',
        '\u{2c6}' | '^' => '\u{302}',
        '\u{2dc}' | '~' => '\u{303}',
        '\u{af}' | '\u{2c9}' => '\u{304}',
        '\u{2d8}' => '\u{306}',
        '\u{2d9}' => '\u{307}',
        '\u{a8}' => '\u{308}',
        '\u{2da}' => '\u{30a}',
        '\u{2dd}' => '\u{30b}',
        '\u{2c7}' => '\u{30c}',
        '\u{b8}' => '\u{327}',
        '\u{2db}' => '\u{328}',
        // marks that combine already but come before what they strike or crown
        c @ ('\u{300}'..='\u{30c}' | '\u{338}') => c,
        _ => return None,
    };
    chars.next().is_none().then_some(mark)
}

/// A letter with a mark, composed where Unicode has one character for both; `None`: it is no letter.
pub fn compose(letter: &str, mark: char) -> Option<String> {
    let base = match letter {
        "\u{131}" => "i",
        "\u{237}" => "j",
        other => other,
    };
    let fits = |c: char| if mark == '\u{338}' { !c.is_alphanumeric() } else { c.is_alphabetic() };
    let one = base.chars().count() == 1 && base.chars().all(fits);
    one.then(|| format!("{base}{mark}").nfc().collect())
}
