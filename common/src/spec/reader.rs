//! A TOML document that remembers its lines, and a list of everything wrong with it.

use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::keys::{KEYS, SECTIONS, example, instead_of, nearest};

type Entry<'a, 'i> = (&'a Spanned<DeString<'i>>, &'a Spanned<DeValue<'i>>);

/// Reads typed values; what is wrong is noted, and the value is then missing.
pub struct Reader<'a, 'i> {
    file: &'a str,
    text: &'i str,
    root: &'a DeTable<'i>,
    problems: Vec<(usize, String)>,
    warnings: Vec<String>,
}

impl<'a, 'i> Reader<'a, 'i> {
    /// A reader of this document; `file` is its name in messages.
    pub fn new(file: &'a str, text: &'i str, root: &'a DeTable<'i>) -> Self {
        Self { file, text, root, problems: Vec::new(), warnings: Vec::new() }
    }

    /// Problems by line, and warnings.
    pub fn finish(mut self) -> (Vec<(usize, String)>, Vec<String>) {
        self.problems.sort_by_key(|(line, _)| *line);
        (self.problems, self.warnings)
    }

    /// Notes a problem of a key that is there or missing.
    pub fn problem(&mut self, section: &str, name: &str, what: impl std::fmt::Display) {
        let line = self.line_of(section, name);
        let text = format!("{}: {section}.{name}: {what}", self.place(line));
        self.problems.push((line, text));
    }

    /// Notes something that is allowed but probably not meant.
    pub fn warn(&mut self, section: &str, name: &str, what: impl std::fmt::Display) {
        let line = self.line_of(section, name);
        let key = if section.is_empty() { format!("[{name}]") } else { format!("{section}.{name}") };
        self.warnings.push(format!("{}: {key}: {what}", self.place(line)));
    }

    fn place(&self, line: usize) -> String {
        if line == 0 { self.file.to_owned() } else { format!("{}:{line}", self.file) }
    }

    fn line_at(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
    }

    /// The line of a key, else of its section, else 0.
    fn line_of(&self, section: &str, name: &str) -> usize {
        if let Some((key, _)) = self.entry(section, name) {
            return self.line_at(key.span().start);
        }
        let (parent, last) = section.rsplit_once('.').unwrap_or(("", section));
        self.entry(parent, last).map_or(0, |(key, _)| self.line_at(key.span().start))
    }

    fn table(&self, section: &str) -> Option<&'a DeTable<'i>> {
        let parts = section.split('.').filter(|part| !part.is_empty());
        parts.into_iter().try_fold(self.root, |table, part| match table.get(part)?.get_ref() {
            DeValue::Table(inner) => Some(inner),
            _ => None,
        })
    }

    fn entry(&self, section: &str, name: &str) -> Option<Entry<'a, 'i>> {
        self.table(section)?.get_key_value(name)
    }

    /// Whether the spec says it.
    pub fn has(&self, section: &str, name: &str) -> bool {
        self.entry(section, name).is_some()
    }

    /// Refuses sections and keys that there are not.
    pub fn check_names(&mut self) {
        for (name, value) in self.root {
            let text = name.get_ref().as_ref();
            let line = self.line_at(name.span().start);
            let problem = match (SECTIONS.contains(&text), value.get_ref()) {
                (true, DeValue::Table(_)) => continue,
                (true, other) => format!("{text}: is {}, but a section is wanted; write [{text}]", kind_of(other)),
                (false, DeValue::Table(_)) => match nearest(text, SECTIONS) {
                    Some(near) => format!("[{text}]: there is no such section; did you mean [{near}]"),
                    None => format!("[{text}]: there is no such section; there are {}", bracketed(&SECTIONS)),
                },
                (false, _) => unknown_key("", text),
            };
            self.problems.push((line, format!("{}: {problem}", self.place(line))));
        }
        for section in SECTIONS.into_iter().chain(["data.columns"]) {
            for (name, _) in self.table(section).into_iter().flatten() {
                let text = name.get_ref().as_ref();
                if !KEYS.iter().any(|key| key.section == section && key.name == text) {
                    let line = self.line_at(name.span().start);
                    self.problems.push((line, format!("{}: {section}.{}", self.place(line), unknown_key(section, text))));
                }
            }
        }
    }

    /// Notes that a value is not what is wanted.
    fn wrong(&mut self, section: &str, name: &str, value: &DeValue<'_>, wanted: &str) {
        let write = format!("write {name} = {}", example(section, name));
        self.problem(section, name, format_args!("is {}, but {wanted} is wanted; {write}", kind_of(value)));
    }

    fn read<T>(&mut self, section: &str, name: &str, wanted: &str, read: impl Fn(&DeValue<'i>) -> Option<T>) -> Option<T> {
        let (_, value) = self.entry(section, name)?;
        let found = read(value.get_ref());
        if found.is_none() {
            self.wrong(section, name, value.get_ref(), wanted);
        }
        found
    }

    /// A table within a section, such as `data.columns`: only its type is checked here.
    pub fn check_table(&mut self, section: &str, name: &str) {
        self.read(section, name, "a table", |value| matches!(value, DeValue::Table(_)).then_some(()));
    }

    /// A text that is not empty.
    pub fn string(&mut self, section: &str, name: &str) -> Option<String> {
        self.read(section, name, "a text that is not empty", |value| text_of(value).filter(|text| !text.trim().is_empty()))
    }

    /// A text that may be empty.
    pub fn any_string(&mut self, section: &str, name: &str) -> Option<String> {
        self.read(section, name, "a text", text_of)
    }

    /// A text, or a list of them.
    pub fn strings(&mut self, section: &str, name: &str) -> Option<Vec<String>> {
        self.read(section, name, "a text or a list of texts, none of them empty", |value| {
            let texts = match value {
                DeValue::Array(items) => items.iter().map(|item| text_of(item.get_ref())).collect::<Option<Vec<_>>>()?,
                single => vec![text_of(single)?],
            };
            texts.iter().all(|text| !text.trim().is_empty()).then_some(texts)
        })
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, section: &str, name: &str) -> Option<bool> {
        self.read(section, name, "true or false", |value| if let DeValue::Boolean(b) = value { Some(*b) } else { None })
    }

    /// A finite number that passes `allowed`; `wanted` says which do.
    pub fn float(&mut self, section: &str, name: &str, wanted: &str, allowed: impl Fn(f64) -> bool) -> Option<f64> {
        self.read(section, name, wanted, |value| number_of(value).filter(|number| number.is_finite() && allowed(*number)))
    }

    /// A list of finite numbers that pass `allowed`.
    pub fn floats(&mut self, section: &str, name: &str, wanted: &str, allowed: impl Fn(f64) -> bool) -> Option<Vec<f64>> {
        self.read(section, name, wanted, |value| {
            let DeValue::Array(items) = value else { return None };
            items.iter().map(|item| number_of(item.get_ref()).filter(|number| number.is_finite() && allowed(*number))).collect()
        })
    }

    /// A whole number within `range`.
    pub fn integer(&mut self, section: &str, name: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let wanted = match *range.end() {
            end if end >= i64::MAX as u64 => format!("a whole number, {} or more,", range.start()),
            end => format!("a whole number from {} to {end}", range.start()),
        };
        self.read(section, name, &wanted, |value| integer_of(value).filter(|number| range.contains(number)))
    }

    /// A list of positive whole numbers, each there once.
    pub fn widths(&mut self, section: &str, name: &str) -> Option<Vec<usize>> {
        self.read(section, name, "a list of positive whole numbers, each there once,", |value| {
            let DeValue::Array(items) = value else { return None };
            let range = 1..=1 << 20;
            let read = |item: &Spanned<DeValue<'i>>| {
                integer_of(item.get_ref()).filter(|width| range.contains(width)).map(|w| w as usize)
            };
            let widths = items.iter().map(read).collect::<Option<Vec<_>>>()?;
            let unique: std::collections::BTreeSet<_> = widths.iter().collect();
            (unique.len() == widths.len()).then_some(widths)
        })
    }

    /// One of a few names; the first name of each value is the one that is offered.
    pub fn choice<T: Copy + PartialEq>(&mut self, section: &str, name: &str, choices: &[(&str, T)]) -> Option<T> {
        let mut offered: Vec<(&str, T)> = Vec::new();
        for (text, value) in choices {
            if offered.iter().all(|(_, seen)| seen != value) {
                offered.push((text, *value));
            }
        }
        let offered: Vec<String> = offered.iter().map(|(text, _)| format!("\"{text}\"")).collect();
        let wanted = match &offered[..] {
            [only] => only.clone(),
            many => format!("one of {}", many.join(", ")),
        };
        self.read(section, name, &wanted, |value| {
            let text = text_of(value)?.to_lowercase();
            choices.iter().find(|(known, _)| *known == text).map(|(_, value)| *value)
        })
    }

    /// The text of a key, whatever is wrong with it, to refuse a value by name.
    pub fn peek(&self, section: &str, name: &str) -> Option<String> {
        text_of(self.entry(section, name)?.1.get_ref())
    }

    /// A whole number of bytes, or a text such as `2GB`.
    pub fn bytes(&mut self, section: &str, name: &str, least: u64) -> Option<u64> {
        let wanted = format!("a size of at least {} MB (\"2GB\", \"1.5GiB\", or a whole number of bytes)", least / 1_000_000);
        self.read(section, name, &wanted, |value| {
            let bytes = match value {
                DeValue::String(text) => super::size::parse_bytes(text)?,
                other => integer_of(other)?,
            };
            (bytes >= least).then_some(bytes)
        })
    }
}

fn bracketed(names: &[&str]) -> String {
    names.iter().map(|name| format!("[{name}]")).collect::<Vec<_>>().join(" ")
}

/// What to say of a key that there is not: what Artel has instead, where it belongs, or which it may have been.
fn unknown_key(section: &str, name: &str) -> String {
    let elsewhere = KEYS.iter().find(|key| key.name == name && key.section != section && key.section != "data.columns");
    let here = || KEYS.iter().filter(|key| key.section == section || section.is_empty()).map(|key| key.name);
    let anywhere = || KEYS.iter().filter(|key| key.section != "data.columns").map(|key| key.name);
    let found = |near: &str, pool_section: &str| {
        KEYS.iter().find(|key| key.name == near && (pool_section.is_empty() || key.section == pool_section))
    };
    if let Some(instead) = instead_of(name) {
        return format!("{name}: Artel has no such key; {instead}");
    }
    if let Some(key) = elsewhere {
        return format!("{name}: it belongs in [{}]", key.section);
    }
    let near = nearest(name, here())
        .and_then(|near| found(near, section))
        .or_else(|| nearest(name, anywhere()).and_then(|near| found(near, "")));
    match near {
        Some(key) if key.section == section => format!("{name}: there is no such key; did you mean {}", key.name),
        Some(key) => format!("{name}: there is no such key; did you mean {} in [{}]", key.name, key.section),
        None if section.is_empty() => format!("{name}: a key stands in a section; there are {}", bracketed(&SECTIONS)),
        None => format!("{name}: there is no such key; [{section}] has {}", here().collect::<Vec<_>>().join(", ")),
    }
}

fn text_of(value: &DeValue<'_>) -> Option<String> {
    if let DeValue::String(text) = value { Some(text.to_string()) } else { None }
}

fn integer_of(value: &DeValue<'_>) -> Option<u64> {
    match value {
        DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok().filter(|n| *n <= i64::MAX as u64),
        DeValue::Float(number) => {
            let number: f64 = number.as_str().parse().ok()?;
            (number.fract() == 0.0 && (0.0..9e15).contains(&number)).then_some(number as u64)
        }
        _ => None,
    }
}

fn number_of(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Float(number) => number.as_str().parse().ok(),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok().map(|n| n as f64),
        _ => None,
    }
}

/// What a value is, for messages.
fn kind_of(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => {
            let short: String = text.chars().take(60).collect();
            format!("{short:?}")
        }
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(date) => format!("the date {date}"),
        DeValue::Array(items) => {
            let shown: Vec<String> = items.iter().take(6).map(|item| kind_of(item.get_ref())).collect();
            format!("[{}{}]", shown.join(", "), if items.len() > 6 { ", ..." } else { "" })
        }
        DeValue::Table(_) => "a table".to_owned(),
    }
}
