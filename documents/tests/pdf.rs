//! PDFs that are made here, one for each thing a file can do to its reader.

use std::io::Write;

use artel_documents::element::{Document, ElementKind};
use artel_documents::pdf::{Choice, backends, read, read_with};
use artel_documents::read::{ReadOptions, Reason, Strategy};

/// A PDF of objects (the first is the catalog), each a dictionary and, where there is one, a stream.
fn pdf(objects: &[(String, Option<Vec<u8>>)]) -> Vec<u8> {
    let mut out = b"%PDF-1.7\n".to_vec();
    let mut places = String::new();
    for (number, (dict, stream)) in objects.iter().enumerate() {
        places += &format!("{:010} 00000 n \n", out.len());
        out.extend(format!("{} 0 obj\n", number + 1).bytes());
        match stream {
            Some(bytes) => {
                let inner = &dict[2..dict.len() - 2];
                out.extend(format!("<<{inner} /Length {}>>\nstream\n", bytes.len()).bytes());
                out.extend(bytes);
                out.extend(b"\nendstream");
            }
            None => out.extend(dict.bytes()),
        }
        out.extend(b"\nendobj\n");
    }
    let (table, size) = (out.len(), objects.len() + 1);
    out.extend(format!("xref\n0 {size}\n0000000000 65535 f \n{places}").bytes());
    out.extend(format!("trailer\n<</Size {size} /Root 1 0 R>>\nstartxref\n{table}\n%%EOF\n").bytes());
    out
}

/// A PDF of pages with these contents, and more objects (from number 5 + pages on) for `resources` to name.
fn pages(contents: &[&str], resources: &str, page_keys: &str, more: &[(String, Option<Vec<u8>>)]) -> Vec<u8> {
    let kids: Vec<String> = (0..contents.len()).map(|n| format!("{} 0 R", 4 + 2 * n)).collect();
    let mut objects = vec![
        ("<</Type/Catalog/Pages 2 0 R>>".to_string(), None),
        (format!("<</Type/Pages/Count {}/Kids[{}]>>", contents.len(), kids.join(" ")), None),
        ("<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>".to_string(), None),
    ];
    for (n, content) in contents.iter().enumerate() {
        let keys = "/Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]";
        let resources = format!("/Resources<</Font<</F 3 0 R>>{resources}>>");
        objects.push((format!("<<{keys}{resources}/Contents {} 0 R{page_keys}>>", 5 + 2 * n), None));
        objects.push(("<<>>".into(), Some(content.as_bytes().to_vec())));
    }
    objects.extend(more.iter().cloned());
    pdf(&objects)
}

fn pure(bytes: &[u8]) -> Result<Document, Reason> {
    let options = ReadOptions { strategy: Strategy::Fast, ..ReadOptions::default() };
    read_with(bytes, &options, Choice::Pure).map_err(|refused| refused.reason)
}

fn text(document: &Document) -> String {
    document.elements.iter().map(|e| e.text.as_str()).collect::<Vec<_>>().join("\n")
}

/// Goal: text, its page and its size come out of a file. Method: two pages, one with a large line.
#[test]
fn text_of_pages() {
    let first = "BT /F 24 Tf 50 700 Td (A large heading) Tj ET BT /F 10 Tf 50 600 Td (And a line of text that is long enough to be narrative.) Tj ET";
    let bytes = pages(&[first, "BT /F 10 Tf 50 700 Td [(sec) -20 (ond) -300 (page)] TJ ET"], "", "", &[]);
    let document = pure(&bytes).unwrap();
    assert_eq!((document.pages, document.reader.as_str()), (2, "hayro"));
    assert_eq!(document.elements[0].kind, ElementKind::Title);
    assert_eq!(document.elements[0].text, "A large heading");
    let last = document.elements.last().unwrap();
    assert_eq!((last.text.as_str(), last.page), ("second page", Some(2)));
}

/// Goal: text that is not drawn (a layer of OCR) counts, and a page that is turned is read upright.
/// Method: render mode 3; `/Rotate 90` with text that runs up the page.
#[test]
fn unseen_and_turned() {
    let document = pure(&pages(&["BT 3 Tr /F 10 Tf 50 700 Td (unseen words) Tj ET"], "", "", &[])).unwrap();
    assert_eq!(text(&document), "unseen words");
    let document = pure(&pages(&["BT /F 10 Tf 0 1 -1 0 300 200 Tm (turned words) Tj ET"], "", "/Rotate 90", &[])).unwrap();
    assert_eq!(text(&document), "turned words");
}

/// Goal: what a file says its glyphs stand for is taken, once. Method: `ActualText` over two words of glyphs.
#[test]
fn actual_text() {
    let content = "BT /F 10 Tf 50 700 Td /Span <</ActualText (meant)>> BDC (sh) Tj (own) Tj EMC ( beside) Tj ET";
    assert_eq!(text(&pure(&pages(&[content], "", "", &[])).unwrap()), "meant beside");
}

/// Goal: a form that draws itself ends, and what it shows is kept. Method: a form XObject that names itself twice.
#[test]
fn form_within_itself() {
    let form = "<</Type/XObject/Subtype/Form/BBox[0 0 600 800]/Resources<</Font<</F 3 0 R>>/XObject<</X 6 0 R>>>>>>";
    let inside = b"BT /F 10 Tf 50 700 Td (inside) Tj ET q 1 0 0 1 0 -20 cm /X Do Q /X Do".to_vec();
    let bytes = pages(&["/X Do"], "/XObject<</X 6 0 R>>", "", &[(form.into(), Some(inside))]);
    let document = pure(&bytes).unwrap();
    assert!(text(&document).contains("inside"));
}

/// Goal: a filled field without looks of its own is read. Method: a text field with a value and no appearance.
#[test]
fn value_of_a_field() {
    let field = "<</Type/Annot/Subtype/Widget/FT/Tx/V(Ada Lovelace)/Rect[50 600 250 615]>>";
    let bytes = pages(&["BT /F 10 Tf 50 700 Td (Name) Tj ET"], "", "/Annots[6 0 R]", &[(field.into(), None)]);
    assert!(text(&pure(&bytes).unwrap()).contains("Ada Lovelace"));
}

/// Goal: each way of having no text has its reason. Method: an empty page, a page that is a picture, no PDF at all, and too many pages.
#[test]
fn reasons() {
    assert_eq!(pure(&pages(&[""], "", "", &[])), Err(Reason::Empty));
    let image = "<</Type/XObject/Subtype/Image/Width 8/Height 8/BitsPerComponent 8/ColorSpace/DeviceGray>>";
    let scan = pages(&["600 0 0 800 0 0 cm /I Do"], "/XObject<</I 6 0 R>>", "", &[(image.into(), Some(vec![200; 64]))]);
    assert_eq!(pure(&scan), Err(Reason::NeedsOcr));
    assert_eq!(pure(b""), Err(Reason::Broken));
    assert_eq!(pure(b"%PDF-1.7\nnothing of use"), Err(Reason::Broken));
    let options = ReadOptions { max_pages: 1, ..ReadOptions::default() };
    let two = pages(&["BT /F 9 Tf 50 700 Td (one) Tj ET", ""], "", "", &[]);
    assert_eq!(read(&two, &options).unwrap_err().reason, Reason::Limit);
}

/// Goal: a picture among pages of text is a warning that names its page. Method: a page of text and a page that is a picture, not sent to OCR.
#[test]
fn unread_page_is_named() {
    let image = "<</Type/XObject/Subtype/Image/Width 8/Height 8/BitsPerComponent 8/ColorSpace/DeviceGray>>";
    let contents = ["BT /F 10 Tf 50 700 Td (some words) Tj ET", "600 0 0 800 0 0 cm /I Do"];
    let document = pure(&pages(&contents, "/XObject<</I 8 0 R>>", "", &[(image.into(), Some(vec![200; 64]))])).unwrap();
    assert_eq!(document.warnings.len(), 1);
    assert!(document.warnings[0].contains("being pictures: page 2;"), "{}", document.warnings[0]);
}

/// Goal: damaged files end with a result, never a panic or a hang.
/// Method: a good file cut at 60 places, and with a byte changed at 300 places; each is read.
#[test]
fn damage_ends() {
    let contents =
        ["BT /F 10 Tf 50 700 Td (first page of some words) Tj ET 50 50 100 100 re S", "BT /F 10 Tf 50 700 Td (second) Tj ET"];
    let good = pages(&contents, "", "", &[]);
    for part in 0..60 {
        let _ = pure(&good[..good.len() * part / 60]);
    }
    for step in 0..300 {
        let mut bad = good.clone();
        let at = step * good.len() / 300;
        bad[at] = [b'<', b'9', 0xff, b' ', b'/'][step % 5];
        let _ = pure(&bad);
    }
    // without its end, and without its catalog
    let cut = pure(&good[..good.len() - 200]).expect("pages are still there");
    assert!(text(&cut).contains("first page of some words"));
    let catalog = good.windows(8).position(|w| w == b"/Catalog").expect("a catalog");
    let headless = [&good[..catalog], b"/Xatalog", &good[catalog + 8..good.len() - 200]].concat();
    let gathered = pure(&headless).expect("pages are still there");
    assert!(text(&gathered).contains("first page of some words"));
    assert!(gathered.warnings[0].contains("gathered one by one"));
}

/// Goal: a small stream that unpacks to gigabytes is refused before it is unpacked. Method: a page whose content is zeros, packed twice.
#[test]
fn bomb_is_refused() {
    let pack = |bytes: &[u8], times: usize| {
        let mut writer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        (0..times).for_each(|_| writer.write_all(bytes).unwrap());
        writer.finish().unwrap()
    };
    let twice = pack(&pack(&vec![b' '; 1 << 20], 1100), 1);
    assert!(twice.len() < 1 << 20);
    let objects = [
        ("<</Type/Catalog/Pages 2 0 R>>".to_string(), None),
        ("<</Type/Pages/Count 1/Kids[3 0 R]>>".to_string(), None),
        ("<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R>>".to_string(), None),
        ("<</Filter[/FlateDecode/FlateDecode]>>".to_string(), Some(twice)),
    ];
    assert_eq!(pure(&pdf(&objects)), Err(Reason::Limit));
}

/// Goal: a page that is a picture is read by tesseract, drawn by the reader in Rust alone, and the text about it is true.
/// Method: text drawn as paths is not to be had without a font, so a page of text is read with `ocr_only`; skipped without tesseract.
#[test]
fn pages_by_ocr() {
    if backends().tesseract.is_none() {
        eprintln!("skipped: tesseract is not here");
        return;
    }
    let content = "BT /F 24 Tf 50 700 Td (Reading pictures of words) Tj 0 -40 Td (is what this page is for) Tj ET";
    let options = ReadOptions { strategy: Strategy::OcrOnly, ..ReadOptions::default() };
    let document = read_with(&pages(&[content], "", "", &[]), &options, Choice::Pure).unwrap();
    assert_eq!(document.reader, "hayro+tesseract");
    assert!(text(&document).contains("Reading pictures of words"), "{}", text(&document));
    let unknown = ReadOptions { languages: vec!["no_such_language".into()], ..options };
    let refused = read_with(&pages(&[content], "", "", &[]), &unknown, Choice::Pure).unwrap();
    assert!(refused.warnings[0].starts_with("page 1: OCR: tesseract failed"), "{:?}", refused.warnings);
}

/// Goal: where libpdfium is found it reads the same text and kinds as the reader in Rust alone, which comes first; skipped where it is not.
/// Method: a page of a heading and text, read by both.
#[test]
fn pdfium_reads_alike() {
    if backends().pdfium.is_none() {
        eprintln!("skipped: libpdfium is not here (deploy/pdfium.sh fetches it)");
        return;
    }
    let content = "BT /F 24 Tf 50 700 Td (A large heading) Tj ET BT /F 10 Tf 50 600 Td (And a line of text that is long enough to be narrative.) Tj ET";
    let bytes = pages(&[content], "", "", &[]);
    let options = ReadOptions { strategy: Strategy::Fast, ..ReadOptions::default() };
    let (by_pdfium, by_hayro) = (read_with(&bytes, &options, Choice::Pdfium).unwrap(), pure(&bytes).unwrap());
    assert_eq!((by_pdfium.reader.as_str(), by_hayro.reader.as_str()), ("pdfium", "hayro"));
    assert_eq!(by_pdfium.elements, by_hayro.elements);
    assert_eq!(read(&bytes, &options).unwrap().reader, "hayro", "every machine reads a document alike");
    assert_eq!(read(b"%PDF-1.7\nnothing of use", &options).unwrap_err().reason, Reason::Broken);
}
