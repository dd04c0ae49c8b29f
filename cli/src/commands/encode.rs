//! `artel encode --model DIR --input FILE.txt --output FILE.npy`: a line is a text.

use std::path::PathBuf;

use super::spec::at_least_one;
use crate::embed::{Embedder, Kind};
use crate::failure::Failure;
use crate::npy;

/// Turn the lines of a file into embeddings, as a NumPy file of f32 rows
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model folder
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// UTF-8 text; each line is a text, an empty one too
    #[arg(long, value_name = "FILE.txt")]
    input: PathBuf,
    /// File to write: f32, one row a line
    #[arg(long, value_name = "FILE.npy")]
    output: PathBuf,
    /// Longest text in tokens; the model's own where nothing is said
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_seq_length: Option<usize>,
    /// Threads; all cores where nothing is said
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    threads: Option<usize>,
}

/// Encodes; the output takes its name when it is whole.
pub fn run(args: Args) -> Result<(), Failure> {
    let bytes = std::fs::read(&args.input).map_err(|e| Failure::data(format!("{}: {e}", args.input.display())))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let good = e.utf8_error().valid_up_to();
        let line = e.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count() + 1;
        Failure::data(format!("{}:{line}: not UTF-8 text", args.input.display()))
    })?;
    let texts: Vec<&str> = text.lines().collect();
    let embedder = Embedder::open(&args.model, args.max_seq_length, args.threads.unwrap_or_else(super::cores))?;
    let mut writer = npy::Writer::create(&args.output, texts.len(), embedder.dim())?;
    writer.push(&embedder.encode("encode", Kind::Text, &texts)?)?;
    writer.finish()
}
