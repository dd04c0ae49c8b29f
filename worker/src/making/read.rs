//! A piece of reading: some documents to elements and chunks. What happens in one costs that one alone.

use std::sync::Arc;

use artel_common::digest::Digest;
use artel_common::layout;
use artel_common::making::{ChunkRow, DocumentReport, ElementRow, Place, Source, SourceList, encode_chunks, encode_elements};
use artel_common::records::ObjectRef;
use artel_common::spec::{ChunkUnit, ReadStrategy};
use artel_common::store::Store;
use artel_documents::chunk::{ChunkOptions, Unit, chunk};
use artel_documents::element::Document;
use artel_documents::isolate::{Input, Limits, read_isolated};
use artel_documents::read::{ReadOptions, Strategy, Unreadable};
use artel_proto::{convert, v1};
use bytes::Bytes;
use futures::stream::{StreamExt as _, TryStreamExt as _};

use super::tokens::Tokens;
use super::{Maker, left};
use crate::session::{TaskError, TaskResult};

/// The subcommand that reads a document in a process of its own.
const READER: &str = "parse";
/// Bytes that a document may come to as elements.
const MOST_OUTPUT: u64 = 1 << 30;

/// What a document came to.
struct Read {
    report: DocumentReport,
    elements: Vec<ElementRow>,
    chunks: Vec<ChunkRow>,
}

impl Maker {
    /// Reads the documents of a piece and puts what they came to into the store.
    pub(super) async fn read(&self, task: &v1::Read) -> TaskResult<v1::ReadDone> {
        let object = convert::object(task.sources.clone()).map_err(TaskError::internal)?;
        let list = self.sources.get_or_try_init(|| async { self.store.get_json_verified::<SourceList>(&object).await }).await?;
        let tokens = self.tokens(task.model.clone()).await?;
        let first = task.first as usize;
        let sources = list.sources.get(first..first + task.count as usize);
        let sources = sources.ok_or_else(|| TaskError::internal("a piece of reading lies beyond the list of documents"))?;
        let work = futures::stream::iter(sources.to_vec())
            .map(|source| async move { self.read_one(&source, tokens).await })
            .buffered(self.threads.max(1));
        let read: Vec<Read> = tokio::select! {
            read = work.try_collect() => read?,
            () = self.given_up() => return Err(left()),
        };
        let (mut reports, mut elements, mut chunks) = (Vec::new(), Vec::new(), Vec::new());
        for document in read {
            reports.push(document.report);
            elements.extend(document.elements);
            chunks.extend(document.chunks);
        }
        let failed = reports.iter().filter(|report| report.status == "failed").count() as u64;
        let pages = reports.iter().map(|report| u64::from(report.pages)).sum();
        let json = serde_json::to_vec(&reports).map_err(|e| TaskError::internal(format!("cannot write the reports: {e}")))?;
        let reports = self.put(layout::document_reports, task.first, json.into()).await?;
        let elements = self.put(layout::element_shard, task.first, encode_elements(&elements)?).await?;
        let num_chunks = chunks.len() as u64;
        let chunks = self.put(layout::chunk_shard, task.first, encode_chunks(&chunks)?).await?;
        let reference = |object: &ObjectRef| Some(object.into());
        Ok(v1::ReadDone {
            failed,
            pages,
            num_chunks,
            reports: reference(&reports),
            elements: reference(&elements),
            chunks: reference(&chunks),
        })
    }

    async fn put(&self, key: fn(u64, &str) -> String, first: u64, bytes: Bytes) -> TaskResult<ObjectRef> {
        let digest = Digest::of(&bytes);
        Ok(self.store.put(&key(first, digest.as_str()), bytes).await?)
    }

    /// What counts tokens, where chunks are counted in them.
    async fn tokens(&self, model: Option<v1::ObjectRef>) -> TaskResult<Option<&Tokens>> {
        let Some(chunks) = self.spec.chunks.as_ref().filter(|chunks| chunks.unit == ChunkUnit::Tokens) else { return Ok(None) };
        let model = convert::object(model).map_err(TaskError::internal)?;
        let tokens = self.tokens.get_or_try_init(|| Tokens::fetch(&self.store, &model, chunks.chunk_size)).await?;
        Ok(Some(tokens))
    }

    async fn read_one(&self, source: &Source, tokens: Option<&Tokens>) -> TaskResult<Read> {
        if self.interrupt.is_leaving() {
            return Err(left());
        }
        let (bytes, digest) = match self.fetch(source).await? {
            Ok(bytes) => {
                let digest = Digest::of(&bytes).to_string();
                (bytes, digest)
            }
            Err((reason, message)) => return Ok(failed(source, reason, message, String::new())),
        };
        let name = source.name.clone();
        let (options, limits) = self.reading()?;
        let program =
            std::env::current_exe().map_err(|e| TaskError::internal(format!("this program's own file is unknown: {e}")))?;
        let isolated = move || read_isolated(&program, &[READER], Input::Bytes(&bytes), &name, &options, &limits);
        let read = tokio::task::spawn_blocking(isolated).await;
        let document = match read.map_err(|e| TaskError::internal(format!("reading {} was interrupted: {e}", source.name)))? {
            Ok(document) => Arc::new(document),
            Err(Unreadable { reason, message }) => {
                let reason =
                    serde_json::to_value(reason).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default();
                return Ok(failed(source, reason, message, digest));
            }
        };
        let chunks = self.chunk(&document, source, tokens)?;
        Ok(done(source, digest, &document, chunks))
    }

    /// A document's bytes, or why they cannot be had.
    async fn fetch(&self, source: &Source) -> TaskResult<Result<Bytes, (String, String)>> {
        match &source.place {
            Place::Stored(object) => Ok(Ok(self.store.get_verified(object).await?)),
            Place::Refused { reason, message } => Ok(Err((reason.clone(), message.clone()))),
            Place::Bucket { store, key } => {
                let missing = |what: String| Ok(Err(("missing".to_owned(), what)));
                match Store::open(store)?.get_opt(key).await {
                    Ok(Some(bytes)) => Ok(Ok(bytes)),
                    Ok(None) => missing(format!("{} is gone from its bucket since the run began", source.name)),
                    Err(e) => missing(format!("{} cannot be fetched: {e}", source.name)),
                }
            }
        }
    }

    fn reading(&self) -> TaskResult<(ReadOptions, Limits)> {
        let section = self.spec.documents.as_ref().ok_or_else(|| TaskError::internal("the spec names no documents"))?;
        let strategy = match section.strategy {
            ReadStrategy::Auto => Strategy::Auto,
            ReadStrategy::Fast => Strategy::Fast,
            ReadStrategy::OcrOnly => Strategy::OcrOnly,
        };
        let options = ReadOptions { strategy, languages: section.languages.clone(), max_pages: section.max_pages };
        let limits = Limits { memory_bytes: section.max_memory, seconds: section.max_seconds, output_bytes: MOST_OUTPUT };
        Ok((options, limits))
    }

    fn chunk(&self, document: &Document, source: &Source, tokens: Option<&Tokens>) -> TaskResult<Vec<ChunkRow>> {
        let section = self.spec.chunks.as_ref().ok_or_else(|| TaskError::internal("the spec cuts no chunks"))?;
        let unit = if tokens.is_some() { Unit::Tokens } else { Unit::Characters };
        let options = ChunkOptions { chunk_size: section.chunk_size, overlap: section.overlap, unit, by_title: section.by_title };
        let measure = |text: &str| tokens.map_or_else(|| text.chars().count(), |tokens| tokens.count(text));
        let chunks = tokio::task::block_in_place(|| chunk(document, &options, &measure));
        let row = |(number, chunk): (usize, artel_documents::chunk::Chunk)| ChunkRow {
            document: source.name.clone(),
            chunk: number as u64,
            text: chunk.text,
            first_page: chunk.first_page.unwrap_or(0).into(),
            last_page: chunk.last_page.unwrap_or(0).into(),
            start: chunk.start,
            end: chunk.end,
            section: chunk.section,
        };
        Ok(chunks.into_iter().enumerate().map(row).collect())
    }
}

fn failed(source: &Source, reason: String, message: String, digest: String) -> Read {
    let report = DocumentReport {
        source: source.name.clone(),
        status: "failed".into(),
        reason,
        message,
        digest,
        ..DocumentReport::default()
    };
    Read { report, elements: Vec::new(), chunks: Vec::new() }
}

fn done(source: &Source, digest: String, document: &Document, chunks: Vec<ChunkRow>) -> Read {
    let row = |(order, element): (usize, &artel_documents::element::Element)| ElementRow {
        document: source.name.clone(),
        digest: digest.clone(),
        order: order as u64,
        page: element.page.unwrap_or(0).into(),
        kind: format!("{:?}", element.kind),
        text: element.text.clone(),
        html: element.html.clone(),
    };
    let elements = document.elements.iter().enumerate().map(row).collect();
    let report = DocumentReport {
        source: source.name.clone(),
        status: "done".into(),
        reader: document.reader.clone(),
        digest,
        pages: document.pages,
        elements: document.counts().into_iter().map(|(kind, count)| (format!("{kind:?}"), count)).collect(),
        chunks: chunks.len() as u64,
        warnings: document.warnings.clone(),
        ..DocumentReport::default()
    };
    Read { report, elements, chunks }
}
