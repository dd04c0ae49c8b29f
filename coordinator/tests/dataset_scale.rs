//! 65,536 synthetic pairs from a file to a committed data set and a plan, in under 10 s and 500 MB.
//!
//! The only test of its binary, so that the process's peak memory is its own.

use std::io::Write as _;
use std::time::Instant;

use artel_common::rng::Rng;
use artel_common::spec::{Columns, DataSection};
use artel_common::store::Store;
use artel_coordinator::dataset::{TextIds, commit, plan_rows, read_rows, split};

const NUM_ROWS: usize = 65_536;

/// Words drawn as in real text: small numbers are common.
fn words(rng: &mut Rng, count: usize) -> String {
    let mut text = String::new();
    for _ in 0..count {
        let rank = rng.below(40_000) * rng.below(40_000) / 40_000;
        text += &format!("wo{rank} ");
    }
    text
}

/// Pairs of about 1 KB in documents of four; each twentieth passage is a near-duplicate, each fiftieth row an exact copy, each
/// tenth question one of a thousand.
fn write_pairs(path: &std::path::Path) -> std::io::Result<()> {
    let mut rng = Rng::stream("synthetic pairs", &[]);
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    let mut last = (String::new(), String::new());
    for row in 0..NUM_ROWS {
        if row % 50 != 49 {
            let question = if row % 10 == 0 { format!("common question {}", rng.below(1000)) } else { words(&mut rng, 10) };
            let passage = if row % 20 == 19 { last.1.replacen("wo1", "changed", 1) + "more" } else { words(&mut rng, 150) };
            last = (question, passage);
        }
        let value = serde_json::json!({ "anchor": last.0, "positive": last.1, "group": format!("doc {}", row / 4) });
        writeln!(file, "{value}")?;
    }
    file.flush()
}

/// The greatest resident size that this process ever had, in MB of 10^6 bytes.
fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells of its processes");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("it has a high-water mark");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).expect("a number of KiB") * 1024.0 / 1e6
}

/// Goal: import, split and plan of 65,536 pairs take less than 10 s and 500 MB. Method: a file of about 75 MB, all stages in
/// this process, its wall time and peak resident size.
#[test]
fn sixty_five_thousand_pairs() {
    let folder = tempfile::tempdir().unwrap();
    write_pairs(&folder.path().join("pairs.jsonl")).unwrap();
    let data = DataSection {
        pairs: vec!["pairs.jsonl".into()],
        columns: Columns::default(),
        limit: None,
        test: None,
        test_fraction: 0.1,
        drop_leaks: false,
        near_duplicate_threshold: 0.8,
        positive: Default::default(),
    };
    let store = Store::open(&folder.path().join("store").display().to_string()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let began = Instant::now();
    let rows = runtime.block_on(read_rows(&data, folder.path(), &|_, _| {})).unwrap();
    println!("read {} rows of {} MB: {:?}", rows.train.len(), rows.report.files[0].bytes / 1_000_000, began.elapsed());
    let parted = split(rows, &data, 42).unwrap();
    println!("split: {:?}; {}", began.elapsed(), parted.report.split);
    let manifest = runtime.block_on(commit(&parted, &store, 1)).unwrap().record;
    println!("committed {} shards: {:?}", manifest.train.shards.len() + manifest.test.shards.len(), began.elapsed());
    let plan = plan_rows(&TextIds::new(&parted.train), 42, 0, 64, false).unwrap();
    let (took, peak) = (began.elapsed(), peak_mb());
    println!("planned {} batches: {took:?}, peak {peak:.0} MB", plan.num_batches());
    assert_eq!(manifest.train.num_rows + manifest.test.num_rows + parted.report.exact_duplicates, NUM_ROWS as u64);
    assert!(manifest.test.num_rows > 6000, "{} test rows", manifest.test.num_rows);
    assert!(took.as_secs_f64() < 10.0, "{took:?}");
    assert!(peak < 500.0, "{peak} MB");
}
