//! Which column of a file means what: what the spec says, else what the names say.
//!
//! Names are compared without case, and with `_`, `-` and spaces alike. Questions: `anchor`, `question`, `query`. Passages:
//! `positive`, `answer`, `passage`, `document`, and `Text Chunk` where there is no other. Hard negatives: `negative`,
//! `negative_1`, `negative_2`, ... or a list in `negatives`. Documents: `group`, `doc`, `doc_id`, `document_id`; else equal
//! text chunks are one document. Ids: `id`. Everything else (pandas' `Unnamed: 0` too) is not looked at.

use artel_common::spec::Columns;
use artel_common::{Error, Result};

const ANCHORS: [&str; 3] = ["anchor", "question", "query"];
const POSITIVES: [&str; 5] = ["positive", "answer", "passage", "document", "text chunk"];
const GROUPS: [&str; 4] = ["group", "doc", "doc id", "document id"];
const CHUNK: &str = "text chunk";

/// What the rows of a file are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Rows to train on, or to split.
    Train,
    /// Rows to measure on: negatives and groups may be missing.
    Test,
}

/// Columns of a file by their number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileColumns {
    pub(super) anchor: usize,
    pub(super) positive: usize,
    pub(super) negatives: Vec<usize>,
    pub(super) group: Option<usize>,
    pub(super) id: Option<usize>,
    /// The text that a question was generated from, where it is not the passage.
    pub(super) chunk: Option<usize>,
}

impl FileColumns {
    /// Finds the columns in a file that has these names.
    ///
    /// # Errors
    /// A column that the spec names is not there, or nothing that could be the questions or the passages.
    pub(super) fn find(names: &[String], spec: &Columns, purpose: Purpose, file: &str) -> Result<Self> {
        let finder = Finder { names, file };
        let required = |name: &Option<String>, role: &str| match name {
            Some(name) => finder.named(name, role).map(Some),
            None => Ok(None),
        };
        let optional = |name: &Option<String>, role: &str| match purpose {
            Purpose::Train => required(name, role),
            Purpose::Test => Ok(name.as_deref().and_then(|name| names.iter().position(|n| n == name))),
        };
        let anchor = match required(&spec.anchor, "anchor")? {
            Some(anchor) => anchor,
            None => finder.recognised(&ANCHORS).ok_or_else(|| finder.nothing("question", "anchor", &ANCHORS))?,
        };
        let positive = match required(&spec.positive, "positive")? {
            Some(positive) => positive,
            None => finder.recognised(&POSITIVES).ok_or_else(|| finder.nothing("passage", "positive", &POSITIVES))?,
        };
        if anchor == positive {
            return Err(Error::Data(format!("{file}: column '{}' cannot be both anchor and positive", names[anchor])));
        }
        let negatives = match (&spec.negatives[..], purpose) {
            ([], _) => finder.recognised_negatives(),
            (said, Purpose::Train) => said.iter().map(|name| finder.named(name, "negatives")).collect::<Result<_>>()?,
            (said, Purpose::Test) => said.iter().filter_map(|name| names.iter().position(|n| n == name)).collect(),
        };
        let negatives: Vec<_> = negatives.into_iter().filter(|&column| column != anchor && column != positive).collect();
        let group = optional(&spec.group, "group")?.or_else(|| finder.recognised(&GROUPS)).filter(|&c| c != positive);
        let id = required(&spec.id, "id")?.or_else(|| finder.recognised(&["id"]));
        let chunk = finder.recognised(&[CHUNK]).filter(|&chunk| chunk != positive);
        Ok(Self { anchor, positive, negatives, group, id, chunk })
    }

    /// All columns that are to be read, in the order in which [`super::pairs`] takes them.
    pub(super) fn selection(&self) -> Vec<usize> {
        let mut selection = vec![self.anchor, self.positive];
        selection.extend([self.id, self.group, self.chunk].into_iter().flatten());
        selection.extend(&self.negatives);
        selection
    }
}

struct Finder<'a> {
    names: &'a [String],
    file: &'a str,
}

impl Finder<'_> {
    fn named(&self, name: &str, role: &str) -> Result<usize> {
        let mut places = self.names.iter().enumerate().filter(|(_, there)| *there == name).map(|(index, _)| index);
        match (places.next(), places.next()) {
            (Some(index), None) => Ok(index),
            (Some(_), Some(_)) => Err(Error::Data(format!("{} has several columns '{name}'; rename one", self.file))),
            (None, _) => Err(Error::Data(format!(
                "{} has no column '{name}' (data.columns.{role}); it has {}{}",
                self.file,
                self.list(),
                nearest(name, self.names).map(|near| format!("; did you mean '{near}'?")).unwrap_or_default()
            ))),
        }
    }

    fn recognised(&self, known: &[&str]) -> Option<usize> {
        known.iter().find_map(|known| self.names.iter().position(|name| plain(name) == *known))
    }

    /// `negative`, `negative_N` by number, and a column of lists.
    fn recognised_negatives(&self) -> Vec<usize> {
        let number = |name: &str| match plain(name).strip_prefix("negative")? {
            "" => Some(0),
            "s" => Some(u32::MAX),
            rest => rest.trim_start().parse::<u32>().ok(),
        };
        let mut found: Vec<_> = self.names.iter().enumerate().filter_map(|(index, name)| Some((number(name)?, index))).collect();
        found.sort_unstable();
        found.into_iter().map(|(_, index)| index).collect()
    }

    fn nothing(&self, what: &str, role: &str, known: &[&str]) -> Error {
        Error::Data(format!(
            "{}: no column looks like the {what}s ({}); it has {}; say which in data.columns, such as {role} = \"...\"",
            self.file,
            known.join(", "),
            self.list()
        ))
    }

    fn list(&self) -> String {
        if self.names.is_empty() {
            return "no columns".to_owned();
        }
        let shown = self.names.iter().take(20).map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
        if self.names.len() > 20 { format!("{shown} and {} more", self.names.len() - 20) } else { shown }
    }
}

fn plain(name: &str) -> String {
    let spaced: String = name.to_lowercase().chars().map(|c| if matches!(c, '_' | '-') { ' ' } else { c }).collect();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The name most like this one, if one is at all.
fn nearest<'a>(name: &str, names: &'a [String]) -> Option<&'a str> {
    let score = |other: &str| strsim::jaro_winkler(&plain(name), &plain(other));
    let best = names.iter().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(best) > 0.6).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(names: &[&str], spec: &Columns, purpose: Purpose) -> Result<FileColumns> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        FileColumns::find(&names, spec, purpose, "f.csv")
    }

    /// Goal: the usual names are recognised. Method: the generator's, sentence-transformers', MedQuAD's, negatives out of order.
    #[test]
    fn recognised() {
        let none = Columns::default();
        let found = find(&["Unnamed: 0", "Text Chunk", "Question", "Answer"], &none, Purpose::Train).unwrap();
        assert_eq!((found.anchor, found.positive, found.chunk, found.group, found.id), (2, 3, Some(1), None, None));
        let found = find(&["Text Chunk", "Question"], &none, Purpose::Train).unwrap();
        assert_eq!((found.anchor, found.positive, found.chunk), (1, 0, None));
        let found = find(&["id", "anchor", "positive", "doc"], &none, Purpose::Train).unwrap();
        assert_eq!((found.anchor, found.positive, found.group, found.id), (1, 2, Some(3), Some(0)));
        let found = find(&["negative_10", "query", "negative_2", "passage", "negative"], &none, Purpose::Train).unwrap();
        assert_eq!((found.anchor, found.positive, found.negatives), (1, 3, vec![4, 2, 0]));
        assert_eq!(find(&["query", "DOCUMENT"], &none, Purpose::Test).unwrap().positive, 1);
    }

    /// Goal: a wrong name is answered with what is there and what is near. Method: a slip, nothing alike, a name twice.
    #[test]
    fn wrong_names() {
        let spec = Columns { positive: Some("Anwser".into()), ..Columns::default() };
        let error = find(&["Question", "Answer"], &spec, Purpose::Train).unwrap_err().to_string();
        let wanted = "f.csv has no column 'Anwser' (data.columns.positive); it has 'Question', 'Answer'; did you mean 'Answer'?";
        assert_eq!(error, wanted);
        let error = find(&["x", "y"], &Columns::default(), Purpose::Train).unwrap_err().to_string();
        assert!(error.contains("no column looks like the questions (anchor, question, query); it has 'x', 'y'"), "{error}");
        let spec = Columns { anchor: Some("a".into()), positive: Some("a".into()), ..Columns::default() };
        assert!(find(&["a", "b"], &spec, Purpose::Train).unwrap_err().to_string().contains("both anchor and positive"));
        assert!(find(&["a", "a"], &spec, Purpose::Train).unwrap_err().to_string().contains("several columns 'a'"));
    }

    /// Goal: a test file may lack what only training needs. Method: negatives and a group that the spec names.
    #[test]
    fn test_files() {
        let spec = Columns { negatives: vec!["n".into()], group: Some("g".into()), ..Columns::default() };
        assert!(find(&["anchor", "positive"], &spec, Purpose::Train).is_err());
        let found = find(&["anchor", "positive"], &spec, Purpose::Test).unwrap();
        assert_eq!((found.negatives, found.group), (vec![], None));
    }
}
