use super::*;
use crate::docx::tests::zipped;

fn reason(bytes: &[u8], name: &str) -> Reason {
    read(bytes, name, &ReadOptions::default()).unwrap_err().reason
}

/// Goal: contents tell the format before names do. Method: a DOCX and a PDF under other names, an OLE container, names alone.
#[test]
fn formats() {
    let docx = zipped(&[("word/document.xml", b"<d><p><t>Hello there.</t></p></d>")]);
    for name in ["a.docx", "a.txt", "a.pdf", "a"] {
        assert_eq!(detect(&docx, name), Ok(Format::Docx), "{name}");
        assert_eq!(read(&docx, name, &ReadOptions::default()).unwrap().elements[0].text, "Hello there.");
    }
    assert_eq!(detect(b"%PDF-1.7", "a.txt"), Ok(Format::Pdf));
    assert_eq!(detect(b"\n\njunk%PDF-1.7", "a"), Ok(Format::Pdf));
    assert_eq!(detect(b"A file begins with %PDF-1.7", "a.md"), Ok(Format::Markdown));
    for (name, format) in [("a/b.HTM", Format::Html), ("x.y.rst", Format::Plain), ("s3://b/k.Markdown", Format::Markdown)] {
        assert_eq!(detect(b"words", name), Ok(format));
        assert!(is_supported(name));
    }
    for name in ["a.png", "a", ".txt", "txt", "a.pdf.gz", ""] {
        assert!(!is_supported(name), "{name}");
    }
}

/// Goal: a wrong ending is a named reason. Method: text as DOCX, an encrypted and an old Office file, a picture, an archive.
#[test]
fn wrong_endings() {
    let ole = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".to_vec();
    let stream: Vec<u8> = "EncryptedPackage".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(reason(&[ole.clone(), stream].concat(), "a.docx"), Reason::Password);
    assert_eq!(reason(&ole, "a.docx"), Reason::Unsupported);
    assert_eq!(reason(b"only text", "a.docx"), Reason::Broken);
    assert_eq!(reason(b"\x89PNG\r\n\x1a\n", "a.png"), Reason::Unsupported);
    let error = read(b"x", "a.xyz", &ReadOptions::default()).unwrap_err();
    assert!(error.message.contains("a.xyz") && error.message.contains(".docx"), "{error}");
    let noise: Vec<u8> = (0..100_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for name in ["a.txt", "a.md", "a.html"] {
        assert_eq!(reason(&noise, name), Reason::Broken, "{name}");
    }
}

/// Goal: a document without text is empty, whatever it is. Method: no bytes, blanks and NULs under each name.
#[test]
fn empty_documents() {
    for name in ["a.txt", "a.html", "a.md", "a.docx", "a.rst"] {
        assert_eq!(reason(b"", name), Reason::Empty, "{name}");
    }
    for name in ["a.txt", "a.html", "a.md"] {
        assert_eq!(reason(b" \n\t\r\n", name), Reason::Empty, "{name}");
        assert_eq!(reason(&[0; 10_000], name), Reason::Empty, "{name}");
    }
    assert_eq!(reason(b"<html><script>x</script></html>", "a.html"), Reason::Empty);
    assert_eq!(reason(&zipped(&[("word/document.xml", b"<d/>")]), "a.docx"), Reason::Empty);
}

/// Goal: a document of too many pages is refused. Method: three pages where two are allowed.
#[test]
fn too_many_pages() {
    let document = b"<d><p><t>a</t><br type='page'/><t>b</t><br type='page'/><t>c</t></p></d>";
    let docx = zipped(&[("word/document.xml", document)]);
    let options = ReadOptions { max_pages: 2, ..ReadOptions::default() };
    assert_eq!(read(&docx, "a.docx", &options).unwrap_err().reason, Reason::Limit);
    assert_eq!(read(&docx, "a.docx", &ReadOptions::default()).unwrap().pages, 3);
}

proptest::proptest! {
    /// Goal: no input panics, and what is read twice is the same. Method: bytes at random, and pieces of every format mixed, under each name.
    #[test]
    fn any_bytes(
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
        pieces in proptest::collection::vec(proptest::sample::select(vec![
            "<p>", "</p", "<table><tr><td>", "<!--", "]]>", "&amp;", "&#0;", "# ", "- ", "  - ", "| a | b |\n|---|---|\n", "```", "> ", "\n", "\n\n",
            "---\n", "===", "[a](b)", "![", "$$", "<div>", "\r", "\t", "\u{feff}", "\0", "é", "word ", "1. ", "*", "_", "`", "\\", "<![CDATA[", "<?xml",
        ]), 0..60),
    ) {
        let mixed = pieces.concat();
        for name in ["a.txt", "a.rst", "a.md", "a.html", "a.xhtml", "a.docx", "a"] {
            for input in [bytes.as_slice(), mixed.as_bytes()] {
                let found = read(input, name, &ReadOptions::default());
                proptest::prop_assert_eq!(&found, &read(input, name, &ReadOptions::default()));
                if let Ok(document) = found {
                    proptest::prop_assert!(document.elements.iter().all(|element| {
                        !element.text.is_empty()
                            && (element.text.trim() == element.text || element.kind == crate::element::ElementKind::CodeSnippet)
                    }), "{:?}", document);
                }
            }
        }
        let docx = zipped(&[("word/document.xml", format!("<d><p><t>{mixed}</t></p></d>").as_bytes())]);
        let _ = read(&docx, "a.docx", &ReadOptions::default());
    }
}
