//! Cleaning of generated pairs: rules over each pair, then copies and near-duplicates. Pure functions; order in is order out.

mod duplicates;
mod elsewhere;
mod language;
mod leftovers;
mod marks;
mod minhash;
mod near_pairs;
mod pair;
mod parts;
mod refers;
mod report;
mod rules;
mod settings;
mod sources;
mod support;
mod weights;

pub use duplicates::{EXACT_DUPLICATE, NEAR_DUPLICATE};
pub use elsewhere::QUESTION_ELSEWHERE;
pub use pair::GeneratedPair;
pub use report::{Cleaned, Filtered, FilteredExample, MAX_EXAMPLE_CHARS, MAX_EXAMPLES};
pub use rules::{COPIES_PROMPT, HAS_SECRET, JUDGE, NOT_SUPPORTED, QUESTION_IS_ANSWER, REFERS_TO_TEXT, TOO_SHORT, WRONG_LANGUAGE};
pub use settings::CleanSettings;

/// Takes out what breaks a rule, then copies and near-duplicates of earlier pairs; a pure function of its arguments.
///
/// Each pair counts for the first rule that it breaks. Of pairs that are alike the first in the given order stays, so the
/// caller's order decides: by document and place in it, say.
pub fn clean(mut pairs: Vec<GeneratedPair>, settings: &CleanSettings) -> Cleaned {
    let mut filtered = rules::remove_broken(&mut pairs, settings);
    let mut cleaned = deduplicate(pairs, settings);
    filtered.append(&mut cleaned.filtered);
    Cleaned { filtered, ..cleaned }
}

/// The part of [`clean`] that compares pairs with each other.
pub fn deduplicate(mut pairs: Vec<GeneratedPair>, settings: &CleanSettings) -> Cleaned {
    let mut filtered = vec![duplicates::remove_exact(&mut pairs, settings)];
    let mut compared_in_part = 0;
    if settings.near_duplicates {
        let (near, cut_short) = duplicates::remove_near(&mut pairs, settings);
        filtered.push(near);
        compared_in_part = cut_short;
    }
    if settings.questions_from_text {
        filtered.push(elsewhere::remove_found_elsewhere(&mut pairs));
    }
    Cleaned { kept: pairs, filtered, compared_in_part }
}
