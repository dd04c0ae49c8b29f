//! Abbreviations of English, German and French, by whether a sentence can end with them.

/// Whether a word with a dot ends a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It is no abbreviation.
    Always,
    /// It never does.
    Never,
    /// It does unless a number follows.
    BeforeNumber,
    /// A month or day: it does not before a number or a name.
    Month,
    /// It does if what follows looks like the beginning of a sentence.
    Maybe,
}

/// Before names, and between words.
const NEVER: [&str; 76] = [
    "dr", "mr", "mrs", "ms", "mx", "prof", "gen", "sen", "rep", "gov", "capt", "cpt", "cmdr", "lt", "col", "sgt", "maj", "adm",
    "rev", "hon", "pres", "supt", "messrs", "mme", "mlle", "hr", "hrn", "fr", "dipl", "ing", "vs", "cf", "viz", "approx", "ca",
    "resp", "incl", "excl", "fig", "figs", "eq", "eqs", "vol", "vols", "pp", "nr", "abb", "vgl", "bzw", "bspw", "ggf", "evtl",
    "inkl", "zzgl", "sog", "insb", "exkl", "e.g", "i.e", "z.b", "d.h", "u.a", "v.a", "i.d.r", "p.ex", "c.-à-d", "s.o", "s.u",
    "z.t", "o.ä", "op", "ibid", "esp", "eds", "eqn", "eqns",
];
/// Before numbers; without one most are words.
const BEFORE_NUMBER: [&str; 28] = [
    "no", "nos", "sec", "secs", "sect", "ch", "chap", "p", "art", "tab", "ref", "refs", "ex", "para", "pt", "app", "n", "ver",
    "v", "bd", "kap", "ziff", "abs", "fn", "ll", "cols", "ed", "s",
];
const MONTHS: [&str; 30] = [
    "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "okt", "nov", "dec", "dez", "mon", "tue", "tues",
    "wed", "thu", "thur", "thurs", "fri", "sat", "sun", "janv", "févr", "avr", "juil", "déc", "mrz",
];
/// At the end of a sentence or before more of it.
const MAYBE: [&str; 36] = [
    "etc", "inc", "ltd", "co", "corp", "llc", "plc", "bros", "jr", "sr", "al", "dept", "univ", "assn", "est", "ave", "blvd",
    "rd", "st", "mt", "ft", "sq", "ext", "tel", "usw", "uvm", "intl", "natl", "govt", "mfg", "ph.d", "m.sc", "b.sc", "ste",
    "gmbh", "dist",
];
const MONTH_NAMES: [&str; 32] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
    "januar",
    "februar",
    "märz",
    "mai",
    "juni",
    "juli",
    "oktober",
    "dezember",
    "janvier",
    "février",
    "mars",
    "avril",
    "juin",
    "juillet",
    "août",
    "septembre",
    "octobre",
    "novembre",
    "décembre",
    "jänner",
];
/// Words that begin a sentence far more often than they follow an abbreviation within one.
const STARTERS: [&str; 144] = [
    "the",
    "this",
    "that",
    "these",
    "those",
    "it",
    "its",
    "he",
    "she",
    "we",
    "they",
    "you",
    "i",
    "in",
    "on",
    "at",
    "for",
    "from",
    "with",
    "without",
    "by",
    "as",
    "if",
    "when",
    "while",
    "where",
    "after",
    "before",
    "although",
    "though",
    "because",
    "since",
    "however",
    "but",
    "and",
    "or",
    "so",
    "then",
    "there",
    "here",
    "a",
    "an",
    "his",
    "her",
    "our",
    "their",
    "my",
    "your",
    "one",
    "some",
    "many",
    "most",
    "all",
    "no",
    "not",
    "what",
    "why",
    "how",
    "who",
    "which",
    "both",
    "each",
    "such",
    "also",
    "thus",
    "hence",
    "therefore",
    "moreover",
    "furthermore",
    "finally",
    "first",
    "second",
    "next",
    "to",
    "into",
    "under",
    "over",
    "between",
    "during",
    "until",
    "once",
    "is",
    "are",
    "was",
    "were",
    "do",
    "does",
    "did",
    "can",
    "could",
    "will",
    "would",
    "should",
    "might",
    "must",
    "let",
    "please",
    "see",
    "note",
    "yet",
    "instead",
    "another",
    "every",
    "only",
    "even",
    "now",
    "today",
    "later",
    "meanwhile",
    "der",
    "die",
    "das",
    "ein",
    "eine",
    "es",
    "er",
    "sie",
    "wir",
    "ich",
    "und",
    "aber",
    "im",
    "am",
    "auf",
    "mit",
    "für",
    "von",
    "zu",
    "bei",
    "nach",
    "dies",
    "diese",
    "dieser",
    "le",
    "la",
    "les",
    "un",
    "une",
    "il",
    "elle",
    "nous",
    "vous",
    "ils",
    "elles",
];
/// Words whose kinds are named by a capital letter.
pub(super) const NUMBERED_WORDS: [&str; 16] = [
    "vitamin",
    "vitamins",
    "plan",
    "type",
    "class",
    "grade",
    "group",
    "hepatitis",
    "appendix",
    "exhibit",
    "option",
    "team",
    "level",
    "category",
    "schedule",
    "annex",
];

/// Whether a word, given without its last dot, ends a sentence.
pub(super) fn ending(word: &str) -> Ending {
    let small = word.to_lowercase();
    let is_in = |list: &[&str]| list.contains(&small.as_str());
    if is_in(&NEVER) {
        Ending::Never
    } else if is_in(&BEFORE_NUMBER) {
        Ending::BeforeNumber
    } else if is_in(&MONTHS) && word.starts_with(char::is_uppercase) {
        Ending::Month
    } else if is_in(&MAYBE) || is_dotted(&small) {
        Ending::Maybe
    } else {
        Ending::Always
    }
}

/// Single letters with dots between: `u.s`, `a.m`.
fn is_dotted(word: &str) -> bool {
    word.contains('.') && word.split('.').all(|part| part.chars().count() == 1 && part.chars().all(char::is_alphabetic))
}

/// Whether a word begins sentences.
pub(super) fn is_starter(word: &str) -> bool {
    STARTERS.contains(&word.to_lowercase().as_str())
}

/// Whether a word names a month in full.
pub(super) fn is_month(word: &str) -> bool {
    MONTH_NAMES.contains(&word.to_lowercase().as_str())
}
