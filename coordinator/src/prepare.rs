//! What comes before any worker: the journal is taken over; base model and pairs go into the store, split and planned, unless they are there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use artel_common::event::Stage;
use artel_common::journal::{Began, Journal, PreparedRecord, Record, RunState};
use artel_common::making::{MadeReport, QuestionsReport, SourceList, open_answers};
use artel_common::plan::EpochPlan;
use artel_common::records::{ExportManifest, ModelManifest, ObjectRef, Report, Stored};
use artel_common::spec::{ProviderKind, RunSpec};
use artel_common::store::{LONG_PATIENCE, Store};
use artel_common::{Error, Result, clock, layout};

use futures::future::BoxFuture;

use crate::build::Made;
use crate::core::{Input, Prepared};
use crate::pool::check_negatives;
use crate::{dataset, documents, model_import, resume};

/// What to prepare from.
pub struct Preparation {
    /// The spec.
    pub spec: RunSpec,
    /// Paths in it are relative to this folder.
    pub folder: PathBuf,
    /// Makes a folder that stands for the spec's base model, if one does; called only where the store has no model yet.
    pub make_model: Option<MakeModel>,
    /// The run's store.
    pub store: Store,
    /// What tells this process from every other.
    pub writer: String,
}

/// Makes a model folder for these texts.
pub type MakeModel = Box<dyn Fn(Vec<String>) -> BoxFuture<'static, Result<tempfile::TempDir>> + Send + Sync>;

/// What lies in the store.
pub enum Ready {
    /// The run can go on from here.
    Prepared(Box<Prepared>, Box<Journal>),
    /// Pairs are to be made of documents first, which are read in these pieces (first and count).
    Making(Vec<(u64, u64)>, Box<Journal>),
    /// It is done already.
    Done(Box<Report>),
}

/// Prepares the run, or finds it prepared; `tell` hears of stages, progress and warnings.
///
/// # Errors
/// The store, the data or the model is not usable, or the store holds another run.
pub async fn prepare(preparation: &Preparation, tell: &(dyn Fn(Input) + Send + Sync)) -> Result<Ready> {
    let Preparation { spec, folder, store, writer, .. } = preparation;
    // whatever happens here happens before anything is written
    let found = Journal::read(store).await?;
    if let Some(state) = &found
        && let Some(record) = &state.prepared
    {
        resume::check(spec, folder, store, state, record).await?;
        if let Some(report) = &state.done {
            verify_export(store, state).await?;
            put_report(store, report).await?;
            return Ok(Ready::Done(report.clone()));
        }
    }
    store.probe().await?;
    let began = Began { name: spec.run.name.clone(), version: env!("CARGO_PKG_VERSION").into(), unix_s: clock::unix_seconds() };
    let mut journal = Journal::take_over(&store.with_patience(LONG_PATIENCE), writer, began).await?;
    if let Some(record) = journal.state().prepared.clone() {
        let prepared = resume::prepared(spec, folder, store, journal.state(), &record).await?;
        return Ok(Ready::Prepared(Box::new(prepared), Box::new(journal)));
    }
    if let Some((_, _, questions)) = spec.making() {
        if let Some(url) = &questions.answers_from
            && questions.provider != ProviderKind::Offline
        {
            // before anything is asked, and paid for, that lies there
            if open_answers(url).await?.url() == store.url() {
                let what = "questions.answers_from names this run's own store, whose answers it finds anyway; name another run's, or leave it out";
                return Err(Error::Spec(what.into()));
            }
        }
        let cuts = list_documents(preparation, &mut journal, tell).await?;
        return Ok(Ready::Making(cuts, Box::new(journal)));
    }
    let (prepared, record) = preparation.import(journal.term(), tell, Import::default()).await?;
    fail::fail_point!("journal::before_prepared");
    journal.append(Record::Prepared(Box::new(record))).await?;
    fail::fail_point!("journal::after_prepared");
    Ok(Ready::Prepared(Box::new(prepared), Box::new(journal)))
}

/// The documents of the run, listed and in the store; those that the journal has where the spec is what it was.
async fn list_documents(
    preparation: &Preparation,
    journal: &mut Journal,
    tell: &(dyn Fn(Input) + Send + Sync),
) -> Result<Vec<(u64, u64)>> {
    let Preparation { spec, folder, store, .. } = preparation;
    let (Some(section), Some(settings)) = (&spec.documents, spec.making_digest()) else { return Ok(Vec::new()) };
    if let Some(making) = journal.state().making.as_ref().filter(|making| making.settings == settings) {
        let list: SourceList = store.get_json_verified(&making.sources).await?;
        if let Some(changes) = documents::changes(&list, section, folder).await {
            tell(Input::Noticed(changes));
        }
        return Ok(documents::cut(&list));
    }
    if journal.state().making.is_some() {
        let what = "the spec asks for other documents, chunks or questions than when this run began: documents are read anew, as they are now; a request \
                    that was answered before is not paid for again";
        tell(Input::Noticed(what.to_owned()));
    }
    let begun = clock::now();
    tell(Input::Stage(Stage::Import));
    // files of pairs beside the documents: what is wrong with them is told before any answer is paid for
    check_files(spec, folder).await?;
    let mut warnings = Vec::new();
    let model = match preparation.make_model {
        // it is made of the pairs, which are not there yet
        Some(_) => None,
        None => {
            let model = import_model(preparation, journal.term(), tell, Vec::new, &mut warnings).await?;
            check_model(spec, &model.record, store).await?;
            Some(model.object)
        }
    };
    warnings.into_iter().for_each(|warning| tell(Input::Noticed(warning)));
    let progress = |done, total| tell(Input::Progress { done, total, unit: "documents".into() });
    let (list, object) = documents::list(section, folder, store, &progress).await?;
    let wall_s = BTreeMap::from([(Stage::Import.name().to_owned(), (clock::now() - begun).as_secs_f64())]);
    let record = Record::Sources { list: object, settings, documents: list.sources.len() as u64, model, wall_s };
    journal.append(record).await?;
    Ok(documents::cut(&list))
}

/// Many chunks without a pair are most often a server's doing, and can be asked about again.
fn many_failed(made: &MadeReport) -> Option<String> {
    let chunks: u64 = made.documents.iter().map(|document| document.chunks).sum();
    let questions = &made.questions;
    let is_asked = questions.requests + questions.cache_hits > 0;
    (is_asked && questions.failed_chunks * 10 >= chunks && questions.failed_chunks > 0).then(|| {
        let first = questions.failures.first().map_or("", |failure| failure.reason.as_str());
        format!(
            "{} of {chunks} chunks came to no pair, the first by: {first}; `artel pairs STORE --failed` lists them, and a run in another store with \
             questions.answers_from asks about them alone",
            questions.failed_chunks
        )
    })
}

/// A judge that judged little has filtered little.
fn not_judged(questions: &QuestionsReport) -> Option<String> {
    (questions.not_judged > 0 && questions.not_judged * 10 >= questions.pairs_made).then(|| {
        format!(
            "{} of {} pairs could not be judged and are kept: {} gave no score from 1 to 5 that could be read; look at the model and questions.judge_prompt",
            questions.not_judged, questions.pairs_made, questions.judge_model
        )
    })
}

/// Reads the files of `[data]` that stand beside documents, to see that they can be used.
///
/// # Errors
/// A file is missing or none of its rows can be read, or rows have negatives where some are to be mined.
pub async fn check_files(spec: &RunSpec, folder: &Path) -> Result<()> {
    let rows = dataset::read_rows_if_any(&spec.data, folder, &|_, _| {}).await?;
    match spec.mining().is_some_and(|cleaning| cleaning.num_negatives > 0) {
        true => check_negatives(&rows.train),
        false => Ok(()),
    }
}

/// A finished run hands over a model: every file of it must be whole.
async fn verify_export(store: &Store, state: &RunState) -> Result<()> {
    let Some(exported) = &state.exported else { return Ok(()) };
    let verified = async {
        let manifest: ExportManifest = store.get_json_verified(&exported.manifest).await?;
        for file in &manifest.files {
            store.get_verified(&file.object).await?;
        }
        Ok::<_, Error>(())
    };
    verified.await.map_err(|e| match e {
        Error::Damaged(what) => Error::Damaged(format!(
            "the run is done, but its model was damaged since: {what}; `artel export {} --to DIR --checkpoint best` writes it anew from a checkpoint",
            store.url()
        )),
        other => other,
    })
}

/// Puts the report where people look for it, unless it is there: what the journal says of it is what counts, and a process that died may
/// not have come to this.
///
/// # Errors
/// The store refuses.
pub async fn put_report(store: &Store, report: &Report) -> Result<()> {
    let there: Result<Option<Report>> = store.get_json(layout::REPORT).await;
    match there {
        Ok(Some(there)) if there == *report => Ok(()),
        _ => store.put_json(layout::REPORT, report).await.map(|_| ()),
    }
}

/// What an import has before it begins.
#[derive(Default)]
pub(crate) struct Import {
    /// Pairs that were made from documents.
    pub made: Option<Made>,
    /// The base model, where it is in the store.
    pub model: Option<Stored<ModelManifest>>,
}

impl Preparation {
    /// The rows of the files that the spec names, and those that were made from documents.
    pub(crate) async fn rows(
        &self,
        made: Option<Made>,
        tell: &(dyn Fn(Input) + Send + Sync),
    ) -> Result<(dataset::Rows, Option<MadeReport>)> {
        let progress = |done, total| tell(Input::Progress { done, total, unit: "bytes".into() });
        let Some(made) = made else {
            return Ok((dataset::read_rows(&self.spec.data, &self.folder, &progress).await?, None));
        };
        let mut rows = dataset::read_rows_if_any(&self.spec.data, &self.folder, &progress).await?;
        rows.train.extend(made.pairs);
        dataset::make_ids_unique(&mut rows.train);
        Ok((rows, Some(made.report)))
    }

    /// Puts model, data set and plans into the store; the record is for the journal of this term.
    pub(crate) async fn import(
        &self,
        term: u64,
        tell: &(dyn Fn(Input) + Send + Sync),
        given: Import,
    ) -> Result<(Prepared, PreparedRecord)> {
        let Self { spec, store, .. } = self;
        let begun = clock::now();
        let is_made = given.made.is_some();
        if !is_made {
            tell(Input::Stage(Stage::Import));
        }
        let (rows, made) = self.rows(given.made, tell).await?;
        let mut warnings = Vec::new();
        let model = match given.model {
            Some(model) => model,
            None => {
                let texts = || rows.train.iter().flat_map(|pair| pair.columns().map(str::to_owned)).collect();
                import_model(self, term, tell, texts, &mut warnings).await?
            }
        };
        check_model(spec, &model.record, store).await?;
        let imported = clock::now();
        if !is_made {
            tell(Input::Stage(Stage::Split));
        }
        let mut split = self.split(rows).await?;
        split.made = made;
        let (prepared, mut record) = self.commit(term, split, model, warnings).await?;
        let done = clock::now();
        let wall = if is_made {
            vec![(Stage::Split, done - begun)]
        } else {
            vec![(Stage::Import, imported - begun), (Stage::Split, done - imported)]
        };
        record.wall_s = wall_seconds(&wall);
        Ok((prepared, record))
    }

    /// The rows parted.
    pub(crate) async fn split(&self, rows: dataset::Rows) -> Result<dataset::Split> {
        let (data, seed) = (self.spec.data.clone(), self.spec.train.seed);
        tokio::task::spawn_blocking(move || dataset::split(rows, &data, seed))
            .await
            .map_err(|e| Error::Internal(format!("the split was interrupted: {e}")))?
    }

    /// Puts a data set that is split already, and its plans, into the store, beside a model that is there.
    pub(crate) async fn import_split(
        &self,
        term: u64,
        split: dataset::Split,
        model: Stored<ModelManifest>,
    ) -> Result<(Prepared, PreparedRecord)> {
        let begun = clock::now();
        let (prepared, mut record) = self.commit(term, split, model, Vec::new()).await?;
        record.wall_s = wall_seconds(&[(Stage::Split, clock::now() - begun)]);
        Ok((prepared, record))
    }

    /// Plans and data set go into the store; what the journal is to say of them, but for the time it took.
    async fn commit(
        &self,
        term: u64,
        split: dataset::Split,
        model: Stored<ModelManifest>,
        mut warnings: Vec<String>,
    ) -> Result<(Prepared, PreparedRecord)> {
        let Self { spec, folder, store, .. } = self;
        let hidden = check_model(spec, &model.record, store).await?;
        warnings.extend(split.warnings.iter().cloned());
        warnings.extend(split.made.as_ref().and_then(|made| not_judged(&made.questions)));
        warnings.extend(split.made.as_ref().and_then(many_failed));
        let (plans, objects) = put_plans(spec, &split, store, term).await?;
        let dataset = dataset::commit(&split, store, term).await?;
        let run_digest = spec.identity(&dataset.record.train.digest, &model.record.digest)?;
        let prepared = Prepared::new(spec, dataset, model, &plans, objects.clone(), run_digest.clone(), hidden)?;
        if prepared.rows_left_out > 0 {
            warnings.push(format!(
                "{} training rows are left out of an epoch: no full batch of {} without equal texts could hold them",
                prepared.rows_left_out, spec.train.global_batch_size
            ));
        }
        let record = PreparedRecord {
            spec: spec.clone(),
            run_digest,
            hidden_size: hidden as u64,
            total_steps: prepared.schedule.total(),
            dataset: prepared.dataset.object.clone(),
            model: prepared.model.object.clone(),
            plans: objects,
            stamps: resume::stamps(spec, folder, &prepared.dataset.record, &prepared.model.record).await,
            warnings,
            wall_s: BTreeMap::new(),
        };
        Ok((prepared, record))
    }
}

fn wall_seconds(wall: &[(Stage, Duration)]) -> BTreeMap<String, f64> {
    wall.iter().map(|(stage, wall)| (stage.name().to_owned(), wall.as_secs_f64())).collect()
}

/// The batch plan of each epoch, and where it lies.
async fn put_plans(spec: &RunSpec, split: &dataset::Split, store: &Store, term: u64) -> Result<(Vec<EpochPlan>, Vec<ObjectRef>)> {
    let train = &spec.train;
    let plan = |epoch| dataset::plan_epoch(&split.train, train.seed, epoch, train.global_batch_size, train.drop_last);
    let plans = (0..train.num_train_epochs).map(plan).collect::<Result<Vec<_>>>()?;
    let mut objects = Vec::with_capacity(plans.len());
    for plan in &plans {
        objects.push(store.put(&layout::plan(term, plan.epoch), plan.to_bytes()).await?);
    }
    Ok((plans, objects))
}

async fn import_model(
    preparation: &Preparation,
    term: u64,
    tell: &(dyn Fn(Input) + Send + Sync),
    texts: impl FnOnce() -> Vec<String>,
    warnings: &mut Vec<String>,
) -> Result<Stored<ModelManifest>> {
    let (base, store) = (&preparation.spec.model.base, &preparation.store);
    let target = model_import::Target { store, term };
    let progress = |done, total| tell(Input::Progress { done, total, unit: "bytes".into() });
    let (manifest, said) = match &preparation.make_model {
        Some(make) => {
            let made = make(texts()).await?;
            model_import::import_folder(made.path(), base, target, &progress).await?
        }
        None => {
            let revision = preparation.spec.model.revision.as_deref();
            model_import::import_model(base, revision, Path::new(&preparation.folder), target, &progress).await?
        }
    };
    warnings.extend(said);
    Ok(manifest)
}

/// What can be known of the model without its weights: its width, which the spec's dimensions must fit, and how long texts may be.
async fn check_model(spec: &RunSpec, model: &ModelManifest, store: &Store) -> Result<usize> {
    let Some(config) = model.files.iter().find(|file| file.path == "config.json") else {
        return Err(Error::Model(format!("{} has no config.json: it is not a model folder", model.source)));
    };
    let bytes = store.get_verified(&config.object).await?;
    let config: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|e| Error::Model(format!("{}: config.json is not JSON: {e}", model.source)))?;
    let hidden = config.get("hidden_size").and_then(serde_json::Value::as_u64);
    let hidden = hidden.ok_or_else(|| Error::Model(format!("{}: config.json has no hidden_size", model.source)))?;
    spec.check_dims(hidden as usize)?;
    if let Some(positions) = config.get("max_position_embeddings").and_then(serde_json::Value::as_u64) {
        spec.check_length(positions as usize)?;
    }
    Ok(hidden as usize)
}
