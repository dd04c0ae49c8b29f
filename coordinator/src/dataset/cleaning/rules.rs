//! The rules that a pair is judged by alone.

use std::sync::Arc;

use super::super::words::Words;
use super::language::{Language, word_hashes};
use super::leftovers::{Prompt, secret};
use super::pair::GeneratedPair;
use super::parts::by_parts;
use super::refers::Refers;
use super::report::Filtered;
use super::settings::CleanSettings;
use super::support::Content;

/// Name of the rule for pairs with what looks like a key; their examples show no text.
pub const HAS_SECRET: &str = "has_secret";
/// Name of the rule for pairs with parts of the prompt or talk of the model about itself.
pub const COPIES_PROMPT: &str = "copies_prompt";
/// Name of the rule for questions and answers of too few words or letters.
pub const TOO_SHORT: &str = "too_short";
/// Name of the rule for answers that say the question again.
pub const QUESTION_IS_ANSWER: &str = "question_is_answer";
/// Name of the rule for questions that speak of the text they were made from.
pub const REFERS_TO_TEXT: &str = "refers_to_text";
/// Name of the rule for questions and answers in another language than their chunk.
pub const WRONG_LANGUAGE: &str = "wrong_language";
/// Name of the rule for answers whose words or numbers the chunk has not.
pub const NOT_SUPPORTED: &str = "not_supported";

/// Name of the rule for pairs that a model judged to be worth too little.
pub const JUDGE: &str = "judge";

/// The rules in the order of asking. Secrets first: no other rule may show one as an example.
const RULES: [&str; 8] =
    [HAS_SECRET, COPIES_PROMPT, TOO_SHORT, QUESTION_IS_ANSWER, REFERS_TO_TEXT, WRONG_LANGUAGE, NOT_SUPPORTED, JUDGE];

/// A rule that a pair breaks, and how.
type Verdict = Option<(&'static str, String)>;

/// Takes out the pairs that break a rule; the rules in their order.
pub(super) fn remove_broken(pairs: &mut Vec<GeneratedPair>, settings: &CleanSettings) -> Vec<Filtered> {
    let verdicts = by_parts(pairs.len(), |range| {
        let mut judge = Judge::new(settings);
        pairs[range].iter().map(|pair| judge.judge(pair)).collect::<Vec<Verdict>>()
    });
    let mut filtered = RULES.map(Filtered::new);
    for (pair, verdict) in pairs.iter().zip(verdicts.iter().flatten()) {
        let Some((rule, reason)) = verdict else { continue };
        for filtered in filtered.iter_mut().filter(|filtered| filtered.rule == *rule) {
            filtered.add(pair, || reason.clone(), *rule != HAS_SECRET);
        }
    }
    let mut verdicts = verdicts.into_iter().flatten();
    pairs.retain(|_| verdicts.next().expect("one verdict a pair").is_none());
    filtered.into()
}

/// What is needed to judge pairs one by one; those of one chunk in a row share its reading.
struct Judge<'a> {
    settings: &'a CleanSettings,
    refers: Refers,
    prompt: Prompt,
    chunk: Option<Arc<str>>,
    content: Content,
    language: Language,
    words: Words,
    stems: Vec<u64>,
}

/// Words, and letters and digits.
fn length(text: &str, words: &mut Words) -> (usize, usize) {
    words.read(text);
    (words.hashes().len(), text.chars().filter(|letter| letter.is_alphanumeric()).count())
}

impl<'a> Judge<'a> {
    fn new(settings: &'a CleanSettings) -> Self {
        Self {
            settings,
            refers: Refers::new(&settings.refers_to_text_phrases),
            prompt: Prompt::new(&settings.prompt),
            chunk: None,
            content: Content::default(),
            language: Language::default(),
            words: Words::default(),
            stems: Vec::new(),
        }
    }

    /// The first rule that the pair breaks.
    fn judge(&mut self, pair: &GeneratedPair) -> Verdict {
        let texts = [("question", pair.question.as_str()), ("answer", pair.answer.as_str())];
        if self.settings.secrets {
            let found = texts.iter().find_map(|(role, text)| Some((role, secret(text, &pair.chunk)?)));
            if let Some((role, what)) = found {
                return Some((HAS_SECRET, format!("the {role} has {what}")));
            }
        }
        let copied = texts.iter().find_map(|(role, text)| Some((role, self.prompt.copied(text, &mut self.words)?)));
        if let Some((role, what)) = copied {
            return Some((COPIES_PROMPT, format!("the {role}: {what}")));
        }
        if let Some(reason) = self.too_short(pair) {
            return Some((TOO_SHORT, reason));
        }
        if says_again(&pair.question, &pair.answer) {
            return Some((QUESTION_IS_ANSWER, "the answer is the question or a part of it".to_owned()));
        }
        if self.settings.refers_to_text
            && let Some(phrase) = self.refers.find(&pair.question)
        {
            return Some((REFERS_TO_TEXT, format!("the question says \"{phrase}\"")));
        }
        self.read_chunk(pair);
        if self.settings.same_language {
            let found = texts.iter().find_map(|(role, text)| Some((role, self.language.differs(text)?)));
            if let Some((role, (own, of_chunk))) = found {
                return Some((WRONG_LANGUAGE, format!("the {role} is in {own}, its chunk in {of_chunk}")));
            }
        }
        if let Some(reason) = self.not_supported(&pair.answer) {
            return Some((NOT_SUPPORTED, reason));
        }
        let (score, least) = (pair.score?, self.settings.judge_threshold?);
        (score < least).then(|| (JUDGE, format!("it was judged {score} of 5; {least} are needed")))
    }

    fn too_short(&mut self, pair: &GeneratedPair) -> Option<String> {
        let settings = self.settings;
        let least = [
            ("question", &pair.question, settings.min_question_words, settings.min_question_letters),
            ("answer", &pair.answer, settings.min_answer_words, settings.min_answer_letters),
        ];
        least.into_iter().find_map(|(role, text, min_words, min_letters)| {
            let (num_words, num_letters) = length(text, &mut self.words);
            (num_words < min_words || num_letters < min_letters).then(|| {
                format!("the {role} has {num_words} words of {num_letters} letters; {min_words} words and {min_letters} letters are needed")
            })
        })
    }

    fn read_chunk(&mut self, pair: &GeneratedPair) {
        if self.chunk.as_ref().is_none_or(|chunk| !Arc::ptr_eq(chunk, &pair.chunk) && *chunk != pair.chunk) {
            self.content.read(&pair.chunk);
            if self.settings.same_language {
                self.language.read(&pair.chunk);
            }
        }
        self.chunk = Some(pair.chunk.clone());
    }

    fn not_supported(&mut self, answer: &str) -> Option<String> {
        let settings = self.settings;
        if settings.min_support <= 0.0 && !settings.numbers_supported {
            return None;
        }
        let support = self.content.support(answer, &mut self.stems);
        if support.share < settings.min_support {
            return Some(format!(
                "{:.0}% of the answer's content words are in the chunk; {:.0}% are needed",
                100.0 * support.share,
                100.0 * settings.min_support
            ));
        }
        let number = support.missing_number.filter(|_| settings.numbers_supported)?;
        Some(format!("the answer's number {number} is not in the chunk"))
    }
}

/// Whether the answer's words are, in a row, some of the question's.
fn says_again(question: &str, answer: &str) -> bool {
    let (question, answer) = (word_hashes(question), word_hashes(answer));
    !answer.is_empty() && question.windows(answer.len()).any(|words| words == answer)
}

#[cfg(test)]
mod tests;
