use super::*;

/// Goal: every part of Markdown has its kind. Method: a text with one of each.
#[test]
fn every_part() {
    use ElementKind::*;
    let text = r#"---
title: "The Guide"
tags: [a]
---

# Top *level* {#id}

A paragraph with `code`, a [link](http://x) and
a second line.

- one
  - inner
- two

  more of two

1. first

| a | b |
|---|---|
| 1 | x \| y |

```rust
fn main() {

}
```

![A cat](cat.png)

> Quoted words.

$$e = mc^2$$

<div><p>In HTML.</p></div>

Lower
-----
"#;
    let found: Vec<(ElementKind, String)> = elements(text).into_iter().map(|element| (element.kind, element.text)).collect();
    let wanted = [
        (Title, "The Guide"),
        (Title, "Top level"),
        (NarrativeText, "A paragraph with code, a link and a second line."),
        (ListItem, "one"),
        (ListItem, "inner"),
        (ListItem, "two"),
        (ListItem, "more of two"),
        (ListItem, "first"),
        (Table, "| a | b |\n| --- | --- |\n| 1 | x \\| y |"),
        (CodeSnippet, "fn main() {\n\n}"),
        (Image, "A cat"),
        (NarrativeText, "Quoted words."),
        (Formula, "e = mc^2"),
        (NarrativeText, "In HTML."),
        (Title, "Lower"),
    ];
    assert_eq!(found, wanted.map(|(kind, text)| (kind, text.to_owned())));
    let depths: Vec<Option<u8>> = elements(text).iter().filter_map(|e| (e.kind == Title).then_some(e.depth)).collect();
    assert_eq!(depths, [Some(1), Some(1), Some(2)]);
}

/// Goal: hostile Markdown ends in moments. Method: deep quotes, lists and brackets, stars, 10 MB on one line, half a fence.
#[test]
fn hostile_texts() {
    let mut deep_list = String::new();
    (0..1500).for_each(|i| deep_list.push_str(&format!("{}- x\n", "  ".repeat(i))));
    let texts = [
        ">".repeat(100_000) + "deep",
        "[".repeat(100_000) + "deep",
        "*a _b ".repeat(50_000),
        "![".repeat(50_000) + "x",
        "<".repeat(100_000),
        deep_list,
        "| a ".repeat(50_000) + "\n" + &"|---".repeat(50_000) + "\n" + &"| x |\n".repeat(100),
        "word ".repeat(2 << 20),
        "```\ncode".into(),
        "a\0b".into(),
    ];
    for text in texts {
        let found = read(text.as_bytes()).unwrap();
        assert!(!found.elements.is_empty(), "{}", &text[..20.min(text.len())]);
    }
}
