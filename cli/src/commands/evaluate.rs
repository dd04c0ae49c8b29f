//! `artel evaluate`: retrieval metrics of a model, or of given vectors, under sentence-transformers' names.

use std::path::{Path, PathBuf};

use artel_common::records::Metrics;
use artel_trainer::collective::Solo;
use artel_trainer::evaluate::{EvalTexts, Vectors, measure};

use super::spec::at_least_one;
use crate::embed::{Device, Embedder, Kind};
use crate::failure::Failure;
use crate::pairs::read_texts;
use crate::{npy, output, table};

/// Measure a model, or given vectors, on question-passage pairs
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model folder
    #[arg(long, value_name = "DIR", required_unless_present = "query_vectors", conflicts_with_all = ["query_vectors", "corpus_vectors"])]
    model: Option<PathBuf>,
    /// Embeddings of the questions, instead of a model: row i is line i of the pairs
    #[arg(long, value_name = "Q.npy", requires = "corpus_vectors")]
    query_vectors: Option<PathBuf>,
    /// Embeddings of the passages: row i is line i of the pairs, then of the corpus
    #[arg(long, value_name = "C.npy", requires = "query_vectors")]
    corpus_vectors: Option<PathBuf>,
    /// JSON Lines with "anchor" and "positive" (and "id"): each row is a question and the passage that answers it
    #[arg(long, value_name = "FILE.jsonl")]
    pairs: PathBuf,
    /// JSON Lines with "positive" or "text": further passages, which answer nothing
    #[arg(long, value_name = "FILE.jsonl")]
    corpus: Option<PathBuf>,
    /// Widths to measure; the full one where nothing is said
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', value_parser = at_least_one)]
    dims: Vec<usize>,
    /// Longest text in tokens; the model's own where nothing is said
    #[arg(long, value_name = "N", value_parser = at_least_one, conflicts_with = "query_vectors")]
    max_seq_length: Option<usize>,
    /// What computes
    #[arg(long, value_enum, default_value_t = Device::Cpu, conflicts_with = "query_vectors")]
    device: Device,
    /// Threads; all cores where nothing is said
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    threads: Option<usize>,
    /// Print one JSON object of metrics
    #[arg(long)]
    json: bool,
}

/// Vectors that a file or a model gave.
struct Given {
    hidden: usize,
    queries: Vec<f32>,
    corpus: Vec<f32>,
}

/// Measures and prints.
pub fn run(args: Args) -> Result<(), Failure> {
    let threads = args.threads.unwrap_or_else(super::cores);
    let (texts, num_lines) = read_texts(&args.pairs, args.corpus.as_deref())?;
    let given = match (&args.model, &args.query_vectors, &args.corpus_vectors) {
        (None, Some(queries), Some(corpus)) => from_files(&texts, num_lines, queries, corpus)?,
        (Some(model), _, _) => encoded(&texts, &Embedder::open(model, args.max_seq_length, threads, args.device)?)?,
        _ => return Err(Failure::usage("give --model, or --query-vectors and --corpus-vectors")),
    };
    let dims = if args.dims.is_empty() { vec![given.hidden] } else { args.dims.clone() };
    if let Some(dim) = dims.iter().find(|dim| **dim > given.hidden) {
        return Err(Failure::usage(format!("--dims {dim} is wider than the vectors, which have {} columns", given.hidden)));
    }
    let vectors = Vectors { hidden: given.hidden, queries: &given.queries, corpus: &given.corpus };
    print(&measure(&texts, &vectors, &dims, &Solo::new(), threads)?, args.json)
}

fn print(metrics: &Metrics, json: bool) -> Result<(), Failure> {
    if json {
        let line = serde_json::to_string(metrics).map_err(|e| Failure::internal(format!("cannot write the metrics: {e}")))?;
        return output::data(&line);
    }
    output::data(table::single(metrics).trim_end())
}

/// What the model makes of both sides.
fn encoded(texts: &EvalTexts, model: &Embedder) -> Result<Given, Failure> {
    let queries = model.encode("questions", Kind::Query, &texts.queries)?;
    let corpus = model.encode("passages", Kind::Passage, &texts.corpus)?;
    Ok(Given { hidden: model.dim(), queries, corpus })
}

/// Vectors as they stand in two files; a document has the row of the line that it first stood on.
fn from_files(texts: &EvalTexts, num_lines: usize, queries: &Path, corpus: &Path) -> Result<Given, Failure> {
    let wanted = |path: &Path, rows: usize, lines: usize| match rows == lines {
        true => Ok(()),
        false => Err(Failure::data(format!("{} has {rows} rows for {lines} lines: row i must be line i", path.display()))),
    };
    let query = npy::read(queries)?;
    wanted(queries, query.rows, texts.queries.len())?;
    let document = npy::read(corpus)?;
    wanted(corpus, document.rows, num_lines)?;
    if query.columns != document.columns {
        let (a, b) = (query.columns, document.columns);
        return Err(Failure::data(format!(
            "{} has {a} columns and {} has {b}: they are not of one model",
            queries.display(),
            corpus.display()
        )));
    }
    let hidden = query.columns;
    let rows = texts.corpus_rows.iter().flat_map(|line| &document.values[line * hidden..(line + 1) * hidden]);
    Ok(Given { hidden, corpus: rows.copied().collect(), queries: query.values })
}
