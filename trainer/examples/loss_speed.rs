//! The loss of a batch from given embeddings: seconds and peak memory of its value and gradient.
//! `cargo run --release -p artel-trainer --example loss_speed [ROWS=65536] [HIDDEN=384] [THREADS=2]` prints one line of JSON.

use std::ops::Range;
use std::time::Instant;

use artel_trainer::collective::Solo;
use artel_trainer::interrupt::Interrupt;
use artel_trainer::kernels::kernel_path;
use artel_trainer::loss::{BatchLoss, LossMemory, LossSpec};
use artel_trainer::team::Team;
use artel_trainer::tree::rank_leaves;

/// Leaves of the summation tree, as a run has them if it does not say otherwise.
const LEAVES: usize = 8;

/// Numbers of a fixed sequence (xorshift), evenly spread over -1..1.
struct Numbers(u64);

impl Iterator for Numbers {
    type Item = f32;

    fn next(&mut self) -> Option<f32> {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Some(((self.0 >> 40) as f64 / f64::from(1u32 << 23) - 1.0) as f32)
    }
}

/// The most memory that this process held at a time, in MB; none where Linux does not tell.
fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some((kibibytes * 1.024 / 1e3).round())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>());
    let rows = args.next().transpose()?.unwrap_or(65_536);
    let hidden = args.next().transpose()?.unwrap_or(384);
    let threads = args.next().transpose()?.unwrap_or(2);
    // the widths that sentence-transformers' documents give, as far as the model has them
    let mut dims: Vec<usize> = [256, 128, 64].into_iter().filter(|dim| *dim < hidden).collect();
    dims.insert(0, hidden);
    let spec = LossSpec { scale: 20.0, weights: vec![1.0; dims.len()], dims };
    spec.check(hidden)?;

    let anchors: Vec<f32> = Numbers(0x9e37_79b9_7f4a_7c15).take(rows * hidden).collect();
    // a positive resembles its anchor
    let noise = Numbers(0xbf58_476d_1ce4_e5b9);
    let candidates: Vec<f32> = anchors.iter().zip(noise).map(|(anchor, noise)| 0.25 * anchor + noise).collect();
    let leaves: Vec<Range<usize>> = (0..LEAVES).map(|leaf| rank_leaves(rows, leaf, LEAVES)).collect();
    let batch = BatchLoss {
        spec: &spec,
        hidden,
        anchors: &anchors,
        candidates: &candidates,
        leaves: &leaves,
        team: &Team::new(threads)?,
        memory: &LossMemory::default(),
        collective: &Solo::new(),
        interrupt: &Interrupt::default(),
    };
    let start = Instant::now();
    let outcome = batch.run()?;
    let seconds = start.elapsed().as_secs_f64();
    let loss: f64 = outcome.losses.iter().map(|loss| loss.total(&spec)).sum();
    // logits twice, the gradient of either side once
    let products = 4.0 * 2.0 * (rows as f64).powi(2) * hidden as f64;
    let report = serde_json::json!({
        "rows": rows,
        "hidden": hidden,
        "dims": spec.dims,
        "threads": threads,
        "seconds": seconds,
        "peak_rss_mb": peak_rss_mb(),
        "gflop_per_s": (products / seconds / 1e9).round(),
        "kernel_path": kernel_path(),
        "loss": loss,
    });
    println!("{report}");
    Ok(())
}
