//! Bytes to text: which character encoding a file is in, and what is left out of its text.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

use crate::read::{Reason, Unreadable};

/// Bytes that are looked at to tell UTF-16, and text from other data.
const SAMPLE: usize = 64 << 10;
/// Bytes in which HTML and XML must name their encoding.
const DECLARATION: usize = 4096;
/// Control characters among a hundred bytes that no text has.
const MOST_CONTROLS_PERCENT: usize = 2;

/// The text of a file: by its byte order mark, by `declared` (a label of the WHATWG's list, `None` if the format has none), as UTF-8
/// if it is that, else by the frequencies of its bytes. Bytes that are no character become U+FFFD; NULs and a byte order mark are left out.
///
/// # Errors
/// `Broken` if the bytes are no text at all.
pub(crate) fn decode(bytes: &[u8], declared: Option<&'static Encoding>) -> Result<String, Unreadable> {
    let marked = Encoding::for_bom(bytes);
    let encoding = marked.map(|(encoding, _)| encoding).or_else(|| unmarked_utf16(bytes)).or(declared);
    if encoding.is_none_or(|encoding| encoding.is_ascii_compatible()) {
        refuse_binary(bytes)?;
    }
    let encoding = encoding.unwrap_or_else(|| guess(bytes));
    let (text, _, _) = encoding.decode(bytes);
    let mut text = text.into_owned();
    if text.contains(['\0', '\u{feff}']) {
        text.retain(|c| c != '\0' && c != '\u{feff}');
    }
    Ok(text)
}

/// The encoding that HTML (`<meta charset=...>`) or XML (`encoding="..."`) names in its first bytes.
pub(crate) fn declared_in_markup(bytes: &[u8]) -> Option<&'static Encoding> {
    let head = bytes.get(..DECLARATION).unwrap_or(bytes).to_ascii_lowercase();
    [&b"charset"[..], b"encoding"].iter().find_map(|word| {
        let at = head.windows(word.len()).position(|window| window == *word)?;
        let rest = &head[at + word.len()..];
        let skipped = rest.iter().take_while(|byte| b" \t\r\n='\"".contains(byte)).count();
        let label = &rest[skipped..];
        let length = label.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"-_:.".contains(byte)).count();
        // A page that says UTF-16 in ASCII letters is not in UTF-16.
        Encoding::for_label(&label[..length]).map(|encoding| if encoding.is_ascii_compatible() { encoding } else { UTF_8 })
    })
}

fn guess(bytes: &[u8]) -> &'static Encoding {
    if std::str::from_utf8(bytes).is_ok() {
        return UTF_8;
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(bytes, true);
    let guessed = detector.guess(None, Utf8Detection::Allow);
    // A few torn characters in megabytes of UTF-8 do not make it something else.
    let (_, errors) = utf8_errors(bytes);
    if errors * 20 <= bytes.iter().filter(|byte| !byte.is_ascii()).count() { UTF_8 } else { guessed }
}

/// Characters of several bytes that are right, and places that are not UTF-8.
fn utf8_errors(bytes: &[u8]) -> (usize, usize) {
    bytes.utf8_chunks().fold((0, 0), |(right, wrong), chunk| {
        (right + chunk.valid().chars().filter(|c| !c.is_ascii()).count(), wrong + usize::from(!chunk.invalid().is_empty()))
    })
}

/// UTF-16 without a mark: nearly every second byte of western text is NUL.
fn unmarked_utf16(bytes: &[u8]) -> Option<&'static Encoding> {
    let sample = &bytes[..bytes.len().min(SAMPLE) & !1];
    let nuls = |odd: usize| sample.iter().skip(odd).step_by(2).filter(|byte| **byte == 0).count();
    let (first, second, pairs) = (nuls(0), nuls(1), sample.len() / 2);
    if pairs < 2 {
        return None;
    }
    let is_most = |nuls: usize, others: usize| nuls * 10 >= pairs * 6 && others * 20 <= pairs;
    match (is_most(first, second), is_most(second, first)) {
        (true, false) => Some(UTF_16BE),
        (false, true) => Some(UTF_16LE),
        _ => None,
    }
}

fn refuse_binary(bytes: &[u8]) -> Result<(), Unreadable> {
    let sample = bytes.get(..SAMPLE).unwrap_or(bytes);
    let is_control = |byte: &&u8| byte.is_ascii_control() && !b"\0\t\n\r\x0b\x0c\x1b\x08".contains(byte);
    let controls = sample.iter().filter(is_control).count();
    if controls * 100 > sample.len() * MOST_CONTROLS_PERCENT {
        let message = "the file is no text: it is full of control characters; give it the extension of what it is";
        return Err(Unreadable { reason: Reason::Broken, message: message.into() });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
