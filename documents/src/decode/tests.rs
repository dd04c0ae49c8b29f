use super::*;

/// Goal: every common encoding is read. Method: the same words in each, with and without marks.
#[test]
fn encodings_are_told_apart() {
    let text = "Größe und Maß: naïve façade, déjà vu. Der Bär läuft über die Straße zum Café.";
    assert_eq!(decode(text.as_bytes(), None).unwrap(), text);
    assert_eq!(decode(&[b"\xef\xbb\xbf", text.as_bytes()].concat(), None).unwrap(), text);
    let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert_eq!(decode(&little, None).unwrap(), text);
    assert_eq!(decode(&big, None).unwrap(), text);
    assert_eq!(decode(&[&b"\xff\xfe"[..], &little].concat(), None).unwrap(), text);
    assert_eq!(decode(&[&b"\xfe\xff"[..], &big].concat(), None).unwrap(), text);
    let (latin, _, _) = encoding_rs::WINDOWS_1252.encode(text);
    assert_eq!(decode(&latin, None).unwrap(), text);
    let russian = "Съешь ещё этих мягких французских булок, да выпей чаю. Широкая электрификация южных губерний.";
    let (koi, _, _) = encoding_rs::KOI8_R.encode(russian);
    assert_eq!(decode(&koi, Some(encoding_rs::KOI8_R)).unwrap(), russian);
    let (cyrillic, _, _) = encoding_rs::WINDOWS_1251.encode(russian);
    assert_eq!(decode(&cyrillic, None).unwrap(), russian);
}

/// Goal: a few bad bytes do not spoil a text. Method: UTF-8 with a torn character; NULs between words.
#[test]
fn bad_bytes_are_marked_and_nuls_left_out() {
    let mut bytes = "Über den Fluß. ".repeat(50).into_bytes();
    bytes.extend(b"torn \xc3 here\0\0");
    let text = decode(&bytes, None).unwrap();
    assert!(text.starts_with("Über den Fluß.") && text.ends_with("torn \u{fffd} here"), "{text}");
    assert_eq!(decode(b"a\0b", None).unwrap(), "ab");
    assert_eq!(decode(&[0; 4096], None).unwrap(), "");
}

/// Goal: a picture named as text is refused. Method: bytes of every value.
#[test]
fn other_data_is_no_text() {
    let bytes: Vec<u8> = (0..10_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    assert_eq!(decode(&bytes, None).unwrap_err().reason, Reason::Broken);
}

/// Goal: what markup says of its encoding is heard. Method: both spellings of HTML, XML, a label nobody knows.
#[test]
fn markup_names_its_encoding() {
    let named = |html: &str| declared_in_markup(html.as_bytes()).map(Encoding::name);
    assert_eq!(named(r#"<html><meta charset="ISO-8859-1">"#), Some("windows-1252"));
    assert_eq!(named(r#"<META http-equiv="Content-Type" content="text/html; charset=koi8-r">"#), Some("KOI8-R"));
    assert_eq!(named(r#"<?xml version="1.0" encoding="windows-1251"?>"#), Some("windows-1251"));
    assert_eq!(named(r#"<meta charset="utf-16">"#), Some("UTF-8"));
    assert_eq!(named("<p>charset=nonsense"), None);
}
