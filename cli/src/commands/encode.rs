//! `artel encode --model DIR --input FILE.txt --output FILE.npy`: a line is a text.

use std::fs::File;
use std::io::BufReader;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use artel_common::exit::Exit;
use artel_trainer::interrupt::Interrupt;

use super::spec::at_least_one;
use crate::blocks::{Blocks, LIMITS};
use crate::embed::{Device, Embedder, Kind};
use crate::failure::Failure;
use crate::npy;
use crate::signals::stop_switch;
use crate::view::Counter;

/// Bytes that are read from the input at a time.
const READ_AT_ONCE: usize = 256 << 10;

/// Turn the lines of a file into embeddings, as a NumPy file of f32 rows
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Model folder
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// UTF-8 text of any size, - for standard input; each line is a text, an empty one too
    #[arg(long, value_name = "FILE.txt")]
    input: PathBuf,
    /// File to write: f32, one row a line
    #[arg(long, value_name = "FILE.npy")]
    output: PathBuf,
    /// Longest text in tokens; the model's own where nothing is said
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    max_seq_length: Option<usize>,
    /// What computes
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    device: Device,
    /// Threads; all cores where nothing is said
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    threads: Option<usize>,
}

/// Encodes; the output takes its name when it is whole.
pub fn run(args: Args) -> Result<(), Failure> {
    let runtime = super::runtime()?;
    let interrupt = Arc::new(Interrupt::default());
    let mut stop = runtime.block_on(async { stop_switch(false, "nothing was written") })?;
    let leaving = Arc::clone(&interrupt);
    runtime.spawn(async move {
        // The switch goes only with the process.
        if stop.wait_for(|stopped| *stopped).await.is_ok() {
            leaving.leave();
        }
    });
    encode(&args, &interrupt).map_err(|failure| match failure.exit {
        Exit::Preempted => {
            Failure::new(failure.exit, format!("told to leave: {} was not written", args.output.display())).or_run_again()
        }
        _ => failure,
    })
}

fn encode(args: &Args, interrupt: &Interrupt) -> Result<(), Failure> {
    let (file, name) = open(&args.input)?;
    // what is no plain file has no size to go by
    let size = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
    let embedder = Embedder::open(&args.model, args.max_seq_length, args.threads.unwrap_or_else(super::cores), args.device)?;
    let mut writer = npy::Writer::create(&args.output, embedder.dim())?;
    let counter = Counter::of_stream("encode", "texts", size);
    let blocks = Blocks::new(BufReader::with_capacity(READ_AT_ONCE, file), name, LIMITS);
    embedder.encode_blocks(Kind::Text, blocks, interrupt, &counter, |vectors| writer.push(vectors))?;
    counter.finish();
    writer.finish()
}

/// The input, and what errors call it.
fn open(path: &Path) -> Result<(File, String), Failure> {
    let (file, name) = match path.to_str() {
        Some("-") => (std::io::stdin().as_fd().try_clone_to_owned().map(File::from), "standard input".to_owned()),
        _ => (File::open(path), path.display().to_string()),
    };
    match file {
        Ok(file) => Ok((file, name)),
        Err(e) => Err(Failure::data(format!("{name}: {e}"))),
    }
}
