//! Pairs out of text: labels such as `Question:`, `Q1.`, `**Answer:**`, `## Question 2`, at the start of lines or within them.

use super::Found;

/// A note after a label, as in `Question (keyword):`, has at most this many characters.
const MOST_NOTE_CHARS: usize = 40;

/// Labels of a reply that are looked at: twenty times as many as anybody asks for.
const MOST_LABELS: usize = 2000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Question,
    Answer,
}

/// A label in the reply.
#[derive(Debug, Clone, Copy)]
struct Label {
    kind: Kind,
    /// Where it begins, list markers before it included.
    start: usize,
    /// Where what it names begins.
    content: usize,
    /// Whether it stands at the start of a line.
    heads: bool,
    /// Whether it is a mere `Q.` or `A.`, which may as well be somebody's initial.
    weak: bool,
}

/// Takes the pairs of a text. `cut`: the last of them may lack its end, so it is left out.
pub(super) fn collect(reply: &str, cut: bool, found: &mut Found) {
    let labels = labels(reply);
    let mut at = 0;
    // where the part begins that no label has claimed
    let mut free = 0;
    while at < labels.len() {
        let label = labels[at];
        if label.kind == Kind::Answer {
            at += 1;
            continue;
        }
        let Some(answer) = answer_to(&labels, at) else {
            found.trouble("no answer to the question");
            at += 1;
            continue;
        };
        unlabelled(reply, free, label.start, &labels, found, false);
        let next = next_question(&labels, answer);
        let end = next.map_or(reply.len(), |i| labels[i].start);
        let question = &reply[label.content..labels[answer].start];
        free = split_answers(reply, question, labels[answer].content, end, &labels, cut && next.is_none(), found);
        at = next.unwrap_or(labels.len());
    }
    if found.pairs.is_empty() {
        unlabelled(reply, free, reply.len(), &labels, found, cut);
    }
    if found.pairs.is_empty() && labels.iter().all(|label| label.kind == Kind::Answer) {
        found.trouble("no question in the reply");
    }
}

/// The answer's label of the question at `at`: the next label, unless another question comes first.
fn answer_to(labels: &[Label], at: usize) -> Option<usize> {
    labels.get(at + 1).filter(|next| next.kind == Kind::Answer).map(|_| at + 1)
}

/// The next question's label after an answer; one within a line counts only if an answer follows it.
fn next_question(labels: &[Label], answer: usize) -> Option<usize> {
    (answer + 1..labels.len())
        .find(|i| labels[*i].kind == Kind::Question && (labels[*i].heads || answer_to(labels, *i).is_some()))
}

/// Takes question and answer; an `Answer:` line further down whose line above ends in a question mark begins another pair.
/// Gives back where all of it ends.
fn split_answers(
    reply: &str,
    question: &str,
    content: usize,
    end: usize,
    labels: &[Label],
    cut: bool,
    found: &mut Found,
) -> usize {
    let (mut question, first, mut content) = (question.to_owned(), content, content);
    for label in labels.iter().filter(|l| l.kind == Kind::Answer && l.heads && l.start > first && l.start < end) {
        if let Some((above, line)) = question_above(reply, content, label.start) {
            found.push(&question, &reply[content..above]);
            (question, content) = (line, label.content);
        }
    }
    if cut {
        found.trouble("the reply was cut off within an answer");
    } else {
        found.push(&question, &reply[content..end]);
    }
    end
}

/// Takes pairs whose questions have no label: a line with a question mark above an `Answer:` line.
fn unlabelled(reply: &str, from: usize, to: usize, labels: &[Label], found: &mut Found, cut: bool) {
    let first = labels.iter().find(|l| l.kind == Kind::Answer && l.heads && l.start >= from && l.start < to);
    let Some(first) = first else { return };
    if let Some((_, question)) = question_above(reply, from, first.start) {
        split_answers(reply, &question, first.content, to, labels, cut, found);
    }
}

/// The last line before `to` that is not empty, if it asks something: where it begins, and its text without list markers.
fn question_above(reply: &str, from: usize, to: usize) -> Option<(usize, String)> {
    let before = reply.get(from..to)?.trim_end();
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = &before[start..];
    let text = &line[markers(line)..];
    let asks = text.trim_end_matches(['*', '_', '"', ' ']).ends_with(['?', '\u{ff1f}']);
    asks.then(|| (from + start, text.to_owned()))
}

/// Every label of the reply, in order.
fn labels(reply: &str) -> Vec<Label> {
    let (mut out, mut start) = (Vec::new(), 0);
    for line in reply.split_inclusive('\n') {
        if out.len() >= MOST_LABELS {
            break;
        }
        let skip = markers(line);
        let mut from = 0;
        if let Some((kind, length, weak)) = label(&line[skip..], true) {
            out.push(Label { kind, start, content: start + skip + length, heads: true, weak });
            from = skip + length;
        }
        let boundaries: Vec<usize> = line[from..].match_indices([' ', '\t', '*']).map(|(at, _)| from + at + 1).collect();
        for at in boundaries {
            if at < from || out.len() >= MOST_LABELS {
                continue;
            }
            if let Some((kind, length, weak)) = label(&line[at..], false) {
                out.push(Label { kind, start: start + at, content: start + at + length, heads: false, weak });
                from = at + length;
            }
        }
        start += line.len();
    }
    keep_sensible(&out)
}

/// Leaves out labels that are words of a text: within lines a question within a question or an answer within an answer, and weak ones
/// that do not come as a pair.
fn keep_sensible(labels: &[Label]) -> Vec<Label> {
    let mut out: Vec<Label> = Vec::new();
    for (i, label) in labels.iter().enumerate() {
        let last = out.last().map(|l| l.kind);
        let pairs_up = match label.kind {
            Kind::Question => labels.get(i + 1).is_some_and(|next| next.weak && next.kind == Kind::Answer),
            Kind::Answer => out.last().is_some_and(|l| l.weak && l.kind == Kind::Question),
        };
        if label.weak && !pairs_up {
            continue;
        }
        let fits = match label.kind {
            Kind::Answer => last == Some(Kind::Question),
            Kind::Question => last == Some(Kind::Answer) && labels.get(i + 1).is_some_and(|next| next.kind == Kind::Answer),
        };
        if label.heads || fits {
            out.push(*label);
        }
    }
    out
}

/// Bytes of the blanks, quotes, headings, bullets, numbers and bold that begin a line.
fn markers(line: &str) -> usize {
    let rest =
        line.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '#' | '>' | '*' | '_' | '-' | '\u{2022}' | '[' | '|'));
    let digits = rest.trim_start_matches('(').trim_start_matches(|c: char| c.is_ascii_digit());
    let numbered = rest.len() != digits.len() && digits.len() < rest.trim_start_matches('(').len();
    let after = digits.strip_prefix(['.', ')', ':']).filter(|after| numbered && after.starts_with([' ', '\t', '*', '_']));
    let after = after.unwrap_or(rest);
    let after = after.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, '*' | '_' | '['));
    line.len() - after.len()
}

/// A label at the start of `text`: its kind, its bytes, the separator and bold after it included, and whether it is weak.
fn label(text: &str, heads: bool) -> Option<(Kind, usize, bool)> {
    let letters = text.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(text.len());
    let word = &text[..letters];
    let (kind, short) = match word.to_ascii_lowercase().as_str() {
        "question" | "query" => (Kind::Question, false),
        "answer" | "ans" => (Kind::Answer, false),
        "q" => (Kind::Question, true),
        "a" => (Kind::Answer, true),
        _ => return None,
    };
    if !heads && !word.starts_with(['Q', 'A']) {
        return None;
    }
    let rest = &text[letters..];
    let rest = rest.trim_start_matches(['*', '_']);
    let unnumbered = rest.trim_start_matches([' ', '#']).trim_start_matches(|c: char| c.is_ascii_digit());
    let numbered = unnumbered.len() < rest.trim_start_matches([' ', '#']).len();
    let rest = if numbered { unnumbered } else { rest };
    let rest = without_note(rest, short).trim_start_matches(['*', '_', ']', ' ']);
    let weak = heads && short && !numbered && rest.starts_with('.');
    let after = match rest.chars().next() {
        Some(':' | '\u{ff1a}') => Some(&rest[if rest.starts_with(':') { 1 } else { 3 }..]),
        Some('.' | ')') if heads && (numbered || weak) => Some(&rest[1..]),
        Some(dash @ ('-' | '\u{2013}' | '\u{2014}')) if heads && (numbered || !short) => {
            rest.strip_prefix(dash).filter(|after| after.starts_with(' '))
        }
        None | Some('\n' | '\r') if heads && (numbered || !short) => Some(rest),
        _ => None,
    }?;
    let after = after.trim_start_matches(['*', '_']);
    Some((kind, text.len() - after.len(), weak))
}

/// The text after a note in parentheses.
fn without_note(text: &str, short: bool) -> &str {
    let Some(note) = text.trim_start().strip_prefix('(').filter(|_| !short) else { return text };
    match note.char_indices().take(MOST_NOTE_CHARS).find(|(_, c)| *c == ')') {
        Some((at, _)) => &note[at + 1..],
        None => text,
    }
}
