//! What a step on so many GPUs would take, foretold from what was measured on one.
//!
//! Measured (bench/results/gpu-2026-11-26c.md, one H200, BGE-base's shape, MedQuAD's lengths): 20.8 ms a step at batch 64 and 269.0 ms at 1,024, so 4.3 ms and
//! .259 ms a pair; the loss at 65,536 rows in 1.09 s. An H100, which differs by its memory alone, took 23.5 and 282.9 ms: so an eighth of a pair's time goes with the memory's bandwidth, and all that
//! a step takes beside its pairs. Everything else is from datasheets and stated in [`ASSUMPTIONS`].

use super::Precision;
use super::memory::{LOSS_BYTES, kept_share, piece, step_bytes, tokens_in};
use crate::encoder::Encoder;

/// A kind of GPU, by its datasheet.
#[derive(Debug, Clone, Copy)]
pub struct GpuKind {
    /// As it is named on a command line.
    pub name: &'static str,
    /// Bytes of memory.
    pub memory: f64,
    /// Dense bf16 operations a second.
    pub bf16: f64,
    /// f32 operations a second.
    pub f32: f64,
    /// Bytes a second to and from its memory.
    pub bandwidth: f64,
    /// Bytes a second, one way, to the other GPUs of its machine.
    pub link: f64,
}

/// The kinds that are known; the first is what was measured.
pub const KINDS: [GpuKind; 5] = [
    GpuKind { name: "h200", memory: 141e9, bf16: 989e12, f32: 67e12, bandwidth: 4.8e12, link: 450e9 },
    GpuKind { name: "h100", memory: 80e9, bf16: 989e12, f32: 67e12, bandwidth: 3.35e12, link: 450e9 },
    GpuKind { name: "a100", memory: 80e9, bf16: 312e12, f32: 19.5e12, bandwidth: 2.04e12, link: 300e9 },
    GpuKind { name: "l40s", memory: 48e9, bf16: 362e12, f32: 91.6e12, bandwidth: 0.864e12, link: 32e9 },
    GpuKind { name: "l4", memory: 24e9, bf16: 121e12, f32: 30e12, bandwidth: 0.3e12, link: 32e9 },
];

/// What a forecast takes for granted.
pub const ASSUMPTIONS: [&str; 6] = [
    "bf16: tf32 and f32 take twice the memory and several times the time; calibrated by one H200 and one H100 (bench/results/gpu-2026-11-26c.md); other kinds by their datasheets: seven eighths of the work go with bf16 products, the rest with memory bandwidth; none of them was run",
    "several GPUs were never run on real links: sums move 2 (G-1)/G times 4 bytes a parameter at 80% of the slowest link, layers' behind the last backward, the word table's not",
    "of a batch that does not fit, what is not kept is embedded twice, which costs up to a third more",
    "all texts are as long as the mean; the loss's time goes with rows x candidates x width, six Matryoshka widths",
    "no checkpoints, evaluations, reading of data or lost machines",
    "efficiency is the time that one GPU would take for the same global batch, divided by GPUs times this time",
];

/// Seconds of a step that no batch can do without, on the measured kind: optimizer, small kernels, the host.
const FIXED: f64 = 4.3e-3;
/// Model operations a second of encoder, forward and backward, on the measured kind: .259 ms for the 101 GFLOP of a pair.
const ENCODER: f64 = 392e12;
/// Operations a second of the loss there, of 8 x rows x candidates x width.
const LOSS: f64 = 24.2e12;
/// Share of the encoder's time that does not go with the memory's bandwidth.
const PRODUCTS: f64 = 0.88;
/// Share of a link's speed that sums reach.
const LINK_SHARE: f64 = 0.8;
/// A forward's share of forward and backward.
const FORWARD: f64 = 1.0 / 3.0;
/// Bytes of a gradient or an embedding's element.
const WIDE: f64 = 4.0;

/// What is to be trained.
#[derive(Debug, Clone)]
pub struct Work<'a> {
    /// The model.
    pub encoder: &'a Encoder,
    /// Rows of the global batch.
    pub global_batch_size: usize,
    /// Mean tokens of each column: question, answer, and so on.
    pub tokens: Vec<f64>,
}

/// With what.
#[derive(Debug, Clone, Copy)]
pub struct Cluster {
    /// The GPUs' kind.
    pub kind: GpuKind,
    /// How many.
    pub gpus: usize,
    /// How many of them share a machine.
    pub gpus_per_machine: usize,
    /// Bytes a second of a machine's network that each of its GPUs has.
    pub network: f64,
}

/// A step as it would be.
#[derive(Debug, Clone, Copy)]
pub struct Forecast {
    /// Seconds in all.
    pub seconds: f64,
    /// Of them the encoder's, the loss's, and exchanges that nothing hides.
    pub encoder_seconds: f64,
    /// The loss.
    pub loss_seconds: f64,
    /// Exchanges.
    pub exposed_seconds: f64,
    /// Pairs a second, all GPUs together.
    pub pairs_per_second: f64,
    /// Times that each text is embedded, on the mean: from 1, where all activations are kept, to 2.
    pub embedded: f64,
    /// Bytes of memory on each GPU, at the least where it does not fit.
    pub memory: f64,
    /// Whether the kind has that: else the state and the least micro-batch are too large for it, and no number of GPUs helps.
    pub fits: bool,
    /// Against one GPU.
    pub efficiency: f64,
}

impl Work<'_> {
    /// Operations of forward and backward for one row: six for each parameter of a matrix and token, and attention's.
    fn row_flops(&self) -> f64 {
        let layout = self.encoder.layout();
        let matrices = layout.entries.iter().filter(|entry| entry.shape.len() == 2 && !entry.name.starts_with("embeddings"));
        let matrix: usize = matrices.map(|entry| entry.len).sum();
        let config = self.encoder.config();
        let attention = 12.0 * (config.num_hidden_layers * config.hidden_size) as f64;
        self.tokens.iter().map(|len| 6.0 * matrix as f64 * len + attention * len * len).sum()
    }
}

/// Foretells a step.
pub fn forecast(work: &Work<'_>, cluster: &Cluster) -> Forecast {
    let alone = Cluster { gpus: 1, ..*cluster };
    let mut found = step(work, cluster);
    found.efficiency = step(work, &alone).seconds / (cluster.gpus as f64 * found.seconds);
    found
}

fn step(work: &Work<'_>, cluster: &Cluster) -> Forecast {
    let (kind, measured) = (cluster.kind, KINDS[0]);
    let slower = |of: fn(&GpuKind) -> f64| of(&measured) / of(&kind);
    let memory_bound = slower(|kind| kind.bandwidth);
    let config = work.encoder.config();
    let rows = work.global_batch_size.div_ceil(cluster.gpus);
    let tokens = rows as f64 * work.tokens.iter().sum::<f64>();
    let fitting = tokens_in(kind.memory as usize, work.encoder, Precision::Bf16) as f64;
    let embedded = 2.0 - kept_share(tokens as usize, fitting as usize, work.encoder, Precision::Bf16);

    let once = rows as f64 * work.row_flops() / ENCODER * (PRODUCTS * slower(|kind| kind.bf16) + (1.0 - PRODUCTS) * memory_bound);
    let encoder_seconds = once * (1.0 + FORWARD * (embedded - 1.0));
    let candidates = work.global_batch_size as f64 * work.tokens.len().saturating_sub(1) as f64;
    let width = config.hidden_size as f64;
    let loss_seconds = 8.0 * rows as f64 * candidates * width / LOSS * slower(|kind| kind.f32);

    let speed = LINK_SHARE * if cluster.gpus > cluster.gpus_per_machine { kind.link.min(cluster.network) } else { kind.link };
    let around = (cluster.gpus - 1) as f64 / cluster.gpus as f64;
    let total = work.encoder.layout().total as f64;
    let words = work.encoder.parts().first().map_or(0, ExactSizeIterator::len) as f64;
    let sums = |elements: f64| 2.0 * around * WIDE * elements / speed;
    let last_backward = (1.0 - FORWARD) * once * (piece(tokens as usize, fitting as usize) as f64 / tokens).min(1.0);
    let gathered = 1.5 * sums(candidates * width);
    let exposed_seconds = (sums(total - words) - last_backward).max(0.0) + sums(words) + gathered;

    // the candidates of all ranks, gathered and put in order, and their gradients
    let gathers = (3.0 * WIDE * candidates * width - LOSS_BYTES as f64).max(0.0);
    let memory = step_bytes(tokens.min(fitting) as usize, work.encoder, Precision::Bf16) as f64 + gathers;
    let seconds = FIXED * memory_bound + encoder_seconds + loss_seconds + exposed_seconds;
    Forecast {
        seconds,
        encoder_seconds,
        loss_seconds,
        exposed_seconds,
        pairs_per_second: work.global_batch_size as f64 / seconds,
        embedded,
        memory,
        fits: memory <= kind.memory,
        efficiency: 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::BertConfig;
    use crate::model::layout::ParamLayout;
    use crate::model::pooling::Pooling;

    fn work(encoder: &Encoder, global_batch_size: usize) -> Work<'_> {
        // MedQuAD's means; the square is that of the mean square
        Work { encoder, global_batch_size, tokens: vec![15.1, 175.9] }
    }

    fn base() -> Encoder {
        let config = BertConfig::bert(12, 768);
        let layout = ParamLayout::bert(&config);
        Encoder::new(config, Pooling::mean(), layout).unwrap()
    }

    fn cluster(gpus: usize) -> Cluster {
        Cluster { kind: KINDS[0], gpus, gpus_per_machine: 8, network: 50e9 }
    }

    /// Goal: what was measured is foretold. Method: the figures of bench/results/gpu-2026-11-26c.md, of an H200 and an H100; the calibration does not know that of the batch which did
    /// not fit.
    #[test]
    fn what_was_measured() {
        let encoder = base();
        let of_h200 = [(0, 64, 3072.0, 1.0), (0, 1024, 3807.0, 1.0), (0, 4096, 3383.0, 1.29)];
        for (kind, batch, measured, embedded) in of_h200.into_iter().chain([(1, 64, 2720.0, 1.0), (1, 1024, 3620.0, 1.0)]) {
            let found = forecast(&work(&encoder, batch), &Cluster { kind: KINDS[kind], ..cluster(1) });
            let off = found.pairs_per_second / measured - 1.0;
            assert!(off.abs() < 0.06 && (found.embedded - embedded).abs() < 0.01, "{batch}: {found:?}, measured {measured}");
            assert_eq!((found.efficiency, found.exposed_seconds), (1.0, 0.0));
        }
    }

    /// Goal: more GPUs take less time and lose efficiency, slower links more of it, and nothing is foretold for free. Method: 1 to 256 GPUs at one batch, two
    /// networks, two kinds.
    #[test]
    fn many_gpus() {
        let encoder = base();
        let work = work(&encoder, 16_384);
        let found: Vec<Forecast> = [1, 2, 8, 64, 256].map(|gpus| forecast(&work, &cluster(gpus))).into();
        assert!(found.windows(2).all(|pair| pair[1].seconds < pair[0].seconds));
        assert!(found[2..].windows(2).all(|pair| pair[1].efficiency < pair[0].efficiency), "{found:?}");
        // a batch that fits into the memory of eight, and not of one, is embedded once: more than eight times as fast
        assert!(found[0].embedded > 1.0 && found[2].embedded == 1.0 && found[2].efficiency > 1.0);
        let slow = forecast(&work, &Cluster { network: 3e9, ..cluster(64) });
        assert!(slow.exposed_seconds > 10.0 * found[3].exposed_seconds && slow.efficiency < found[3].efficiency);
        let older = forecast(&work, &Cluster { kind: KINDS[2], ..cluster(8) });
        assert!(older.seconds > 2.0 * found[2].seconds && older.memory < KINDS[2].memory && older.fits);
    }

    /// Goal: a model whose state is larger than the memory is not foretold to fit. Method: 48 layers of width 1,024, 0.6 G parameters and more words than any,
    /// on a GPU of 24 GB and on one of 141 GB.
    #[test]
    fn too_large() {
        let config = BertConfig { vocab_size: 1_000_000, num_attention_heads: 16, ..BertConfig::bert(48, 1024) };
        let layout = ParamLayout::bert(&config);
        let encoder = Encoder::new(config, Pooling::mean(), layout).unwrap();
        let on = |kind| forecast(&work(&encoder, 1024), &Cluster { kind, ..cluster(8) });
        let (large, small) = (on(KINDS[0]), on(KINDS[4]));
        assert!(large.fits && large.memory < KINDS[0].memory, "{large:?}");
        assert!(!small.fits && small.memory > KINDS[4].memory, "{small:?}");
    }
}
