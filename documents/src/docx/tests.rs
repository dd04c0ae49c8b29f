use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::*;

const STYLES: &str = r#"<w:styles><w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style>
  <w:style w:styleId="Mine"><w:name w:val="Mine"/><w:basedOn w:val="Sub"/></w:style>
  <w:style w:styleId="Sub"><w:name w:val="Sub"/><w:pPr><w:outlineLvl w:val="1"/></w:pPr></w:style>
  <w:style w:styleId="Loop"><w:basedOn w:val="Loop"/></w:style>
  <w:style w:styleId="Cap"><w:name w:val="caption"/></w:style>
  <w:style w:styleId="Src"><w:name w:val="Source Code"/></w:style>
  <w:style w:styleId="Bul"><w:name w:val="List Bullet"/></w:style></w:styles>"#;

/// A zip archive of these parts.
pub(crate) fn zipped(parts: &[(&str, &[u8])]) -> Vec<u8> {
    zipped_by(CompressionMethod::Deflated, parts)
}

fn zipped_by(method: CompressionMethod, parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in parts {
        writer.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn with_body(body: &str) -> Vec<u8> {
    let document = format!("<?xml version=\"1.0\"?><w:document><w:body>{body}</w:body></w:document>");
    zipped(&[("word/document.xml", document.as_bytes()), ("word/styles.xml", STYLES.as_bytes())])
}

fn paragraph(style: &str, text: &str) -> String {
    format!("<w:p><w:pPr><w:pStyle w:val=\"{style}\"/></w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>")
}

fn kinds(bytes: &[u8]) -> Vec<(ElementKind, String)> {
    read(bytes).unwrap().elements.into_iter().map(|element| (element.kind, element.text)).collect()
}

fn owned<const N: usize>(wanted: [(ElementKind, &str); N]) -> Vec<(ElementKind, String)> {
    wanted.map(|(kind, text)| (kind, text.to_owned())).to_vec()
}

/// Goal: every kind of paragraph is what its style says. Method: a document with one of each.
#[test]
fn paragraphs() {
    use ElementKind::*;
    let body = [
        paragraph("Title", "The Report"),
        paragraph("berschrift1", "One &amp; only"),
        "<w:p><w:r><w:t>Split </w:t></w:r><w:r><w:t xml:space=\"preserve\">runs,</w:t><w:br/><w:t>a line</w:t><w:tab/><w:t>&#x2014; end.</w:t></w:r><w:del><w:r><w:t>gone</w:t></w:r></w:del></w:p>".into(),
        paragraph("Mine", "Two deep"),
        "<w:p><w:pPr><w:numPr><w:ilvl w:val=\"0\"/><w:numId w:val=\"3\"/></w:numPr></w:pPr><w:r><w:t>item</w:t></w:r></w:p>".into(),
        paragraph("Bul", "bullet"),
        paragraph("Loop", "Nobody ends in a loop."),
        paragraph("Cap", "Fig. 1"),
        paragraph("Src", "fn main() {"),
        paragraph("Src", "    x }"),
        "<w:p><w:r><w:drawing><wp:docPr descr=\"A cat\"/></w:drawing></w:r></w:p>".into(),
        "<w:p><m:oMath><m:r><m:t>a=b</m:t></m:r></m:oMath></w:p>".into(),
        "<w:p><w:r><w:t>Outer text here.</w:t><mc:AlternateContent><mc:Choice><w:txbxContent><w:p><w:r><w:t>In a box, inside.</w:t></w:r></w:p></w:txbxContent></mc:Choice><mc:Fallback><w:p><w:r><w:t>In a box, inside.</w:t></w:r></w:p></mc:Fallback></mc:AlternateContent></w:r></w:p>".into(),
    ];
    let wanted = owned([
        (Title, "The Report"),
        (Title, "One & only"),
        (NarrativeText, "Split runs, a line — end."),
        (Title, "Two deep"),
        (ListItem, "item"),
        (ListItem, "bullet"),
        (NarrativeText, "Nobody ends in a loop."),
        (FigureCaption, "Fig. 1"),
        (CodeSnippet, "fn main() {\n    x }"),
        (Image, "A cat"),
        (Formula, "a=b"),
        (NarrativeText, "In a box, inside."),
        (NarrativeText, "Outer text here."),
    ]);
    let bytes = with_body(&body.concat());
    assert_eq!(kinds(&bytes), wanted);
    let depths: Vec<Option<u8>> = read(&bytes).unwrap().elements.iter().filter_map(|e| e.depth.map(Some)).collect();
    assert_eq!(depths, [Some(1), Some(1), Some(2)]);
}

/// Goal: tables, spans and tables within cells. Method: one of data, one nested.
#[test]
fn tables() {
    let cell = |text: &str| format!("<w:tc><w:tcPr/><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:tc>");
    let span = "<w:tc><w:tcPr><w:gridSpan w:val=\"2\"/></w:tcPr><w:p><w:r><w:t>wide</w:t></w:r></w:p></w:tc>";
    let data = format!("<w:tbl><w:tr>{}{}</w:tr><w:tr>{span}</w:tr></w:tbl>", cell("a"), cell("b"));
    assert_eq!(kinds(&with_body(&data)), owned([(ElementKind::Table, "| a | b |\n| --- | --- |\n| wide | |")]));
    let nested = format!("<w:tbl><w:tr><w:tc>{data}</w:tc>{}</w:tr></w:tbl>", cell("Beside it."));
    let wanted = [(ElementKind::Table, "| a | b |\n| --- | --- |\n| wide | |"), (ElementKind::NarrativeText, "Beside it.")];
    assert_eq!(kinds(&with_body(&nested)), owned(wanted));
}

/// Goal: pages are those of Word's layout, else of the author's breaks; none without either. Method: the three.
#[test]
fn pages() {
    let laid_out = "<w:p><w:r><w:t>One.</w:t><w:br w:type=\"page\"/></w:r></w:p><w:p><w:r><w:lastRenderedPageBreak/><w:t>Two, </w:t>\
                    <w:lastRenderedPageBreak/><w:t>three.</w:t></w:r></w:p><w:p><w:r><w:t>Still.</w:t></w:r></w:p>";
    let found = |body: &str| {
        let document = read(&with_body(body)).unwrap();
        let pages: Vec<(String, Option<u32>)> =
            document.elements.into_iter().map(|element| (element.text, element.page)).collect();
        (document.pages, pages)
    };
    let texts = |list: &[(&str, u32)]| list.iter().map(|(text, page)| ((*text).to_owned(), Some(*page))).collect::<Vec<_>>();
    assert_eq!(found(laid_out), (3, texts(&[("One.", 1), ("", 1), ("Two, three.", 2), ("", 2), ("Still.", 3)])));
    let by_hand = "<w:p><w:r><w:t>One.</w:t><w:br w:type=\"page\"/></w:r></w:p><w:p><w:r><w:t>Two.</w:t></w:r></w:p>";
    assert_eq!(found(by_hand), (2, texts(&[("One.", 1), ("", 1), ("Two.", 2)])));
    assert_eq!(found(&paragraph("x", "One.")), (0, vec![("One.".to_owned(), None)]));
}

/// Goal: headers, footers and notes are there, each once. Method: parts of each, two headers alike, the separator of footnotes.
#[test]
fn parts_beside_the_text() {
    use ElementKind::*;
    let part = |text: &str| format!("<w:hdr>{}</w:hdr>", paragraph("x", text)).into_bytes();
    let notes = format!(
        "<w:f><w:footnote w:type=\"separator\">{0}</w:footnote><w:footnote>{0}</w:footnote></w:f>",
        paragraph("x", "A note.")
    );
    let document = format!("<w:d>{}</w:d>", paragraph("x", "The text."));
    let bytes = zipped(&[
        ("word/document2.xml", document.as_bytes()),
        ("word/header1.xml", &part("Firm")),
        ("word/header2.xml", &part("Firm")),
        ("word/footer1.xml", &part("Page")),
        ("word/footnotes.xml", notes.as_bytes()),
        ("word/vbaProject.bin", b"\0\x01macro"),
    ]);
    assert_eq!(
        kinds(&bytes),
        owned([(Header, "Firm"), (NarrativeText, "The text."), (NarrativeText, "A note."), (Footer, "Page")])
    );
}

/// Goal: bombs end at their limits. Method: forty megabytes of spaces, many parts that are 300 MB together, entities that double, 200,000 elements deep.
#[test]
fn bombs() {
    let mut bomb = b"<w:d><w:t>".to_vec();
    bomb.resize(40 << 20, b' ');
    let error = read(&zipped(&[("word/document.xml", &bomb)])).unwrap_err();
    assert_eq!(error.reason, Reason::Limit, "{error}");
    let mut varied: Vec<u8> = b"<w:d><w:p><w:r><w:t>".to_vec();
    varied.extend((0..15 << 20).map(|i: u32| b'a' + (i.wrapping_mul(2_654_435_761) >> 28) as u8 % 3));
    varied.extend(b"</w:t></w:r></w:p></w:d>");
    let names: Vec<String> = (0..20).map(|i| format!("word/header{i}.xml")).collect();
    let mut parts: Vec<(&str, &[u8])> = vec![("word/document.xml", &varied)];
    parts.extend(names.iter().map(|name| (name.as_str(), varied.as_slice())));
    assert_eq!(read(&zipped_by(CompressionMethod::Stored, &parts)).unwrap_err().reason, Reason::Limit);
    let laughs =
        "<!DOCTYPE d [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;\">]><w:d><w:p><w:r><w:t>&b; x &lt; y.</w:t></w:r></w:p></w:d>";
    assert_eq!(kinds(&zipped(&[("word/document.xml", laughs.as_bytes())])), owned([(ElementKind::NarrativeText, "x < y.")]));
    for name in ["w:sdt", "w:p", "w:tbl", "w:del"] {
        let deep =
            format!("{}{}{}", format!("<{name}>").repeat(200_000), paragraph("x", "deep."), format!("</{name}>").repeat(200_000));
        read(&with_body(&deep)).unwrap();
    }
}

/// Goal: damage is named. Method: broken XML, a cut archive, no document, other archives.
#[test]
fn damage() {
    let broken = ["<w:d><w:p></w:d>", "<w:d><w:p>", "<w:d a=>&", "<w:d><w:t>a & b</w:t></w:d>", "\u{1}\u{2}\u{3}\u{4}"];
    for document in broken {
        let error = read(&zipped(&[("word/document.xml", document.as_bytes())])).unwrap_err();
        assert_eq!(error.reason, Reason::Broken, "{document}");
        assert!(error.message.contains("document.xml") || error.message.contains("control"), "{error}");
    }
    let whole = with_body(&paragraph("x", &"many words, ".repeat(1000)));
    for cut in [4, 30, whole.len() / 2, whole.len() - 3] {
        let reason = recognise(&whole[..cut], "a.docx").map(|()| read(&whole[..cut])).and_then(|read| read).unwrap_err().reason;
        assert_eq!(reason, Reason::Broken, "{cut}");
    }
    for at in (0..whole.len()).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        let _ = recognise(&bytes, "a.docx").and_then(|()| read(&bytes));
    }
    assert_eq!(recognise(&zipped(&[("xl/workbook.xml", b"")]), "a.xlsx").unwrap_err().reason, Reason::Unsupported);
    assert_eq!(recognise(&zipped(&[("a.txt", b"")]), "a.docx").unwrap_err().reason, Reason::Broken);
    assert_eq!(recognise(&zipped(&[("a.txt", b"")]), "a.zip").unwrap_err().reason, Reason::Unsupported);
}
