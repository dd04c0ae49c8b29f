//! The house stays tidy: which crate may know which, how long files and functions are, what no file may say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines that a file may have, its tests not counted.
const MOST_FILE_LINES: usize = 500;
/// Lines that a function may have, from its name to its last brace.
const MOST_FUNCTION_LINES: usize = 70;
/// Lines of tests that may stand in the file they test.
const MOST_INLINE_TEST_LINES: usize = 150;

/// Which crates of this workspace a crate may depend on.
const ARROWS: [(&str, &[&str]); 9] = [
    ("artel-common", &[]),
    ("artel-proto", &["artel-common"]),
    ("artel-documents", &[]),
    ("artel-questions", &[]),
    ("artel-trainer", &["artel-common"]),
    ("artel-coordinator", &["artel-common", "artel-proto", "artel-questions"]),
    ("artel-worker", &["artel-common", "artel-proto", "artel-documents", "artel-questions", "artel-trainer"]),
    ("artel-cli", &["artel-common", "artel-proto", "artel-documents", "artel-trainer", "artel-coordinator", "artel-worker"]),
    (
        "artel-tests",
        &["artel-common", "artel-proto", "artel-documents", "artel-trainer", "artel-coordinator", "artel-worker", "artel-cli"],
    ),
];

/// Beginnings of names that a crate's own dependencies may not have.
const FORBIDDEN: [(&str, &[&str]); 6] = [
    ("artel-common", &["tonic", "prost", "candle", "gemm", "tokenizers", "axum"]),
    ("artel-proto", &["candle", "gemm", "object_store"]),
    ("artel-documents", &["tokio", "async", "futures", "tonic", "prost", "object_store", "hyper", "reqwest", "candle", "gemm"]),
    ("artel-questions", &["tonic", "prost", "object_store", "candle", "gemm"]),
    ("artel-trainer", &["tokio", "async", "futures", "tonic", "prost", "object_store", "hyper", "reqwest"]),
    ("artel-coordinator", &["candle", "gemm", "tokenizers", "cudarc", "safetensors"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace lies above its test package").to_path_buf()
}

fn metadata() -> serde_json::Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

/// Files of the repository with this ending, build outputs and hidden folders left out.
fn files(ending: &str) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the repository").flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let kind = entry.file_type().expect("an entry has a type");
            if kind.is_dir() && name != "target" && !name.starts_with("artel-store") && (!name.starts_with('.') || name == ".ci")
            {
                folders.push(path);
            } else if kind.is_file() && name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// A file's path as people write it.
fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

fn is_test_file(path: &Path) -> bool {
    let relative = path.strip_prefix(root()).unwrap_or(path);
    relative.file_name().is_some_and(|name| name == "tests.rs" || name == "testing.rs")
        || relative.components().any(|part| part.as_os_str() == "tests")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", shown(path)))
}

/// Fails with every complaint at once.
fn settle(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The source with comments and the contents of texts and characters blanked, line by line the same.
fn bare(source: &str) -> Vec<char> {
    let chars: Vec<char> = source.chars().collect();
    let mut out = chars.clone();
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => end_of_line(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => end_of_comment(&chars, at),
            '"' => end_of_text(&chars, at),
            'r' if !follows_name(&chars, at) && raw_hashes(&chars, at).is_some() => end_of_raw(&chars, at),
            '\'' => end_of_character(&chars, at),
            _ => {
                at += 1;
                continue;
            }
        };
        out[at..end].iter_mut().filter(|c| **c != '\n').for_each(|c| *c = ' ');
        at = end;
    }
    out
}

fn end_of_line(chars: &[char], at: usize) -> usize {
    (at..chars.len()).find(|i| chars[*i] == '\n').unwrap_or(chars.len())
}

fn end_of_comment(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') if depth == 1 => return at + 2,
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    chars.len()
}

fn end_of_text(chars: &[char], start: usize) -> usize {
    let mut at = start + 1;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

fn follows_name(chars: &[char], at: usize) -> bool {
    // `br"..."` and `cr"..."` are raw texts too: their first letter is no name.
    let before = |back: usize| at.checked_sub(back).map(|i| chars[i]);
    let in_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    in_name(before(1)) && (in_name(before(2)) || !matches!(before(1), Some('b' | 'c')))
}

/// How many `#` open the raw text that begins here, if one does.
fn raw_hashes(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    (chars.get(at + 1 + hashes) == Some(&'"')).then_some(hashes)
}

fn end_of_raw(chars: &[char], start: usize) -> usize {
    let hashes = raw_hashes(chars, start).expect("the caller looked");
    let closes = |i: &usize| chars[*i] == '"' && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
    (start + hashes + 2..chars.len()).find(closes).map_or(chars.len(), |i| i + 1 + hashes)
}

/// A character's end, or the next place where it is a lifetime.
fn end_of_character(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => (at + 3..chars.len()).find(|i| chars[*i] == '\'').map_or(chars.len(), |i| i + 1),
        (Some(_), Some('\'')) => at + 3,
        _ => at + 1,
    }
}

/// Where the brace that opens at `open` closes.
fn closing(code: &[char], open: usize) -> usize {
    let mut depth = 0;
    for (i, c) in code.iter().enumerate().skip(open) {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return i,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len().saturating_sub(1)
}

fn find(code: &[char], from: usize, text: &str) -> Option<usize> {
    let text: Vec<char> = text.chars().collect();
    (from..code.len().saturating_sub(text.len() - 1)).find(|i| code[*i..*i + text.len()] == text[..])
}

fn line_of(code: &[char], at: usize) -> usize {
    1 + code[..at].iter().filter(|c| **c == '\n').count()
}

/// The code with inline test modules blanked, and how many lines those had.
fn without_tests(mut code: Vec<char>) -> (Vec<char>, usize) {
    let (mut from, mut lines) = (0, 0);
    while let Some(start) = find(&code, from, "#[cfg(test)]") {
        from = start + 1;
        let stop = (start..code.len()).find(|i| matches!(code[*i], '{' | ';'));
        if let Some(open) = stop.filter(|i| code[*i] == '{') {
            let end = closing(&code, open);
            lines += line_of(&code, end) - line_of(&code, start) + 1;
            code[start..=end].iter_mut().filter(|c| **c != '\n').for_each(|c| *c = ' ');
        }
    }
    (code, lines)
}

/// Name, first line and number of lines of each function with a body.
fn functions(code: &[char]) -> Vec<(String, usize, usize)> {
    let in_name = |i: usize| code.get(i).is_some_and(|c| c.is_alphanumeric() || *c == '_');
    let (mut found, mut from) = (Vec::new(), 0);
    while let Some(at) = find(code, from, "fn ") {
        from = at + 3;
        let name: String = code[from..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').collect();
        if name.is_empty() || (at > 0 && in_name(at - 1)) {
            continue;
        }
        let mut depth = 0;
        for (i, c) in code.iter().enumerate().skip(from) {
            match c {
                '(' | '[' => depth += 1,
                ')' | ']' => depth -= 1,
                ';' if depth == 0 => break,
                '{' if depth == 0 => {
                    found.push((name, line_of(code, at), line_of(code, closing(code, i)) - line_of(code, at) + 1));
                    break;
                }
                _ => {}
            }
        }
    }
    found
}

/// Goal: crates know one another one way only, and none what it must not. Method: every dependency of `cargo metadata` against the lists.
#[test]
fn arrows_point_one_way() {
    let metadata = metadata();
    let mut complaints = Vec::new();
    let (arrows, forbidden) = (BTreeMap::from(ARROWS), BTreeMap::from(FORBIDDEN));
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        let Some(allowed) = arrows.get(name) else {
            complaints.push(format!("{name} is a crate that ARROWS does not know"));
            continue;
        };
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let other = dependency["name"].as_str().expect("a name");
            if other.starts_with("artel-") && !allowed.contains(&other) {
                complaints.push(format!("{name} must not depend on {other}"));
            }
            let is_dev = dependency["kind"].as_str() == Some("dev");
            let bad = forbidden.get(name).into_iter().copied().flatten().any(|begin| other.starts_with(begin));
            if bad && !is_dev {
                complaints.push(format!("{name} must not know {other}"));
            }
        }
    }
    settle(&complaints);
}

/// Goal: files and functions stay short. Method: count lines of every source file without its tests, and of every function in it.
#[test]
fn files_and_functions_are_short() {
    let mut complaints = Vec::new();
    for path in files(".rs").iter().filter(|path| !is_test_file(path)) {
        let source = read(path);
        let (code, test_lines) = without_tests(bare(&source));
        let lines = source.lines().count() - test_lines;
        if lines > MOST_FILE_LINES {
            complaints.push(format!("{}: {lines} lines, at most {MOST_FILE_LINES}; split it", shown(path)));
        }
        if test_lines > MOST_INLINE_TEST_LINES {
            complaints.push(format!(
                "{}: {test_lines} lines of inline tests, at most {MOST_INLINE_TEST_LINES}; move them to tests.rs",
                shown(path)
            ));
        }
        for (name, line, lines) in functions(&code).into_iter().filter(|(_, _, lines)| *lines > MOST_FUNCTION_LINES) {
            complaints.push(format!("{}:{line}: {name} has {lines} lines, at most {MOST_FUNCTION_LINES}; split it", shown(path)));
        }
    }
    settle(&complaints);
}

/// Goal: a reader learns first what a file is for. Method: every lib.rs opens with three lines of documentation, every other file with one.
#[test]
fn files_open_with_their_purpose() {
    let mut complaints = Vec::new();
    for path in files(".rs") {
        let source = read(&path);
        let wanted = match path.file_name().and_then(|name| name.to_str()) {
            Some("lib.rs") => 3,
            Some("tests.rs") => 0,
            _ => 1,
        };
        if !source.lines().take(wanted).all(|line| line.starts_with("//! ")) || source.lines().count() < wanted {
            complaints.push(format!("{}: opens with fewer than {wanted} lines of `//!`", shown(&path)));
        }
    }
    settle(&complaints);
}

/// Goal: bad input never panics. Method: no `unwrap()`, `todo!` or `unimplemented!` outside tests.
#[test]
fn nothing_is_unwrapped() {
    let mut complaints = Vec::new();
    for path in files(".rs").iter().filter(|path| !is_test_file(path)) {
        let (code, _) = without_tests(bare(&read(path)));
        for word in [".unwrap()", "todo!(", "unimplemented!("] {
            let mut from = 0;
            while let Some(at) = find(&code, from, word) {
                complaints.push(format!("{}:{}: {word}", shown(path), line_of(&code, at)));
                from = at + 1;
            }
        }
    }
    settle(&complaints);
}

/// Goal: every test says what it is for. Method: a comment with `Goal:` stands above each `#[test]`.
#[test]
fn tests_say_their_goal() {
    let mut complaints = Vec::new();
    for path in files(".rs") {
        let source = read(&path);
        let lines: Vec<&str> = source.lines().map(str::trim).collect();
        for (i, line) in lines.iter().enumerate() {
            if *line != "#[test]" && !line.starts_with("#[tokio::test") {
                continue;
            }
            let above = lines[..i].iter().rev().take_while(|line| line.starts_with("//") || line.starts_with("#["));
            let below = lines[i + 1..].iter().take_while(|line| line.starts_with("//") || line.starts_with("#["));
            if !above.chain(below).any(|line| line.starts_with("//")) {
                complaints.push(format!("{}:{}: a test without its goal and method above it", shown(&path), i + 1));
            }
        }
    }
    settle(&complaints);
}

/// Goal: nothing depends on the machine that it was written on. Method: no text file names a folder of such a machine.
#[test]
fn no_machine_paths() {
    let folders = [concat!("/wo", "rk/"), concat!("/tmp/", "artel/"), concat!("/ro", "ot/"), concat!("target", "-E")];
    let mut complaints = Vec::new();
    for ending in [".rs", ".md", ".toml", ".sh", ".py", ".txt", ".json", ".proto", ".yml", ".yaml", "run"] {
        for path in files(ending) {
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            for (i, line) in text.lines().enumerate() {
                if let Some(folder) = folders.iter().find(|folder| line.contains(**folder)) {
                    complaints.push(format!("{}:{}: names {folder}", shown(&path), i + 1));
                }
            }
        }
    }
    settle(&complaints);
}

/// Goal: the scanner itself sees what it should. Method: a source with every trap of the language.
#[test]
fn the_scanner_is_right() {
    let source = r####"
fn a<'x>(b: &'x str, c: [u8; 2]) -> char { // fn no() { .unwrap() }
    /* fn no() { /* nested */ { */
    let _ = ("}", '}', '\'', b'{', r#"fn no() {"#, br"\", '"', "\"{");
    'l: loop { break 'l }
    'ü'
}
trait T { fn d(&self); fn e(&self) {} }
#[cfg(test)]
mod tests;
#[cfg(test)]
mod more {
    fn f() { x.unwrap() }
}
type P = fn (u8);
"####;
    let (code, test_lines) = without_tests(bare(source));
    assert_eq!(functions(&code), [("a".to_owned(), 2, 6), ("e".to_owned(), 8, 1)]);
    assert_eq!(test_lines, 4);
    assert_eq!(find(&code, 0, ".unwrap()"), None);
    assert_eq!(code.len(), source.chars().count());
}
