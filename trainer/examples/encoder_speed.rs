//! The encoder's speed on one thread: tokens per second forward, and forward plus backward, beside the bare matrix
//! products of the same shapes. `cargo run --release -p artel-trainer --example encoder_speed [length] [tokens]`.

use std::time::Instant;

use artel_trainer::dropout::{Dropout, DropoutKey};
use artel_trainer::encoder::{Encoder, Workspace};
use artel_trainer::kernels::{Mat, MatMut, gemm, kernel_path};
use artel_trainer::model::config::BertConfig;
use artel_trainer::model::layout::ParamLayout;
use artel_trainer::model::pooling::{Pooling, PoolingMode};
use artel_trainer::packed::{PackedBatch, SampleKey};
use candle_core::{Device, Tensor};

/// Runs of each measurement; the fastest counts.
const RUNS: usize = 5;

fn minilm() -> BertConfig {
    BertConfig::bert(6, 384)
}

/// A spread of numbers about as large as trained weights.
fn spread(len: usize, scale: f32) -> Vec<f32> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) as f32 / u32::MAX as f32 - 0.5) * scale).collect()
}

fn fastest(mut run: impl FnMut()) -> f64 {
    run();
    let times = (0..RUNS).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    });
    times.fold(f64::MAX, f64::min)
}

/// Seconds of one pass's dense products alone: forward, and both of the backward.
fn products(config: &BertConfig, tokens: usize) -> f64 {
    let (h, ffn) = (config.hidden_size, config.intermediate_size);
    let [x, w] = [tokens * ffn, h * ffn].map(|len| spread(len, 0.1));
    let [mut y, mut dw] = [tokens * ffn, h * ffn].map(|len| vec![0f32; len]);
    let shapes = [(h, h, 4), (h, ffn, 1), (ffn, h, 1)];
    let layer = fastest(|| {
        for (width_in, width_out, times) in shapes {
            for _ in 0..times {
                let (x_mat, w_mat) = (Mat::new(&x, tokens, width_in, width_in), Mat::new(&w, width_out, width_in, width_in));
                gemm(MatMut::new(&mut y, tokens, width_out, width_out), false, 1.0, x_mat, w_mat.t());
                let d = Mat::new(&x, tokens, width_out, width_out);
                gemm(MatMut::new(&mut y, tokens, width_in, width_in), false, 1.0, d, w_mat);
                gemm(MatMut::new(&mut dw, width_out, width_in, width_in), true, 1.0, d.t(), x_mat);
            }
        }
    });
    layer * config.num_hidden_layers as f64
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>());
    let length = args.next().transpose()?.unwrap_or(128);
    let tokens = args.next().transpose()?.unwrap_or(1024);
    let config = minilm();
    let layout = ParamLayout::bert(&config);
    let mut values = spread(layout.total, 0.1);
    for entry in layout.entries.iter().filter(|entry| entry.name.ends_with("LayerNorm.weight")) {
        values[entry.range()].fill(1.0);
    }
    let params = Tensor::new(values, &Device::Cpu)?;
    let grad = params.zeros_like()?;
    let mut batch = PackedBatch::new();
    for sample in 0..(tokens / length).max(1) {
        let ids: Vec<u32> = (0..length as u32).map(|i| 1000 + i * 37 % 20000).collect();
        batch.push(SampleKey { sample: sample as u64, column: 0 }, &ids, 0);
    }
    let pooling = Pooling { mode: PoolingMode::Mean, normalize: true, include_prompt: true };
    let encoder = Encoder::new(config.clone(), pooling, layout)?;
    let tokens = batch.num_tokens();
    let dense = 12.0 * (config.hidden_size * config.hidden_size * config.num_hidden_layers) as f64;
    println!("kernel path {}, {} sequences of {length} tokens", kernel_path(), batch.num_sequences());
    let bare = products(&config, tokens);
    println!("dense products alone: {:.1} ms, {:.0} GFLOP/s", bare * 1e3, 6.0 * dense * tokens as f64 / bare / 1e9);

    let dropouts = [None, Some(Dropout { key: DropoutKey { seed: 1, step: 1 }, hidden: 0.1, attention: 0.1 })];
    for dropout in dropouts {
        let mut ws = Workspace::new();
        let mut failure = Ok(());
        let forward = fastest(|| {
            failure = encoder.forward(&params, &batch, dropout.as_ref(), false, &mut ws).map(|_| ());
        });
        failure?;
        let mut failure = Ok(());
        let both = fastest(|| {
            failure = encoder.forward(&params, &batch, dropout.as_ref(), true, &mut ws).and_then(|(embeddings, acts)| {
                let Some(acts) = acts else { return Ok(()) };
                encoder.backward(&params, &batch, acts, &embeddings, dropout.as_ref(), &grad, &mut ws)
            });
        });
        failure?;
        let rate = |seconds: f64| tokens as f64 / seconds;
        println!(
            "dropout {}: forward {:.1} ms, {:.0} tokens/s; forward + backward {:.1} ms, {:.0} tokens/s, dense share {:.0}%",
            if dropout.is_some() { "0.1" } else { "off" },
            forward * 1e3,
            rate(forward),
            both * 1e3,
            rate(both),
            100.0 * bare / both
        );
    }
    Ok(())
}
