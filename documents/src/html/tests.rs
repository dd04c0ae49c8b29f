use super::*;
use crate::element::ElementKind::{self, *};

fn kinds(html: &str) -> Vec<(ElementKind, String)> {
    elements(html, false, true).into_iter().map(|element| (element.kind, element.text)).collect()
}

fn owned<const N: usize>(wanted: [(ElementKind, &str); N]) -> Vec<(ElementKind, String)> {
    wanted.map(|(kind, text)| (kind, text.to_owned())).to_vec()
}

/// Goal: a common page gives its text and no junk. Method: one with head, scripts, navigation, hidden parts, footer.
#[test]
fn a_page() {
    let html = r#"<!DOCTYPE html><html><head><title>T</title><style>p{}</style><script>if (a < b) "</p>"</script></head>
      <body><nav><a href="/">Home</a></nav><div role="navigation"><div>x</div>menu</div>
      <header><h1>The <em>Whole</em>
         Story</h1></header><p hidden>shown, for p may be unclosed</p><div hidden><div>no</div>no</div>
      <p>First &amp; foremost,<br>a paragraph.<p>Second one.<script>document.write("<p>no")</script>
      <h2>List</h2><ul><li>one<ul><li>inner</ul>after<li><p>two</p></ol>
      <figure><img src="a.png" alt="A cat"><figcaption>Fig. 1</figcaption></figure>
      <pre>fn main() {
    x
}</pre><address>12 High Street</address><div>info@example.org</div>
      <article><footer>By me</footer></article><footer><p>(c) 2024 Firm</p></footer></body></html>"#;
    let wanted = owned([
        (Title, "The Whole Story"),
        (NarrativeText, "shown, for p may be unclosed"),
        (NarrativeText, "First & foremost, a paragraph."),
        (NarrativeText, "Second one."),
        (Title, "List"),
        (ListItem, "one"),
        (ListItem, "inner"),
        (ListItem, "after"),
        (ListItem, "two"),
        (Image, "A cat"),
        (FigureCaption, "Fig. 1"),
        (CodeSnippet, "fn main() {\n    x\n}"),
        (Address, "12 High Street"),
        (EmailAddress, "info@example.org"),
        (UncategorizedText, "By me"),
        (Footer, "(c) 2024 Firm"),
    ]);
    assert_eq!(kinds(html), wanted);
    let depths: Vec<Option<u8>> =
        elements(html, false, true).iter().filter_map(|e| (e.kind == Title).then_some(e.depth)).collect();
    assert_eq!(depths, [Some(1), Some(2)]);
}

/// Goal: tables of data are tables, those for layout are their contents. Method: both, nested, unclosed, with a caption.
#[test]
fn tables_of_both_kinds() {
    let data = "<table><caption>Prices</caption><thead><tr><th>Item<th>Price</thead><tr><td>A<p>b</p><td>1|2<tr><td colspan=2>all</table>";
    let wanted = owned([(FigureCaption, "Prices"), (Table, "| Item | Price |\n| --- | --- |\n| A b | 1\\|2 |\n| all | |")]);
    assert_eq!(kinds(data), wanted);
    let html = elements(data, false, true)[1].html.clone().unwrap();
    assert!(html.starts_with("<table><tr><th>Item</th><th>Price</th></tr><tr><td>A b</td>"), "{html}");
    let layout = "<table><tr><td><h1>Top</h1><td><table><tr><td>a<td>b<tr><td>c<td>d</table>tail of it.</table>";
    let wanted = owned([(Title, "Top"), (Table, "| a | b |\n| --- | --- |\n| c | d |"), (NarrativeText, "tail of it.")]);
    assert_eq!(kinds(layout), wanted);
    assert_eq!(kinds("<table><tr><td>Only one column."), owned([(NarrativeText, "Only one column.")]));
}

/// Goal: nothing is swallowed by tags that close themselves in XML, or by navigation that never ends. Method: one page of each.
#[test]
fn odd_closings() {
    let page = br#"<?xml version="1.0"?><html><head><script src="x"/><title/></head><body><div hidden=""/><p>Words here.</p></body></html>"#;
    assert_eq!(read(page, "a.html").unwrap().elements[0].text, "Words here.");
    let page = br#"<?xml version="1.0"?><html><body><p><![CDATA[a < b]]></p></body></html>"#;
    assert_eq!(read(page, "a.html").unwrap().elements[0].text, "a < b");
    assert_eq!(kinds("<head><title>T</title><svg/><p>No end of the head."), owned([(NarrativeText, "No end of the head.")]));
    let page = b"<nav><p>All of the page is in here.</p>";
    assert_eq!(read(page, "a.html").unwrap().elements[0].text, "All of the page is in here.");
}

/// Goal: the page's encoding is found. Method: Latin-1 by <meta>, and UTF-8 whose <meta> lies.
#[test]
fn encodings() {
    let latin = b"<meta charset=iso-8859-1><p>Stra\xdfe nach K\xf6ln.";
    assert_eq!(read(latin, "a.htm").unwrap().elements[0].text, "Straße nach Köln.");
    let lie = "<meta charset=iso-8859-1><p>Straße nach Köln.";
    assert_eq!(read(lie.as_bytes(), "a.htm").unwrap().elements[0].text, "Straße nach Köln.");
}

/// Goal: depth costs neither stack nor more than linear time. Method: 100,000 <div> and 20,000 of each
/// other element that nests, closed and not.
#[test]
fn deep_pages() {
    for tag in ["div", "b", "p", "ul", "li", "table", "td", "blockquote", "nav", "pre", "h1", "a", "svg", "div hidden"] {
        let name = tag.split(' ').next().unwrap();
        let depth = if tag == "div" { 100_000 } else { 20_000 };
        let (open, close) = (format!("<{tag}>").repeat(depth), format!("</{name}>").repeat(depth));
        for html in [format!("{open}deep inside"), format!("{close}{open}{close}")] {
            let _ = read(html.as_bytes(), "deep.html").unwrap();
        }
        if !["nav", "svg", "div hidden"].contains(&tag) {
            let found = kinds(&format!("{open}deep inside{close}<p>tail."));
            assert_eq!(found[0].1, "deep inside", "{tag}");
            assert_eq!(found.last().unwrap().1, "tail.", "{tag}");
        }
    }
    let mixed = "<table><tr><td><div><ul><li>".repeat(50_000);
    assert_eq!(kinds(&format!("{mixed}end")), owned([(ListItem, "end")]));
}

/// Goal: what should not be there harms nothing. Method: NULs, lone brackets, bad entities, an attribute of a megabyte, 10 MB on a line.
#[test]
fn hostile_pages() {
    assert_eq!(kinds("<p>a\0b &bogus; &#x110000; < > <3</p>"), owned([(NarrativeText, "ab &bogus; \u{fffd} < > <3")]));
    let long = format!("<p title='{}'>x y z.", "a".repeat(1 << 20));
    assert_eq!(kinds(&long), owned([(NarrativeText, "x y z.")]));
    let line = format!("<p>{}</p>", "word &amp; ".repeat(1 << 20));
    assert_eq!(kinds(&line)[0].1.len(), 7 * (1 << 20) - 1);
    assert!(kinds("").is_empty() && kinds("<").len() == 1 && kinds("<!-- x").is_empty() && kinds("<script>x").is_empty());
}

/// Goal: a listing with numbered lines keeps its lines; text between cells is not lost. Method: a table of each.
#[test]
fn odd_tables() {
    let listing = "<table><tr><td><pre>1\n2</pre><td><pre>fn a()\n  b</pre></table>";
    assert_eq!(kinds(listing), owned([(CodeSnippet, "1\n2"), (CodeSnippet, "fn a()\n  b")]));
    let loose = "<table>Loose words.<tr><td>a</td>more of them.<td>b</table>";
    let wanted = owned([(NarrativeText, "Loose words."), (NarrativeText, "more of them."), (Table, "| a | b |\n| --- | --- |")]);
    assert_eq!(kinds(loose), wanted);
    // a caption that is not ended before its table, and stands in none
    let found = kinds("<caption>one<table>two<td>three<td>four");
    let text: Vec<&str> = found.iter().map(|(_, text)| text.as_str()).collect();
    assert!(["one", "two", "three", "four"].iter().all(|word| text.join(" ").contains(word)), "{found:?}");
}

proptest::proptest! {
    /// Goal: no word of a page is lost or doubled, however its tags are mixed up. Method: random tags around numbered words.
    #[test]
    fn tag_soup(tags in proptest::collection::vec((0..40_usize, proptest::bool::ANY), 1..60)) {
        let names = ["p", "div", "b", "a", "h1", "h2", "ul", "ol", "li", "dl", "dt", "dd", "table", "tr", "td", "th", "caption", "pre",
            "blockquote", "section", "footer", "address", "figcaption", "figure", "br", "hr", "tbody", "body", "html", "code"];
        let soup: String = tags.iter().enumerate().map(|(i, (tag, is_end))| {
            let name = names[tag % names.len()];
            format!("<{}{name}>w{i}x", if *is_end { "/" } else { "" })
        }).collect();
        let found: String = kinds(&soup).into_iter().map(|(_, text)| text + " ").collect();
        for i in 0..tags.len() {
            proptest::prop_assert_eq!(found.matches(&format!("w{i}x")).count(), 1, "w{}x in {:?} of {}", i, found, soup);
        }
    }
}
