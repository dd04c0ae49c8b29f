//! Questions that only make sense beside the text they were made from: "What does the passage say about ...?"
//!
//! "The text" alone is not enough: "How do I copy the text?" is a good question about an editor. What is looked for is a noun
//! for a text together with a word that points at it: this, given, according to, mentioned in, or a verb of saying.

use super::super::words::each_word;

/// Nouns that hardly name anything but the text that a question was made from.
const PASSAGES: &[&str] =
    &["excerpt", "excerpts", "snippet", "snippets", "passage", "passages", "text", "texts", "paragraph", "paragraphs", "chunk"];
/// Nouns for a text that may well be what a document is about.
const DOCUMENTS: &[&str] = &[
    "article",
    "book",
    "chapter",
    "content",
    "context",
    "description",
    "diagram",
    "document",
    "documents",
    "example",
    "figure",
    "guide",
    "handbook",
    "image",
    "letter",
    "list",
    "manual",
    "material",
    "page",
    "paper",
    "report",
    "section",
    "sections",
    "source",
    "statement",
    "statements",
    "story",
    "study",
    "table",
];
/// Words that point at a text.
const POINTING: &[&str] = &["given", "provided", "above", "preceding", "presented", "quoted", "supplied", "accompanying"];
/// What is done with something in a text.
const MENTIONED: &[&str] = &[
    "cited",
    "covered",
    "described",
    "discussed",
    "explained",
    "given",
    "highlighted",
    "identified",
    "listed",
    "mentioned",
    "noted",
    "outlined",
    "presented",
    "provided",
    "referenced",
    "referred",
    "stated",
];
/// What a text does, as "does it ...?" and "it ...s" have it.
const SAYS: &[&str] = &[
    "argue",
    "argues",
    "claim",
    "claims",
    "conclude",
    "concludes",
    "describe",
    "describes",
    "discuss",
    "discusses",
    "emphasize",
    "emphasizes",
    "explain",
    "explains",
    "highlight",
    "highlights",
    "imply",
    "implies",
    "indicate",
    "indicates",
    "mention",
    "mentions",
    "note",
    "notes",
    "say",
    "says",
    "state",
    "states",
    "suggest",
    "suggests",
    "tell",
    "tells",
];
/// What the author of a text does besides.
const AUTHOR_DOES: &[&str] =
    &["believe", "believes", "consider", "considers", "feel", "mean", "recommend", "recommends", "think", "thinks"];
/// What a text has that things do not.
const ABOUT_TEXTS: &[&str] =
    &["purpose", "topic", "theme", "idea", "point", "subject", "title", "focus", "tone", "author", "summary", "end", "beginning"];
/// What follows "the following" where it means time.
const TIMES: &[&str] = &["day", "days", "week", "weeks", "month", "months", "year", "years", "morning", "night", "quarter"];
/// The same in other languages, as words.
const PHRASES: &[&str] = &[
    "laut text",
    "laut dem text",
    "laut dokument",
    "laut dem dokument",
    "im text",
    "in diesem text",
    "dieser text",
    "dieses dokument",
    "diesem dokument",
    "diesem abschnitt",
    "dieser abschnitt",
    "oben genannten",
    "obigen text", //
    "selon le texte",
    "ce texte",
    "dans le texte",
    "dans le passage",
    "ce document",
    "selon le document",
    "selon l auteur", //
    "según el texto",
    "este texto",
    "en el texto",
    "este documento",
    "según el documento",
    "según el autor", //
    "nel testo",
    "secondo il testo",
    "questo testo",
    "questo documento",
    "secondo l autore", //
    "segundo o texto",
    "de acordo com o texto",
    "neste texto",
    "neste documento",
    "segundo o autor", //
    "volgens de tekst",
    "in de tekst",
    "deze tekst",
    "dit document",
    "volgens de auteur",
];

/// Finds such questions.
pub(super) struct Refers {
    /// Phrases besides the English rules, each as words.
    phrases: Vec<Vec<String>>,
}

fn words_of(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    each_word(text, &mut String::new(), |word| words.push(word.to_owned()));
    words
}

fn is(words: &[String], at: usize, set: &[&str]) -> bool {
    words.get(at).is_some_and(|word| set.contains(&word.as_str()))
}

impl Refers {
    /// The rules with these phrases besides the built-in ones.
    pub(super) fn new(more: &[String]) -> Self {
        let phrases = PHRASES.iter().copied().chain(more.iter().map(String::as_str)).map(words_of);
        Self { phrases: phrases.filter(|phrase| !phrase.is_empty()).collect() }
    }

    /// The words that give the question away.
    pub(super) fn find(&self, question: &str) -> Option<String> {
        let words = words_of(question);
        let phrase = self.phrases.iter().find(|phrase| words.windows(phrase.len()).any(|window| window == phrase.as_slice()));
        if let Some(phrase) = phrase {
            return Some(phrase.join(" "));
        }
        let found = (0..words.len()).find_map(|at| pointing(&words, at).or_else(|| noun(&words, at)));
        found.map(|(start, end)| words[start..end.min(words.len())].join(" "))
    }
}

/// Words that point at a text at this place, up to where.
fn pointing(words: &[String], at: usize) -> Option<(usize, usize)> {
    let is_text = |at| is(words, at, PASSAGES) || is(words, at, DOCUMENTS);
    match words[at].as_str() {
        "this" | "these" if is_text(at + 1) => Some((at, at + 2)),
        "the" if is(words, at + 1, &["following"]) && !is(words, at + 2, TIMES) => Some((at, at + 3)),
        "the" | "this" if is(words, at + 1, POINTING) && (is_text(at + 2) || is(words, at + 2, &["information"])) => {
            Some((at, at + 3))
        }
        "above" if at > 0 && is(words, at - 1, MENTIONED) => Some((at - 1, at + 1)),
        "above" if is(words, at + 1, MENTIONED) => Some((at, at + 2)),
        "information" if is(words, at + 1, &["given", "provided"]) && (at + 2 == words.len() || at < 4) => Some((at, at + 2)),
        _ => None,
    }
}

/// "The", a noun for a text at this place, and what stands around it, up to where.
fn noun(words: &[String], at: usize) -> Option<(usize, usize)> {
    if at == 0 || words[at - 1] != "the" {
        return None;
    }
    let before = |places: usize| at.checked_sub(1 + places);
    let is_before = |places, set: &[&str]| before(places).is_some_and(|at| is(words, at, set));
    let (is_author, is_passage) = (is(words, at, &["author", "authors", "narrator"]), is(words, at, PASSAGES));
    if !is_author && !is_passage && !is(words, at, DOCUMENTS) {
        return None;
    }
    let according = is_before(1, &["to"]) && is_before(2, &["according"]) || is_before(1, &["on"]) && is_before(2, &["based"]);
    if according {
        return Some((at - 3, at + 1));
    }
    if is(words, at + 1, SAYS) || is_author && is(words, at + 1, AUTHOR_DOES) {
        return Some((at - 1, at + 2));
    }
    if is_author {
        let opinion = is(words, at + 1, &["s"])
            && is(words, at + 2, &["opinion", "view", "purpose", "point", "intention", "argument", "main"]);
        return opinion.then_some((at - 1, at + 3));
    }
    if is_before(1, &["in", "by", "from", "within"]) && is_before(2, MENTIONED) {
        return Some((at - 3, at + 1));
    }
    let in_text = is_passage && is_before(1, &["in", "from", "within", "throughout"]);
    let of_text = is_passage && is_before(1, &["of"]) && is_before(2, ABOUT_TEXTS);
    // "The passage of time" is none.
    let unmistakable = is(words, at, &["excerpt", "snippet", "passage"]) && !is(words, at + 1, &["of"]);
    (in_text || of_text || unmistakable).then(|| (at.saturating_sub(2), at + 1))
}

#[cfg(test)]
mod tests;
