//! `[cleaning]`: what the base model has to say of pairs that were made from documents: which are dropped, and which passages are hard negatives.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::digest::Digest;

use super::RunSpec;
use super::reader::Reader;

/// The most that a rank or a number of negatives may be.
const MOST_RANK: u64 = 1 << 20;
/// The most negatives of a row.
const MOST_NEGATIVES: u64 = 64;

/// The margin where nothing is said of it.
const DEFAULT_MARGIN: f64 = 0.05;

/// `[cleaning]`: the round-trip check and the mining of hard negatives, both by the base model's embeddings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CleaningSection {
    /// A question must find its own chunk within this rank among all chunks that have a pair; unchecked where nothing is said.
    pub round_trip: Option<u64>,
    /// Hard negatives of each training row; 0 is none.
    pub num_negatives: u64,
    /// So many of the candidates that are left are passed over, the nearest first.
    pub range_min: u64,
    /// How many candidates are looked at; by the others where nothing is said.
    pub range_max: Option<u64>,
    /// A candidate must score below the least of the question's positives by this share of it.
    pub relative_margin: f64,
}

impl CleaningSection {
    /// Whether the base model is asked at all.
    pub fn embeds(&self) -> bool {
        self.round_trip.is_some() || self.num_negatives > 0
    }

    /// Every setting that has an effect.
    fn settings(&self) -> Value {
        let mut settings = json!({ "round_trip": self.round_trip });
        if self.num_negatives > 0 {
            settings["num_negatives"] = json!(self.num_negatives);
            settings["range_min"] = json!(self.range_min);
            settings["range_max"] = json!(self.range_max);
            settings["relative_margin"] = json!(self.relative_margin);
        }
        settings
    }
}

impl RunSpec {
    /// `[cleaning]`, where it asks the base model for anything.
    pub fn mining(&self) -> Option<&CleaningSection> {
        self.making()?;
        self.cleaning.as_ref().filter(|cleaning| cleaning.embeds())
    }

    /// Everything of `[cleaning]` that changes the data set, and nothing else.
    pub(super) fn mining_settings(&self) -> Value {
        self.mining().map_or(Value::Null, CleaningSection::settings)
    }

    /// What vectors and searches are known by, beside the texts and the model: `[cleaning]`, and what changes an embedding.
    pub fn mining_digest(&self) -> Option<Digest> {
        let cleaning = self.mining()?.settings();
        let model = &self.model;
        let settings = json!({
            "cleaning": cleaning,
            "max_seq_length": model.max_seq_length,
            "query_prompt": model.query_prompt,
            "passage_prompt": model.passage_prompt,
            "micro_batch_tokens": self.train.micro_batch_tokens,
            "device": self.workers.device,
        });
        Some(Digest::of(settings.to_string().as_bytes()))
    }
}

/// `[cleaning]`, with or without being written.
pub(super) fn cleaning(reader: &mut Reader<'_, '_>) -> CleaningSection {
    const S: &str = "cleaning";
    let margin = |margin: f64| (0.0..=1.0).contains(&margin);
    CleaningSection {
        round_trip: reader.integer(S, "round_trip", 1..=MOST_RANK),
        num_negatives: reader.integer(S, "num_negatives", 0..=MOST_NEGATIVES).unwrap_or(0),
        range_min: reader.integer(S, "range_min", 0..=MOST_RANK).unwrap_or(0),
        range_max: reader.integer(S, "range_max", 1..=MOST_RANK),
        relative_margin: reader.float(S, "relative_margin", "a number from 0 to 1", margin).unwrap_or(DEFAULT_MARGIN),
    }
}

/// What the section needs of the others, and its keys of one another.
pub(super) fn check(reader: &mut Reader<'_, '_>, spec: &RunSpec) {
    const S: &str = "cleaning";
    if !reader.has("", "documents") {
        if reader.has("", S) {
            reader.warn("", S, "has no effect without [documents]");
        }
        return;
    }
    let Some(cleaning) = &spec.cleaning else { return };
    if cleaning.num_negatives == 0 {
        let written = [
            ("range_min", cleaning.range_min > 0),
            ("range_max", cleaning.range_max.is_some()),
            ("relative_margin", cleaning.relative_margin != DEFAULT_MARGIN),
        ];
        for (key, _) in written.into_iter().filter(|(_, written)| *written) {
            reader.warn(S, key, "has no effect without num_negatives");
        }
    } else if let Some(range_max) = cleaning.range_max
        && range_max < cleaning.range_min + cleaning.num_negatives
    {
        let least = cleaning.range_min + cleaning.num_negatives;
        let what = format!(
            "{range_max} candidates are too few for num_negatives = {} after range_min = {}; write {least} or more, or leave it out",
            cleaning.num_negatives, cleaning.range_min
        );
        reader.problem(S, "range_max", what);
    }
    if spec.model.base == "artel:toy" {
        let asked = [("round_trip", cleaning.round_trip.is_some()), ("num_negatives", cleaning.num_negatives > 0)];
        for (key, _) in asked.into_iter().filter(|(_, asked)| *asked) {
            let what = "needs the base model's embeddings, and the toy has no weights before there are pairs, which it is made of; leave it out, or name another base in [model]";
            reader.problem(S, key, what);
        }
    }
}
