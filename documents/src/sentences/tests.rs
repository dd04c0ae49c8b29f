use super::*;

fn split(text: &str) -> Vec<&str> {
    sentences(text).into_iter().map(|range| &text[range]).collect()
}

/// Goal: abbreviations, initials, numbers and decimals end no sentence. Method: a sentence with each, followed by another one.
#[test]
fn abbreviations_do_not_end_sentences() {
    let whole = [
        "Dr. Smith met Mr. J. R. R. Tolkien and Mrs. Jones.",
        "See Fig. 3 and Eq. (4) in Sec. IV of Vol. 2, pp. 5-9, No. 5 of them.",
        "Fruit, e.g. Apples, i.e. Things that grow, vs. Roots.",
        "The U.S. Government paid 3.14 million to Acme Inc. Berlin in Jan. 2020.",
        "Prices rose by approx. 5.5 percent, cf. Ref. 7.",
        "1. Introduction to the matter.",
        "2.3. Results of the trial.",
        "A. Appendix of names.",
        "Am 3. Mai kam z.B. Herr Dr. Meier bzw. Frau Prof. Schulz.",
        "George W. Bush and J. Smith spoke.",
        "Smith et al. Nature 5 is cited.",
        "It is at 5 p.m. Eastern time.",
        "Visit www.Example.com or read v2.Next for more.",
        "\"What?\" he said.",
        "It begins with #!/bin/sh and lies in ../.. above.",
    ];
    for sentence in whole {
        assert_eq!(split(sentence), [sentence]);
        let pair = format!("{sentence} The end is near.");
        assert_eq!(split(&pair), [sentence, "The end is near."]);
    }
}

/// Goal: what looks like an abbreviation ends a sentence where it does. Method: pairs of sentences.
#[test]
fn sentences_end_with_abbreviations_too() {
    let pairs = [
        ("He lives in the U.S.", "The house is big."),
        ("They sold pens, ink, etc.", "This went on."),
        ("Did he go?", "No."),
        ("The answer was no.", "He left."),
        ("It happened in 1999.", "The war was over."),
        ("Oranges have vitamin C.", "Lemons do too."),
        ("We saw the sun.", "Birds sang."),
        ("He said \"go.\"", "She went."),
        ("Is it so?!", "Yes."),
        ("It works at Acme Inc.", "However, not here."),
    ];
    for (first, second) in pairs {
        assert_eq!(split(&format!("{first} {second}")), [first, second]);
    }
    assert_eq!(split("你好。再见！真的吗？"), ["你好。", "再见！", "真的吗？"]);
}

/// Goal: blank lines end sentences, single line breaks do not; nothing but white space is lost. Method: wrapped text of paragraphs.
#[test]
fn paragraphs_and_lines() {
    assert_eq!(split("A title\n\nWords over\r\ntwo lines. More\n \t\n"), ["A title", "Words over\r\ntwo lines.", "More"]);
    assert!(split(" \n\n \u{a0}").is_empty() && split("").is_empty());
    assert_eq!(split("... !! ?"), ["... !! ?"]);
}

/// Goal: ten megabytes take moments, whatever is in them. Method: texts with a break at every second character, and with none.
#[test]
fn ten_megabytes() {
    for (piece, bytes) in [("word ", 10_000_000), ("a. B", 10_000_000), ("1.A", 1 << 20), ("A. ", 1 << 20), ("Dr. ", 1 << 20)] {
        let text = piece.repeat(bytes / piece.len());
        let found = sentences(&text);
        assert!(found.windows(2).all(|pair| pair[0].end <= pair[1].start), "{piece}");
    }
}

proptest::proptest! {
    /// Goal: every character but white space is in exactly one sentence. Method: random text of what makes breaks.
    #[test]
    fn nothing_is_lost(text in "[A-Za-z0-9 .?!\"()\n\u{e9}\u{4f60}\u{3002}\u{2029}]{0,200}") {
        let found: String = split(&text).concat();
        let bare = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        proptest::prop_assert_eq!(bare(&found), bare(&text));
        proptest::prop_assert!(split(&text).iter().all(|sentence| sentence.trim() == *sentence && !sentence.is_empty()));
    }
}
