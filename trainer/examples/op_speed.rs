//! Every operation of the encoder and the optimizer on one thread, beside this machine's roofline: products against the rate of one
//! product, the rest against the memory bandwidth. `cargo run --release -p artel-trainer --example op_speed [length] [tokens]`.

use std::time::{Duration, Instant};

use artel_trainer::dropout::{Dropout, DropoutKey, Site};
use artel_trainer::model::config::Activation;
use artel_trainer::model::pooling::{Pooling, PoolingMode};
use artel_trainer::ops::attention::Heads;
use artel_trainer::ops::embedding::EmbeddingParams;
use artel_trainer::ops::linear::LinearParams;
use artel_trainer::ops::{
    Activate, ActivateBackward, Attention, AttentionBackward, Embed, EmbedBackward, GradPart, Linear, LinearBackward, NormParams,
    Pool, ResidualNormalize, ResidualNormalizeBackward, WordRows,
};
use artel_trainer::optim::AdamW;
use artel_trainer::packed::{PackedBatch, SampleKey};
use artel_trainer::speed::{products_per_second, triad_bytes_per_second};
use candle_core::{DType, Device, Tensor};

type Done = Result<(), Box<dyn std::error::Error>>;

/// MiniLM-L6's shape.
const HIDDEN: usize = 384;
const FFN: usize = 1536;
const HEADS: Heads = Heads { num: 12, size: 32 };
const WORDS: usize = 30522;
const POSITIONS: usize = 512;
const PARAMS: usize = 22_713_216;
/// How long each is run.
const TIME: Duration = Duration::from_millis(400);

/// What an operation needs: the two sides of the roofline.
struct Cost {
    /// Multiplications and additions of its matrix products.
    flops: f64,
    /// Bytes that it must read and write at least.
    bytes: f64,
}

/// The rates that bound it.
struct Roof {
    flops_per_second: f64,
    bytes_per_second: f64,
}

impl Roof {
    fn report(&self, name: &str, cost: &Cost, run: &mut dyn FnMut() -> artel_trainer::Result<()>) -> Done {
        run()?;
        let (begun, mut best) = (Instant::now(), f64::MAX);
        while begun.elapsed() < TIME {
            let start = Instant::now();
            run()?;
            best = best.min(start.elapsed().as_secs_f64());
        }
        let least = (cost.flops / self.flops_per_second).max(cost.bytes / self.bytes_per_second);
        let (gflops, gbytes) = (cost.flops / best / 1e9, cost.bytes / best / 1e9);
        println!("| {name} | {:.2} | {gflops:.0} | {gbytes:.1} | {:.0}% |", best * 1e3, 100.0 * least / best);
        Ok(())
    }
}

/// A spread of numbers about as large as trained weights.
fn spread(shape: &[usize]) -> candle_core::Result<Tensor> {
    let len: usize = shape.iter().product();
    let values: Vec<f32> =
        (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) as f32 / u32::MAX as f32 - 0.5) * 0.1).collect();
    Tensor::from_vec(values, shape, &Device::Cpu)
}

fn linear_params(width_in: usize, width_out: usize) -> LinearParams {
    let weights = width_in * width_out;
    LinearParams { weight: 0..weights, bias: weights..weights + width_out }
}

fn linear(roof: &Roof, name: &str, layers: &[LinearParams], width_in: usize, width_out: usize, n: usize) -> Done {
    let params = spread(&[layers.iter().map(|layer| layer.bias.end).max().unwrap_or(0)])?;
    let (input, output, grad) = (spread(&[n, width_in])?, spread(&[n, width_out])?, params.zeros_like()?);
    let flops = 2.0 * (n * width_in * width_out) as f64;
    let cost = Cost { flops, bytes: 4.0 * (n * width_in + n * width_out + width_in * width_out) as f64 };
    let forward = Linear { params: &params, layers, input: &input, output: &output };
    roof.report(&format!("{name}, forward"), &cost, &mut || forward.run())?;
    let backward = LinearBackward { params: &params, layers, d_output: &output };
    roof.report(&format!("{name}, to the input"), &cost, &mut || backward.input(&input, false))?;
    roof.report(&format!("{name}, to the weights"), &cost, &mut || backward.params(&input, GradPart::whole(&grad), false))
}

fn attention(roof: &Roof, batch: &PackedBatch, dropout: Option<Dropout>) -> Done {
    let n = batch.num_tokens();
    let [qkv, d_qkv] = [spread(&[n, 3 * HIDDEN])?, spread(&[n, 3 * HIDDEN])?];
    let params = spread(&[3 * HIDDEN])?;
    let biases = [0, 1, 2].map(|which| which * HIDDEN..(which + 1) * HIDDEN);
    let [context, log_sums] = [spread(&[n, HIDDEN])?, spread(&[HEADS.num, n])?];
    let scratch = [HEADS.scratch_shape(batch), HEADS.backward_scratch_shape(batch)].map(|(rows, width)| spread(&[rows, width]));
    let [scratch, backward_scratch] = scratch;
    let (scratch, backward_scratch) = (scratch?, backward_scratch?);
    let dropout = dropout.and_then(|dropout| dropout.site(0, Site::AttentionProbabilities));
    let pairs: usize = (0..batch.num_sequences()).map(|s| batch.rows(s).len().pow(2)).sum();
    let product = 2.0 * (pairs * HIDDEN) as f64;
    let bytes = 4.0 * (n * HIDDEN) as f64;
    let name = if dropout.is_some() { "attention with dropout" } else { "attention" };
    let forward = Attention {
        heads: HEADS,
        batch,
        dropout,
        params: &params,
        biases: biases.clone(),
        qkv: &qkv,
        log_sums: &log_sums,
        context: &context,
        scratch: &scratch,
    };
    roof.report(&format!("{name}, forward"), &Cost { flops: 2.0 * product, bytes: 4.0 * bytes }, &mut || forward.run())?;
    let backward = AttentionBackward {
        heads: HEADS,
        batch,
        dropout,
        params: &params,
        biases,
        qkv: &qkv,
        log_sums: &log_sums,
        context: &context,
        d_context: &context,
        d_qkv: &d_qkv,
        scratch: &backward_scratch,
    };
    roof.report(&format!("{name}, backward"), &Cost { flops: 5.0 * product, bytes: 7.0 * bytes }, &mut || backward.run())
}

/// LayerNorm's parameters at the front of a vector, a bias behind them.
fn norm_params() -> (NormParams, std::ops::Range<usize>) {
    (NormParams { gamma: 0..HIDDEN, beta: HIDDEN..2 * HIDDEN, eps: 1e-12 }, 2 * HIDDEN..3 * HIDDEN)
}

fn by_rows(roof: &Roof, batch: &PackedBatch, dropout: Option<Dropout>) -> Done {
    let n = batch.num_tokens();
    let (norm, bias) = norm_params();
    let params = spread(&[3 * HIDDEN])?;
    let grad = params.zeros_like()?;
    let [residual, sums, output] = [spread(&[n, HIDDEN])?, spread(&[n, HIDDEN])?, spread(&[n, HIDDEN])?];
    let site = dropout.and_then(|dropout| dropout.site(0, Site::AttentionOutput));
    let with = if site.is_some() { " with dropout" } else { "" };
    let cost = Cost { flops: 0.0, bytes: 4.0 * (4 * n * HIDDEN) as f64 };
    let (params, batch) = (&params, batch);
    let forward = ResidualNormalize {
        params,
        norm: &norm,
        bias: bias.clone(),
        batch,
        dropout: site,
        residual: &residual,
        sums: &sums,
        output: &output,
    };
    roof.report(&format!("residual + LayerNorm{with}, forward"), &cost, &mut || forward.run())?;
    let backward = ResidualNormalizeBackward {
        params,
        norm: &norm,
        bias,
        batch,
        dropout: site,
        sums: &sums,
        d: &output,
        d_projected: &residual,
        grad: GradPart::whole(&grad),
    };
    roof.report(&format!("residual + LayerNorm{with}, backward"), &cost, &mut || backward.run())
}

fn activation(roof: &Roof, n: usize) -> Done {
    let (params, bias, kind) = (spread(&[FFN])?, 0..FFN, Activation::Gelu);
    let grad = params.zeros_like()?;
    let [input, output] = [spread(&[n, FFN])?, spread(&[n, FFN])?];
    let bytes = 4.0 * (n * FFN) as f64;
    let forward = Activate { params: &params, bias: bias.clone(), kind, input: Some(&input), output: &output };
    roof.report("bias + GELU, forward", &Cost { flops: 0.0, bytes: 2.0 * bytes }, &mut || forward.run())?;
    let backward = ActivateBackward { params: &params, bias, kind, input: &input, d: &output, grad: GradPart::whole(&grad) };
    roof.report("bias + GELU, backward", &Cost { flops: 0.0, bytes: 4.0 * bytes }, &mut || backward.run())
}

fn ends(roof: &Roof, batch: &PackedBatch) -> Done {
    let n = batch.num_tokens();
    let (words, tables) = (WORDS * HIDDEN, (WORDS + POSITIONS + 2) * HIDDEN);
    let embedding = EmbeddingParams {
        words: 0..words,
        positions: words..tables - 2 * HIDDEN,
        types: tables - 2 * HIDDEN..tables,
        norm: NormParams { gamma: tables..tables + HIDDEN, beta: tables + HIDDEN..tables + 2 * HIDDEN, eps: 1e-12 },
    };
    let params = spread(&[tables + 2 * HIDDEN])?;
    let (grad, hidden) = (params.zeros_like()?, spread(&[n, HIDDEN])?);
    let bytes = 4.0 * (n * HIDDEN) as f64;
    let forward = Embed { params: &params, embedding: &embedding, batch, dropout: None, output: &hidden };
    roof.report("embeddings, forward", &Cost { flops: 0.0, bytes: 2.0 * bytes }, &mut || forward.run())?;
    let (grad, word_rows) = (GradPart::whole(&grad), &WordRows::All);
    let backward = EmbedBackward {
        params: &params,
        embedding: &embedding,
        batch,
        dropout: None,
        pad_token_id: 0,
        d: &hidden,
        word_rows,
        grad,
    };
    roof.report("embeddings, backward", &Cost { flops: 0.0, bytes: 4.0 * bytes }, &mut || backward.run())?;
    let pooling = Pooling { mode: PoolingMode::Mean, normalize: true, include_prompt: true };
    let [pooled, embeddings] = [spread(&[batch.num_sequences(), HIDDEN])?, spread(&[batch.num_sequences(), HIDDEN])?];
    let pool = Pool { pooling, batch, hidden: &hidden, pooled: &pooled, embeddings: &embeddings };
    roof.report("pooling, forward", &Cost { flops: 0.0, bytes }, &mut || pool.run())
}

fn optimizer(roof: &Roof) -> Done {
    let [mut params, mut m, mut v] = [vec![0.1_f32; PARAMS], vec![0.0; PARAMS], vec![0.0; PARAMS]];
    let grad = vec![0.01_f32; PARAMS];
    let update = AdamW::default().update(10, 2e-5, 1.0);
    let cost = Cost { flops: 0.0, bytes: 7.0 * 4.0 * PARAMS as f64 };
    roof.report("AdamW of 22.7 million parameters", &cost, &mut || {
        update.apply(true, &mut params, Some(&grad), &mut m, &mut v);
        Ok(())
    })
}

fn main() -> Done {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>());
    let length = args.next().transpose()?.unwrap_or(190);
    let tokens = args.next().transpose()?.unwrap_or(1024);
    let mut batch = PackedBatch::new();
    for sample in 0..(tokens / length).max(1) {
        let ids: Vec<u32> = (0..length as u32).map(|i| 1000 + i * 37 % 20000).collect();
        batch.push(SampleKey { sample: sample as u64, column: 0 }, &ids, 0);
    }
    let n = batch.num_tokens();
    let roof = Roof {
        flops_per_second: products_per_second(1, 1 << 30, Duration::from_secs(1))?,
        bytes_per_second: triad_bytes_per_second(1, 512 << 20, Duration::from_secs(1))?,
    };
    println!(
        "one thread, {:?}, {n} tokens in texts of {length}; one product {:.0} GFLOP/s, memory {:.1} GB/s",
        DType::F32,
        roof.flops_per_second / 1e9,
        roof.bytes_per_second / 1e9
    );
    println!("\n| operation | ms | GFLOP/s | GB/s | of the roofline |\n|---|---|---|---|---|");
    let projection = linear_params(HIDDEN, HIDDEN);
    linear(
        &roof,
        "queries, keys and values",
        &[projection.clone(), projection.clone(), projection.clone()],
        HIDDEN,
        3 * HIDDEN,
        n,
    )?;
    linear(&roof, "attention output", &[projection], HIDDEN, HIDDEN, n)?;
    linear(&roof, "feed-forward in", &[linear_params(HIDDEN, FFN)], HIDDEN, FFN, n)?;
    linear(&roof, "feed-forward out", &[linear_params(FFN, HIDDEN)], FFN, HIDDEN, n)?;
    for dropout in [None, Some(Dropout { key: DropoutKey { seed: 1, step: 1 }, hidden: 0.1, attention: 0.1 })] {
        attention(&roof, &batch, dropout)?;
        by_rows(&roof, &batch, dropout)?;
    }
    activation(&roof, n)?;
    ends(&roof, &batch)?;
    optimizer(&roof)
}
