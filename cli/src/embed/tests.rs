use artel_trainer::model::toy;

use super::*;
use crate::blocks::{LIMITS, Limits};

/// Texts of one to sixty words, an empty one now and then.
fn texts(count: usize) -> Vec<String> {
    const WORDS: [&str; 8] = ["laptop", "portable", "workstation", "leave", "request", "is", "broken", "today"];
    let words = |text: usize| (0..text * 7 % 61).map(move |word| WORDS[(text + word * word) % 8]);
    (0..count).map(|text| words(text).collect::<Vec<_>>().join(" ")).collect()
}

fn embedder(threads: usize) -> Embedder {
    let folder = tempfile::tempdir().expect("a temporary folder");
    toy::make(&texts(100), 7, folder.path()).expect("a toy model");
    Embedder::open(folder.path(), None, threads, Device::Cpu).expect("the toy model")
}

/// The vectors of a file, block by block.
fn blocks(embedder: &Embedder, file: &str, limits: Limits) -> Vec<Vec<f32>> {
    let blocks = Blocks::new(std::io::Cursor::new(file.to_owned()), "x.txt".to_owned(), limits);
    let counter = Counter::of_stream("encode", "texts", None);
    let mut all = Vec::new();
    let each = |vectors: &[f32]| {
        all.push(vectors.to_vec());
        Ok(())
    };
    embedder.encode_blocks(Kind::Text, blocks, &Interrupt::default(), &counter, each).expect("good texts");
    all
}

/// Goal: blocks change neither order nor, beyond rounding, vectors; a block's bits depend on nothing outside it. Method: 300
/// texts in one pass and in blocks bounded by texts and by bytes, on one thread and on three; one block of them alone.
#[test]
fn blocks_as_one_pass() {
    let (texts, one, three) = (texts(300), embedder(1), embedder(3));
    let whole = one.encode("encode", Kind::Text, &texts).expect("good texts");
    assert_eq!(whole.len(), 300 * one.dim());
    let file: String = texts.iter().map(|text| format!("{text}\n")).collect();
    assert_eq!(blocks(&one, &file, LIMITS), std::slice::from_ref(&whole), "one block is one pass");
    for limits in [Limits { texts: 37, ..LIMITS }, Limits { bytes: 1500, ..LIMITS }, Limits { texts: 1, ..LIMITS }] {
        let parts = blocks(&one, &file, limits);
        assert!(parts.len() > 5, "{}", parts.len());
        assert_eq!(parts, blocks(&three, &file, limits), "the same bits on any number of threads");
        let worst = parts.concat().iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(parts.concat().len() == whole.len() && worst < 1e-6, "{worst}");
    }
    let second: String = texts[37..74].iter().map(|text| format!("{text}\n")).collect();
    let limits = Limits { texts: 37, ..LIMITS };
    assert_eq!(blocks(&three, &second, limits)[0], blocks(&one, &file, limits)[1]);
}

/// Goal: a file without lines has no block, and a request to leave ends the work between two blocks. Method: an empty file;
/// a request that the first block's vectors make.
#[test]
fn no_block_and_no_further_block() {
    let embedder = embedder(2);
    assert!(blocks(&embedder, "", LIMITS).is_empty());
    let interrupt = Interrupt::default();
    let limits = Limits { texts: 2, ..LIMITS };
    let lines = Blocks::new(&b"laptop\nleave\ntoday\nrequest\n"[..], "x.txt".to_owned(), limits);
    let mut given = 0;
    let each = |_: &[f32]| {
        given += 1;
        interrupt.leave();
        Ok(())
    };
    let counter = Counter::of_stream("encode", "texts", None);
    let left = embedder.encode_blocks(Kind::Text, lines, &interrupt, &counter, each).expect_err("it leaves");
    assert_eq!((left.exit, given), (Exit::Preempted, 1));
}
