//! Pieces of mining: texts to vectors of the base model, and questions held against all passages.

use std::sync::Arc;

use artel_common::digest::Digest;
use artel_common::mining::{FoundRow, Pool, PoolQuestion, decode_passages, decode_questions, decode_vectors, encode_vectors};
use artel_common::records::{ModelManifest, ObjectRef};
use artel_common::spec::{DeviceKind, RunSpec};
use artel_common::store::Store;
use artel_common::{layout, model_files};
use artel_proto::v1::FailureKind;
use artel_proto::{convert, v1};
use artel_trainer::embed::{EmbedSettings, PairEmbedder};
use artel_trainer::interrupt::Interrupt;
use artel_trainer::mine::{MineTask, mine, passage_ids};
use artel_trainer::model::ModelFolder;
use futures::stream::{StreamExt as _, TryStreamExt as _};

use super::Maker;
use crate::join::precision;
use crate::session::{Compute, TaskError, TaskResult};

/// Shards of vectors that are fetched at once.
const FETCHED_AT_ONCE: usize = 8;

/// The vectors of all passages of a pool.
pub(super) struct Passages {
    /// The pool's key.
    key: String,
    pool: Pool,
    ids: Vec<String>,
    /// f32 [n, h].
    vectors: Vec<f32>,
}

impl Maker {
    /// Embeds a shard of texts and puts the vectors into the store.
    pub(super) async fn embed(&self, task: &v1::Embed) -> TaskResult<v1::EmbedDone> {
        let pool: Pool = self.store.get_json_verified(&object(task.pool.clone())?).await?;
        let shards = if task.questions { &pool.questions } else { &pool.passages };
        let bytes = self.store.get_verified(&shard(shards, task.index)?.object).await?;
        let texts: Vec<String> = match task.questions {
            true => decode_questions(bytes)?.into_iter().map(|row| row.question).collect(),
            false => decode_passages(bytes)?,
        };
        let embedder = self.embedder(object(task.model.clone())?).await?;
        let (questions, threads, interrupt) = (task.questions, self.threads, self.interrupt.clone());
        let vectors = blocking(move || Ok(embedder.encode(&texts, questions, threads, &interrupt)?)).await?;
        let bytes = encode_vectors(&vectors);
        let kind = if task.questions { "question" } else { "passage" };
        let key = layout::mining_vectors(kind, task.index, Digest::of(&bytes).as_str());
        let vectors = self.store.put(&key, bytes).await?;
        Ok(v1::EmbedDone { vectors: Some((&vectors).into()) })
    }

    /// Finds what is wanted for the questions of a shard and puts it into the store.
    pub(super) async fn search(&self, task: &v1::Search) -> TaskResult<v1::SearchDone> {
        let passages = self.passages(task).await?;
        let texts = self.store.get_verified(&shard(&passages.pool.questions, task.index)?.object).await?;
        let vectors = self.store.get_verified(&object(task.questions.clone())?).await?;
        let (rows, vectors) = (decode_questions(texts)?, decode_vectors(&vectors)?);
        let (threads, interrupt) = (self.threads, self.interrupt.clone());
        let found = blocking(move || search(&passages, &rows, &vectors, threads, &interrupt)).await?;
        let json = serde_json::to_vec(&found).map_err(|e| TaskError::internal(format!("cannot write what was found: {e}")))?;
        let key = layout::mining_found(task.index, Digest::of(&json).as_str());
        let found = self.store.put(&key, json.into()).await?;
        Ok(v1::SearchDone { found: Some((&found).into()) })
    }

    /// The base model, read once; what was searched before is not needed beside it.
    async fn embedder(&self, model: ObjectRef) -> TaskResult<Arc<PairEmbedder>> {
        let mut kept = self.embedder.lock().await;
        if let Some(embedder) = &*kept {
            return Ok(embedder.clone());
        }
        let embedder = Arc::new(fetch(&self.store, &model, settings(&self.spec, self.compute)).await?);
        *kept = Some(embedder.clone());
        Ok(embedder)
    }

    /// The vectors of all passages, read once; the model is not needed any more.
    async fn passages(&self, task: &v1::Search) -> TaskResult<Arc<Passages>> {
        *self.embedder.lock().await = None;
        let object = object(task.pool.clone())?;
        let mut kept = self.passages.lock().await;
        if let Some(passages) = kept.as_ref().filter(|passages| passages.key == object.key) {
            return Ok(passages.clone());
        }
        let pool: Pool = self.store.get_json_verified(&object).await?;
        let objects = task.passages.iter().cloned().map(|object| convert::object(Some(object)).map_err(TaskError::internal));
        let shards = futures::stream::iter(objects)
            .map(|object| async { Ok::<_, TaskError>(decode_vectors(&self.store.get_verified(&object?).await?)?) })
            .buffered(FETCHED_AT_ONCE);
        let mut vectors = Vec::new();
        let mut shards = std::pin::pin!(shards);
        while let Some(shard) = shards.try_next().await? {
            vectors.extend(shard);
        }
        let count: u64 = pool.passages.iter().map(|shard| shard.count).sum();
        let passages = Arc::new(Passages { key: object.key, pool, ids: passage_ids(count as usize), vectors });
        *kept = Some(passages.clone());
        Ok(passages)
    }
}

/// The model in the store, with the prompts and the length of the spec, on its device.
async fn fetch(store: &Store, model: &ObjectRef, settings: EmbedSettings) -> TaskResult<PairEmbedder> {
    let manifest: ModelManifest = store.get_json_verified(model).await?;
    let scratch =
        tempfile::tempdir().map_err(|e| TaskError { kind: FailureKind::Store, message: format!("no temporary folder: {e}") })?;
    let path = scratch.path().join("base");
    model_files::fetch_model(&manifest, store, &path).await?;
    blocking(move || {
        let embedder = ModelFolder::open(&path).and_then(|folder| PairEmbedder::new(&folder, &settings));
        drop(scratch);
        embedder.map_err(|e| {
            let error = TaskError::from(e);
            // the temporary path says nothing to a person
            TaskError { message: error.message.replace(&path.display().to_string(), &manifest.source), ..error }
        })
    })
    .await
}

fn settings(spec: &RunSpec, compute: Compute) -> EmbedSettings {
    let model = &spec.model;
    EmbedSettings {
        max_seq_length: model.max_seq_length,
        query_prompt: model.query_prompt.clone(),
        passage_prompt: model.passage_prompt.clone(),
        micro_batch_tokens: spec.train.micro_batch_tokens,
        gpu: (spec.workers.device == DeviceKind::Cuda).then(|| (compute.gpu, precision(spec.train.precision))),
    }
}

fn search(
    passages: &Passages,
    rows: &[PoolQuestion],
    questions: &[f32],
    threads: usize,
    interrupt: &Interrupt,
) -> TaskResult<Vec<FoundRow>> {
    let hidden = questions.len() / rows.len().max(1);
    let Passages { pool, ids, vectors, .. } = passages;
    Ok(mine(&MineTask { hidden, questions, rows, passages: vectors, ids, pool }, threads, interrupt)?)
}

fn object(message: Option<v1::ObjectRef>) -> TaskResult<ObjectRef> {
    convert::object(message).map_err(TaskError::internal)
}

fn shard(shards: &[artel_common::mining::PoolShard], index: u64) -> TaskResult<&artel_common::mining::PoolShard> {
    shards.get(index as usize).ok_or_else(|| TaskError::internal("a piece of mining lies beyond its pool"))
}

/// Work for the processor, beside the tasks that wait for calls.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> TaskResult<T> + Send + 'static) -> TaskResult<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => match e.try_into_panic() {
            Ok(panic) => Err(TaskError::panicked(&*panic)),
            Err(_) => Err(TaskError::internal("a piece of work was given up with its runtime")),
        },
    }
}
