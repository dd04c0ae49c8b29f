//! What texts cost in characters or tokens, and where to cut one that costs too much.

use super::Unit;

/// Characters that cost at least a token: a word of ten megabytes that a tokenizer does not know would else be one token.
const CHARACTERS_PER_TOKEN: usize = 16;
/// Characters of English that cost about a token: where the search for a cut begins.
const USUAL_CHARACTERS_PER_TOKEN: usize = 4;
/// Measurements of one search for a cut.
const MOST_TRIES: usize = 8;

/// Counts units.
pub(super) struct Cost<'a> {
    unit: Unit,
    measure: &'a dyn Fn(&str) -> usize,
}

impl<'a> Cost<'a> {
    pub(super) fn new(unit: Unit, measure: &'a dyn Fn(&str) -> usize) -> Self {
        Self { unit, measure }
    }

    /// Whether costs of joined texts may differ from the sum of their costs.
    pub(super) fn is_inexact(&self) -> bool {
        self.unit == Unit::Tokens
    }

    /// What a text costs.
    pub(super) fn of(&self, text: &str) -> usize {
        self.up_to(text, usize::MAX)
    }

    /// What a text costs, or, without looking at all of a text that is surely too long, anything above `limit`.
    pub(super) fn up_to(&self, text: &str, limit: usize) -> usize {
        // No character is longer than four bytes.
        let per_unit = if self.unit == Unit::Tokens { CHARACTERS_PER_TOKEN } else { 1 };
        if text.len() / 4 / per_unit > limit {
            return text.len() / 4 / per_unit;
        }
        let least = text.chars().count().div_ceil(per_unit);
        if self.unit == Unit::Characters || least > limit { least } else { least.max((self.measure)(text)) }
    }

    /// Where to cut `text` so that what comes before costs at most `room`: between words if it can be, else between characters.
    /// Never 0, for progress: one character is the least, whatever it costs.
    pub(super) fn cut(&self, text: &str, room: usize) -> usize {
        let found = match self.unit {
            Unit::Characters => before_word(text, room),
            Unit::Tokens => self.search(text, room, before_word, |at| &text[..at]),
        };
        if found > 0 { found } else { text.chars().next().map_or(0, char::len_utf8) }
    }

    /// Where the longest tail of `text` begins that begins with a word and costs at most `room`; the length of `text` if none does.
    pub(super) fn tail(&self, text: &str, room: usize) -> usize {
        match self.unit {
            Unit::Characters => from_word(text, room),
            Unit::Tokens => {
                let found =
                    self.search(text, room, |text, n| text.len() - from_word(text, n), |length| &text[text.len() - length..]);
                text.len() - found
            }
        }
    }

    /// The most bytes that cost at most `room`, nearly: `length` tells the bytes for a number of characters, `slice` their text.
    /// Costs grow with texts, so a few proportional steps come within a tenth.
    fn search<'t>(
        &self,
        text: &str,
        room: usize,
        length: impl Fn(&str, usize) -> usize,
        slice: impl Fn(usize) -> &'t str,
    ) -> usize {
        let mut most = room.saturating_mul(CHARACTERS_PER_TOKEN).min(text.len());
        let mut characters = room.saturating_mul(USUAL_CHARACTERS_PER_TOKEN).clamp(1, most.max(1));
        let mut best = 0;
        for _ in 0..MOST_TRIES {
            let bytes = length(text, characters);
            let cost = self.of(slice(bytes));
            let scaled = characters.saturating_mul(room) / cost.max(1);
            if cost <= room {
                best = best.max(bytes);
                if characters >= most || bytes >= text.len() || cost * 10 >= room * 9 {
                    break;
                }
                characters = scaled.max(characters + 1).min(most);
            } else {
                most = characters - 1;
                // A little under the mark, so that the next try is likely to be the last.
                characters = (scaled - scaled / 32).min(most);
            }
            if characters == 0 || most == 0 {
                break;
            }
        }
        best
    }
}

/// Bytes of the longest beginning of at most `characters` that ends between words, or of exactly that many if no word ends there.
fn before_word(text: &str, characters: usize) -> usize {
    let Some((at, _)) = text.char_indices().nth(characters) else { return text.len() };
    if is_between_words(text, at) {
        return at;
    }
    let word = text[..at].char_indices().rev().map(|(i, _)| i).find(|i| *i > 0 && is_between_words(text, *i));
    if let Some(word) = word.filter(|word| !text[..*word].trim().is_empty()) {
        return word;
    }
    // Not between a letter and its accents.
    let before: Vec<usize> = text[..at].char_indices().rev().map(|(i, _)| i).take(8).collect();
    let is_mark = |i: usize| text[i..].chars().next().is_some_and(is_mark);
    std::iter::once(at).chain(before).find(|i| *i > 0 && !is_mark(*i)).unwrap_or(at)
}

/// Where the longest tail of at most `characters` begins that begins with a word.
fn from_word(text: &str, characters: usize) -> usize {
    let skipped = text.chars().count().saturating_sub(characters);
    let at = text.char_indices().nth(skipped).map_or(text.len(), |(at, _)| at);
    let begins_word = |i: usize| !text[i..].starts_with(char::is_whitespace) && (i == 0 || is_between_words(text, i));
    text[at..].char_indices().map(|(i, _)| at + i).find(|i| begins_word(*i)).unwrap_or(text.len())
}

/// Whether no word goes over this place. Scripts without spaces may be cut anywhere.
fn is_between_words(text: &str, at: usize) -> bool {
    let (before, after) = (text[..at].chars().next_back(), text[at..].chars().next());
    let is_edge = |c: Option<char>| c.is_none_or(|c| c.is_whitespace() || is_spaceless(c));
    (is_edge(before) || is_edge(after)) && !after.is_some_and(is_mark)
}

/// Han, kana, and the scripts of south-east Asia that put no spaces between words.
fn is_spaceless(c: char) -> bool {
    matches!(c, '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3000}'..='\u{30ff}'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// What belongs to the character before it.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}' | '\u{0e31}' | '\u{0e34}'..='\u{0e3a}'
        | '\u{0e47}'..='\u{0e4e}' | '\u{3099}' | '\u{309a}')
}
