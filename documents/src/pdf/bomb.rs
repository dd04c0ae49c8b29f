//! Small files that would unpack to gigabytes, found before a parser unpacks them.

use std::io::Read;

/// A stream may unpack to this many bytes.
const MAX_STREAM: u64 = 512 << 20;
/// Deflate packs at most about 1032 to 1: a packed stream below this is within the limit whatever it holds.
const SMALL: usize = (MAX_STREAM / 1100) as usize;

/// Whether a stream of the file unpacks to more than it may. Looks at the bytes alone, so damaged files are looked at too;
/// encrypted streams unpack to nothing and pass.
pub fn is_bomb(bytes: &[u8]) -> bool {
    let mut at = 0;
    while let Some(found) = find(&bytes[at..], b"stream") {
        let word = at + found;
        at = word + 6;
        if bytes[..word].ends_with(b"end") {
            continue;
        }
        let start = at + usize::from(bytes.get(at) == Some(&b'\r'));
        let start = start + usize::from(bytes.get(start) == Some(&b'\n'));
        let end = find(&bytes[at..], b"endstream").map_or(bytes.len(), |e| at + e);
        if start >= end {
            continue;
        }
        let head = &bytes[word.saturating_sub(1024)..word];
        let head = find_last(head, b"obj").map_or(head, |o| &head[o..]);
        let packed = count(head, b"FlateDecode") + count(head, b"/Fl ") + count(head, b"LZWDecode");
        if packed == 0 || end - start < SMALL && packed == 1 {
            at = end;
            continue;
        }
        if unpacks_beyond(&bytes[start..end], packed) {
            return true;
        }
        at = end;
    }
    false
}

fn unpacks_beyond(packed: &[u8], times: usize) -> bool {
    let mut reader: Box<dyn Read + '_> = Box::new(packed);
    for _ in 0..times.min(8) {
        reader = Box::new(flate2::read::ZlibDecoder::new(reader));
    }
    let mut buffer = vec![0; 1 << 16];
    let mut total = 0;
    // what cannot be unpacked ends the count: a parser ends there too
    while let Ok(read) = reader.read(&mut buffer) {
        total += read as u64;
        if read == 0 || total > MAX_STREAM {
            break;
        }
    }
    total > MAX_STREAM
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    let first = *what.first()?;
    let mut at = 0;
    while let Some(next) = bytes[at..].iter().position(|b| *b == first) {
        if bytes[at + next..].starts_with(what) {
            return Some(at + next);
        }
        at += next + 1;
    }
    None
}

fn find_last(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).rposition(|w| w == what)
}

fn count(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).filter(|w| *w == what).count()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(packed: &[u8], filters: &str) -> Vec<u8> {
        let head = format!("%PDF-1.4\n1 0 obj\n<< /Length {} /Filter {filters} >>\nstream\r\n", packed.len());
        [head.as_bytes(), packed, b"\nendstream\nendobj\n"].concat()
    }

    fn pack(bytes: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    /// Goal: a stream that unpacks beyond the limit is found, one within it passes.
    /// Method: zeros packed once (600 MB and 100 MB) and, as a chain of two filters, packed twice.
    #[test]
    fn bombs_are_found() {
        let chunk = vec![0; 1 << 20];
        let mut writer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        (0..600).for_each(|_| writer.write_all(&chunk).unwrap());
        let large = writer.finish().unwrap();
        assert!(is_bomb(&file(&large, "/FlateDecode")));
        assert!(is_bomb(&file(&pack(&large), "[/FlateDecode /FlateDecode]")));
        assert!(!is_bomb(&file(&pack(&vec![0; 100 << 20]), "/FlateDecode")));
        assert!(!is_bomb(b"stream endstream stream"));
    }
}
