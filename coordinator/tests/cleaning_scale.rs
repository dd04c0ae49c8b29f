//! Synthetic pairs with known copies and near copies, cleaned and split: what is found, what is merged that differs, how long it takes.
//!
//! The million: `cargo test --release -p artel-coordinator --test cleaning_scale -- --ignored --nocapture million`

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as they do")]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use artel_common::records::ImportReport;
use artel_common::rng::Rng;
use artel_common::spec::Positive;
use artel_common::spec::{Columns, DataSection};
use artel_coordinator::dataset::{
    CleanSettings, Cleaned, EXACT_DUPLICATE, GeneratedPair, NEAR_DUPLICATE, Rows, Split, clean, split,
};

/// How words are drawn, and what a changed one becomes.
#[derive(Debug, Clone, Copy)]
struct Language {
    num_words: u64,
    /// Common words are common, by Zipf's law; else all words are equally so.
    zipf: bool,
    /// A changed word becomes one that no other text has; else another word of the language.
    new_words: bool,
}

const LANGUAGES: [Language; 4] = [
    Language { num_words: 40_000, zipf: true, new_words: false },
    Language { num_words: 40_000, zipf: true, new_words: true },
    Language { num_words: 5000, zipf: false, new_words: true },
    Language { num_words: 1000, zipf: false, new_words: false },
];

const PAIRS_OF_DOCUMENT: usize = 10;
const QUESTION_CHARS: usize = 60;
const ANSWER_CHARS: usize = 300;

/// A number as a word of two and more syllables.
fn word(number: u64) -> String {
    const CONSONANTS: &[u8] = b"bdfghklmnprstvz";
    let mut number = number + 75;
    let mut text = String::new();
    for _ in 0..8 {
        text.push(char::from(CONSONANTS[(number % 15) as usize]));
        text.push(char::from(b"aeiou"[(number / 15 % 5) as usize]));
        number /= 75;
        if number == 0 {
            break;
        }
    }
    text
}

impl Language {
    fn draw(self, rng: &mut Rng) -> u64 {
        if self.zipf {
            // Ranks whose logarithm is uniform: each is as common as one over itself.
            let share = rng.below(1 << 32) as f64 / (1u64 << 32) as f64;
            ((self.num_words as f64).powf(share) as u64).min(self.num_words) - 1
        } else {
            rng.below(self.num_words)
        }
    }

    fn text(self, rng: &mut Rng, num_chars: usize) -> String {
        let mut text = word(self.draw(rng));
        while text.len() < num_chars {
            text.push(' ');
            text += &word(self.draw(rng));
        }
        text
    }

    /// The text with one word in ten changed, at least one.
    fn near_copy(self, rng: &mut Rng, text: &str) -> String {
        let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        let mut places: Vec<usize> = (0..words.len()).collect();
        rng.shuffle(&mut places);
        let num_changed = ((words.len() as f64 / 10.0).round() as usize).max(1);
        for &place in &places[..num_changed] {
            let before = words[place].clone();
            while words[place] == before {
                words[place] = if self.new_words { word(1 << 40 | rng.below(1 << 40)) } else { word(self.draw(rng)) };
            }
        }
        words.join(" ")
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Original,
    Exact,
    Near,
}

/// Of twenty rows one is an exact copy and one a near copy of an original before it, in whatever document.
fn kind(row: usize) -> Kind {
    match row % 20 {
        7 if row > 20 => Kind::Exact,
        13 if row > 20 => Kind::Near,
        _ => Kind::Original,
    }
}

fn pairs(num_rows: usize, language: Language) -> Vec<GeneratedPair> {
    let mut rng = Rng::stream("cleaning", &[num_rows as u64, language.num_words]);
    let mut pairs: Vec<GeneratedPair> = Vec::with_capacity(num_rows);
    let nothing: Arc<str> = "".into();
    let mut document = nothing.clone();
    for row in 0..num_rows {
        if row % PAIRS_OF_DOCUMENT == 0 {
            document = format!("document {}", row / PAIRS_OF_DOCUMENT).into();
        }
        let original = (kind(row) != Kind::Original).then(|| {
            loop {
                let other = rng.below(row as u64) as usize;
                if kind(other) == Kind::Original {
                    break &pairs[other];
                }
            }
        });
        let (question, answer) = match (original, kind(row)) {
            (Some(other), Kind::Exact) => (other.question.to_uppercase(), format!("{}.", other.answer)),
            (Some(other), _) => (language.near_copy(&mut rng, &other.question), language.near_copy(&mut rng, &other.answer)),
            (None, _) => (language.text(&mut rng, QUESTION_CHARS), language.text(&mut rng, ANSWER_CHARS)),
        };
        let chunk = nothing.clone();
        pairs.push(GeneratedPair { id: row.to_string(), question, answer, chunk, document: document.clone(), score: None });
    }
    for pairs in pairs.chunks_mut(PAIRS_OF_DOCUMENT) {
        let texts: Vec<&str> = pairs.iter().map(|pair| pair.answer.as_str()).collect();
        let chunk: Arc<str> = texts.join(". ").into();
        pairs.iter_mut().for_each(|pair| pair.chunk = chunk.clone());
    }
    pairs
}

/// Fails unless all exact copies and 95% of the near ones are gone, and at most one original in a thousand.
fn check(cleaned: &Cleaned, num_rows: usize) {
    let kept: HashSet<usize> = cleaned.kept.iter().map(|pair| pair.id.parse().unwrap()).collect();
    let share_kept = |wanted: Kind| {
        let rows = || (0..num_rows).filter(move |&row| kind(row) == wanted);
        rows().filter(|row| kept.contains(row)).count() as f64 / rows().count() as f64
    };
    let (recall, merged) = (1.0 - share_kept(Kind::Near), 1.0 - share_kept(Kind::Original));
    println!(
        "  exact copies {}, near-duplicates {}, compared in part {}; near copies found {recall:.5}, different texts merged {merged:.6}",
        cleaned.count(EXACT_DUPLICATE),
        cleaned.count(NEAR_DUPLICATE),
        cleaned.compared_in_part
    );
    assert_eq!(share_kept(Kind::Exact), 0.0);
    assert!(recall >= 0.95, "{recall}");
    assert!(merged <= 0.001, "{merged}");
}

fn split_of(cleaned: Cleaned) -> Split {
    let data = DataSection {
        pairs: vec![],
        columns: Columns::default(),
        limit: None,
        test: None,
        test_fraction: 0.2,
        drop_leaks: false,
        near_duplicate_threshold: 0.8,
        positive: Positive::Answer,
    };
    let train = cleaned.kept.into_iter().map(|pair| pair.into_pair(Positive::Answer)).collect();
    split(Rows { train, test: None, report: ImportReport::default(), warnings: vec![] }, &data, 42).unwrap()
}

/// Fails if a document is on both sides, or the test side is not a fifth.
fn check_split(done: &Split, num_rows: usize) {
    println!("  {}", done.report.split);
    let tests: HashSet<_> = done.test.iter().map(|pair| &pair.group).collect();
    assert!(done.train.iter().all(|pair| !tests.contains(&pair.group)));
    assert_eq!(done.train.len() + done.test.len(), num_rows);
    let share = done.test.len() as f64 / num_rows as f64;
    assert!((0.19..=0.2001).contains(&share), "{share}");
}

/// The greatest resident size that this process ever had, in MB of 10^6 bytes.
fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells of its processes");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("it has a high-water mark");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).expect("a number of KiB") * 1024.0 / 1e6
}

/// Seconds that this process's threads computed, whatever else the machine did.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux tells of its processes");
    let fields = stat.rsplit_once(')').expect("a name in parentheses").1.split_whitespace();
    // User and system time, in ticks of a hundredth of a second.
    fields.skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

fn settings() -> CleanSettings {
    // Words of syllables are in no language.
    CleanSettings { same_language: false, ..CleanSettings::default() }
}

/// Goal: near copies are found and different texts kept, whatever the language's words. Method: 20,000 pairs each in four
/// languages, one row in twenty a copy and one a near copy; which rows are left; their split.
#[test]
fn twenty_thousand_pairs() {
    for language in LANGUAGES {
        println!("{language:?}");
        let num_rows = 20_000;
        let cleaned = clean(pairs(num_rows, language), &settings());
        check(&cleaned, num_rows);
        let num_kept = cleaned.kept.len();
        check_split(&split_of(cleaned), num_kept);
    }
}

/// Goal: a million pairs are cleaned and split in under 60 s and 2 GB, with the same shares. Method: wall time of both, and the peak
/// resident size of this process, which holds the pairs too; run alone and in release.
#[test]
#[ignore = "slow: a million pairs, for a release build on a machine of its own"]
fn million_pairs() {
    let num_rows = 1_000_000;
    let number = std::env::var("ARTEL_LANGUAGE").ok().and_then(|number| number.parse::<usize>().ok());
    let language = LANGUAGES[number.unwrap_or(0).min(LANGUAGES.len() - 1)];
    println!("{language:?}");
    let pairs = pairs(num_rows, language);
    println!("  made: peak {:.0} MB", peak_mb());
    let (began, cpu_began) = (Instant::now(), cpu_seconds());
    let cleaned = clean(pairs, &settings());
    let (cleaning, cleaning_cpu, cleaning_peak) = (began.elapsed(), cpu_seconds() - cpu_began, peak_mb());
    println!("  cleaned: {cleaning:.1?} ({cleaning_cpu:.1} s of CPU), peak {cleaning_peak:.0} MB");
    check(&cleaned, num_rows);
    let num_kept = cleaned.kept.len();
    let (began, cpu_began) = (Instant::now(), cpu_seconds());
    let done = split_of(cleaned);
    let (splitting, splitting_cpu, peak) = (began.elapsed(), cpu_seconds() - cpu_began, peak_mb());
    println!("  split: {splitting:.1?} ({splitting_cpu:.1} s of CPU), peak {peak:.0} MB; {:.1?} together", cleaning + splitting);
    check_split(&done, num_kept);
    assert!((cleaning + splitting).as_secs_f64() < 60.0, "{cleaning:?} + {splitting:?}");
    assert!(peak < 2000.0, "{peak} MB");
}
