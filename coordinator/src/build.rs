//! Pairs that workers made become a data set: gathered in order, cleaned, counted by document, put out for people, and then split like any others.

use std::collections::BTreeMap;
use std::sync::Arc;

use artel_common::event::Stage;
use artel_common::making::{
    DocumentReport, FailedChunk, FilteredBy, Ledger, MadeReport, MakingState, PairRow, QuestionsReport, TakenOut, decode_pairs,
};
use artel_common::records::{ModelManifest, Pair, Stored};
use artel_common::spec::{Positive, ProviderKind, RunSpec};
use artel_common::store::Store;
use artel_common::{Error, Result, layout};
use artel_questions::prompt::DEFAULT_TEMPLATE;

use crate::core::{Input, Prepared};
use crate::dataset::{CleanSettings, Filtered, GeneratedPair, clean};
use crate::pool::Pooled;
use crate::prepare::{Import, Preparation};
use crate::sift::sift;

/// Failed chunks that the report lists; all are counted, and all stand in the shards of pairs.
const MOST_LISTED: usize = 100;

/// What making came to.
pub(crate) struct Made {
    /// Rows for the data set.
    pub pairs: Vec<Pair>,
    /// For the report.
    pub report: MadeReport,
}

/// What documents came to, before the data set is made.
pub(crate) struct Gathered {
    /// Every document; its pairs are not counted yet.
    pub documents: Vec<DocumentReport>,
    /// The questions; what was taken out by now is in it.
    pub questions: QuestionsReport,
    /// Pairs that the cleaning left, in order; the id of each is its number among all that were made.
    pub kept: Vec<GeneratedPair>,
    /// Those that it took out.
    pub taken_out: TakenOut,
}

/// Makes the data set, model and plans of a run whose chunks have all been asked about, and of which `pooled` was held against the base model; `term` is
/// the coordinator's.
///
/// # Errors
/// The store refuses or an object is damaged; no pair is left; as [`crate::prepare::prepare`].
pub(crate) async fn build(
    preparation: &Preparation,
    state: &MakingState,
    pooled: Option<Pooled>,
    term: u64,
    tell: &(dyn Fn(Input) + Send + Sync),
) -> Result<(Prepared, artel_common::journal::PreparedRecord)> {
    tell(Input::Stage(Stage::Split));
    let model = match &state.model {
        None => None,
        Some(object) => {
            let record: ModelManifest = preparation.store.get_json_verified(object).await?;
            Some(Stored { record, object: object.clone() })
        }
    };
    if preparation.spec.mining().is_some() {
        let (Some(pooled), Some(mining), Some(model)) = (pooled, &state.mining, model) else {
            return Err(Error::Internal("pairs were not held against the base model: this is a defect; please report it".into()));
        };
        let split = sift(&preparation.store, pooled, mining).await?;
        return preparation.import_split(term, split, model).await;
    }
    let gathered = gather(&preparation.spec, &preparation.store, state).await?;
    let pairs = gathered.pairs(preparation.spec.data.positive);
    let made = Made { pairs, report: gathered.report() };
    preparation.import(term, tell, Import { made: Some(made), model }).await
}

impl Gathered {
    /// The rows of a data set that the pairs become, in their order.
    pub(crate) fn pairs(&self, positive: Positive) -> Vec<Pair> {
        self.kept.iter().map(|pair| pair.clone().into_pair(positive)).collect()
    }

    /// For the report: pairs counted, by document and in all.
    pub(crate) fn report(&self) -> MadeReport {
        let mut kept: BTreeMap<&str, u64> = BTreeMap::new();
        for pair in &self.kept {
            *kept.entry(&pair.document).or_default() += 1;
        }
        let mut documents = self.documents.clone();
        for document in &mut documents {
            document.pairs = kept.get(document.source.as_str()).copied().unwrap_or(0);
        }
        let questions = QuestionsReport { pairs: self.kept.len() as u64, ..self.questions.clone() };
        MadeReport { documents, questions }
    }
}

/// What workers read and asked, in order, and what the cleaning leaves of it.
///
/// # Errors
/// The store refuses or an object is damaged; no pair is left.
pub(crate) async fn gather(spec: &RunSpec, store: &Store, state: &MakingState) -> Result<Gathered> {
    let (mut rows, mut ledger) = (Vec::new(), Ledger::default());
    let mut asked: Vec<_> = state.asked.iter().collect();
    asked.sort_by_key(|piece| (piece.shard, piece.from));
    for piece in asked {
        rows.extend(decode_pairs(store.get_verified(&piece.pairs).await?)?);
        ledger.add(&piece.ledger);
    }
    let mut documents = Vec::new();
    let mut read: Vec<_> = state.read.iter().collect();
    read.sort_by_key(|piece| piece.first);
    for piece in read {
        documents.extend(store.get_json_verified::<Vec<DocumentReport>>(&piece.reports).await?);
    }
    let chunks: u64 = documents.iter().map(|document| document.chunks).sum();
    if documents.len() as u64 != state.documents || chunks != ledger.chunks {
        return Err(Error::Internal(format!(
            "{} of {} documents and {} of {chunks} chunks were brought to an end: this is a defect; please report it",
            documents.len(),
            state.documents,
            ledger.chunks
        )));
    }
    let questions = questions(spec, &rows, &ledger);
    let settings = clean_settings(spec);
    let generated = generated(rows);
    if generated.is_empty() {
        return Err(nothing(&documents, &questions));
    }
    let cleaned = tokio::task::spawn_blocking(move || clean(generated, &settings))
        .await
        .map_err(|e| Error::Internal(format!("the cleaning was interrupted: {e}")))?;
    let taken_out = taken_out(&cleaned.filtered);
    put_for_people(store, &cleaned.kept, &taken_out).await?;
    let filtered: Vec<FilteredBy> = cleaned.filtered.iter().filter(|by| by.count > 0).map(filtered_by).collect();
    if cleaned.kept.is_empty() {
        return Err(all_taken(&filtered));
    }
    Ok(Gathered { documents, questions: QuestionsReport { filtered, ..questions }, kept: cleaned.kept, taken_out })
}

/// The rules, for how the pairs were made.
fn clean_settings(spec: &RunSpec) -> CleanSettings {
    let Some(section) = &spec.questions else { return CleanSettings::default() };
    let judge_threshold = section.judge().map(|(_, threshold)| threshold);
    let questions_from_text = section.provider == ProviderKind::Offline;
    let prompt = match &section.prompt {
        _ if questions_from_text => String::new(),
        Some(prompt) => prompt.clone(),
        None => DEFAULT_TEMPLATE.to_owned(),
    };
    CleanSettings { judge_threshold, questions_from_text, prompt, ..CleanSettings::default() }
}

fn nothing(documents: &[DocumentReport], questions: &QuestionsReport) -> Error {
    let failed = documents.iter().find(|document| document.status == "failed").map(|document| document.message.clone());
    let why = questions.failures.first().map(|failure| failure.reason.clone()).or(failed).unwrap_or_default();
    let again = if questions.requests > 0 || questions.cache_hits > 0 {
        "; another prompt or model asks them anew; as they are they are asked again in another store, with questions.answers_from = this one"
    } else {
        ""
    };
    Error::Data(format!(
        "no pair came of {} documents ({} chunks failed), the first reason: {why}; look at `artel documents STORE` and `artel pairs STORE --failed`{again}",
        documents.len(),
        questions.failed_chunks
    ))
}

pub(crate) fn all_taken(filtered: &[FilteredBy]) -> Error {
    let rules: Vec<String> = filtered.iter().map(|by| format!("{} {}", by.rule, by.count)).collect();
    let example = filtered.iter().flat_map(|by| &by.examples).next();
    let example = example.map_or(String::new(), |[question, answer]| format!("; such as {question:?}, answered {answer:?}"));
    let total: u64 = filtered.iter().map(|by| by.count).sum();
    Error::Data(format!(
        "{total} pairs were made, and the cleaning took all of them: {}{example}; look at them with `artel pairs STORE`, and mend \
         what took them and run again: the limits (questions.judge_threshold, cleaning.round_trip), at no cost, or the prompt or the model, which asks anew",
        rules.join(", ")
    ))
}

fn questions(spec: &RunSpec, rows: &[PairRow], ledger: &Ledger) -> QuestionsReport {
    let section = spec.questions.as_ref();
    let failed = rows.iter().filter_map(|row| {
        let reason = row.failure.clone()?;
        Some(FailedChunk { document: row.document.clone(), chunk: row.chunk, reason })
    });
    let judge = section.and_then(|section| section.judge()).map(|(model, _)| model);
    let not_judged = rows.iter().filter(|row| row.question.is_some() && row.score.is_none());
    QuestionsReport {
        provider: section
            .and_then(|section| serde_json::to_value(section.provider).ok()?.as_str().map(str::to_owned))
            .unwrap_or_default(),
        model: section.map(|section| section.model.clone()).unwrap_or_default(),
        positive: if spec.data.positive == Positive::Chunk { "chunk" } else { "answer" }.into(),
        requests: ledger.requests,
        cache_hits: ledger.cache_hits,
        tokens_in: ledger.tokens_in,
        tokens_out: ledger.tokens_out,
        cost: ledger.cost_micros as f64 / 1e6,
        failed_chunks: ledger.failed_chunks,
        failures: failed.take(MOST_LISTED).collect(),
        pairs_made: ledger.pairs,
        judge_model: judge.unwrap_or_default().to_owned(),
        not_judged: judge.map_or(0, |_| not_judged.count() as u64),
        filtered: Vec::new(),
        pairs: 0,
        negatives: None,
    }
}

/// Rows that have a pair; chunks and documents' names are shared by the pairs of one.
fn generated(rows: Vec<PairRow>) -> Vec<GeneratedPair> {
    let mut pairs: Vec<GeneratedPair> = Vec::with_capacity(rows.len());
    let (mut chunk, mut document): (Arc<str>, Arc<str>) = ("".into(), "".into());
    for row in rows {
        let (Some(question), Some(answer)) = (row.question, row.answer) else { continue };
        if *chunk != *row.text {
            chunk = row.text.into();
        }
        if *document != *row.document {
            document = row.document.into();
        }
        let id = pairs.len().to_string();
        let (chunk, document) = (chunk.clone(), document.clone());
        pairs.push(GeneratedPair { id, question, answer, chunk, document, score: row.score });
    }
    pairs
}

pub(crate) fn filtered_by(filtered: &Filtered) -> FilteredBy {
    let examples = filtered.examples.iter().map(|example| [example.question.clone(), example.answer.clone()]);
    FilteredBy { rule: filtered.rule.clone(), count: filtered.count, examples: examples.collect() }
}

/// The pairs that rules took out, by their numbers.
fn taken_out(filtered: &[Filtered]) -> TakenOut {
    let numbers = |by: &Filtered| by.ids.iter().filter_map(|id| id.parse().ok()).collect();
    filtered.iter().filter(|by| by.count > 0).map(|by| (by.rule.clone(), numbers(by))).collect()
}

/// Puts the pairs where people look for them, and which were taken out.
///
/// # Errors
/// The store refuses.
pub(crate) async fn put_for_people(store: &Store, pairs: &[GeneratedPair], taken_out: &TakenOut) -> Result<()> {
    store.put(layout::PAIRS_CSV, csv(pairs)?.into()).await?;
    let taken_out =
        serde_json::to_vec(taken_out).map_err(|e| Error::Internal(format!("cannot write which pairs are left: {e}")))?;
    store.put(layout::PAIRS_TAKEN_OUT, taken_out.into()).await.map(|_| ())
}

/// The pairs as the usual tools read them.
fn csv(pairs: &[GeneratedPair]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let written = (|| {
        writer.write_record(["Text Chunk", "Question", "Answer", "document"])?;
        for pair in pairs {
            writer.write_record([&*pair.chunk, &pair.question, &pair.answer, &*pair.document])?;
        }
        writer.flush()
    })();
    written.map_err(|e| Error::Internal(format!("cannot write {}: {e}", layout::PAIRS_CSV)))?;
    writer.into_inner().map_err(|e| Error::Internal(format!("cannot write {}: {e}", layout::PAIRS_CSV)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the rules know how pairs were made: the prompt that a model may copy, the judge's threshold, or that questions are sentences of chunks. Method:
    /// a spec of each kind.
    #[test]
    fn rules_follow_the_spec() {
        let of = |lines: &str| {
            let text = format!("[documents]\nsources = \"d\"\n[questions]\n{lines}\n[model]\nbase = \"b\"\n");
            clean_settings(&RunSpec::parse(&text, "s.toml").unwrap().0)
        };
        let server = "provider = \"openai\"\nmodel = \"m\"\nbase_url = \"http://h/v1\"\n";
        let asked = of(server);
        assert_eq!((asked.prompt.as_str(), asked.judge_threshold, asked.questions_from_text), (DEFAULT_TEMPLATE, None, false));
        let own = of(&format!("{server}prompt = \"Ask about {{text}}\"\njudge_threshold = 4"));
        assert_eq!((own.prompt.as_str(), own.judge_threshold), ("Ask about {text}", Some(4)));
        let offline = of("provider = \"offline\"");
        assert_eq!((offline.prompt.as_str(), offline.questions_from_text), ("", true));
    }
}
