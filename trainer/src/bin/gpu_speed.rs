//! How fast a GPU trains: BERT of BGE-base's or MiniLM's shape with random weights, on texts of given lengths, as the peer's script of the same figures.
//!
//! ```text
//! gpu_speed train --lengths FILE [--shape base|minilm] [--batch N] [--steps N] [--warmup N] [--max-len N] [--tokens N] [--peak FLOPS] [--precision bf16|tf32|f32] [--profile]
//! gpu_speed encode --lengths FILE [--shape base|minilm] [--texts N] [--max-len N] [--precision bf16|tf32|f32]
//! gpu_speed loss [--rows N] [--width N]
//! gpu_speed optimizer [--shape base|minilm]
//! ```
//!
//! Prints one JSON line. FILE is a JSON list of [question tokens, answer tokens]. Model FLOPs: 6 x matrix parameters x tokens + attention
//! (12 x layers x h x sum of len^2), nothing counted twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use artel_trainer::encode::{Encoding, TokenTexts};
use artel_trainer::encoder::{Encoder, Workspaces};
use artel_trainer::gpu::profile::{Profile, Times};
use artel_trainer::gpu::{self, DeviceLoss, DeviceSettings, DeviceTrainer, Gpu, Next, Optimizer, Others, Precision};
use artel_trainer::interrupt::Interrupt;
use artel_trainer::loss::LossSpec;
use artel_trainer::model::config::BertConfig;
use artel_trainer::model::layout::ParamLayout;
use artel_trainer::model::pooling::{Pooling, PoolingMode};
use artel_trainer::nccl::Element;
use artel_trainer::optim::AdamW;
use artel_trainer::state::TrainState;
use artel_trainer::tokens::TokenTable;
use artel_trainer::{Error, Result, collective::Solo};
use candle_core::{DType, Tensor};
use serde_json::{Value, json};

const WORDS: usize = 30_522;

/// The command line: what to measure, and its settings.
struct Settings {
    what: String,
    values: HashMap<String, String>,
}

impl Settings {
    fn read() -> Self {
        let mut words = std::env::args().skip(1).peekable();
        let what = words.next().unwrap_or_default();
        let mut values = HashMap::new();
        while let Some(word) = words.next() {
            let value = words.next_if(|next| !next.starts_with("--")).unwrap_or_default();
            values.insert(word.trim_start_matches("--").to_owned(), value);
        }
        Self { what, values }
    }

    fn number(&self, name: &str, default: f64) -> Result<f64> {
        let Some(value) = self.values.get(name) else { return Ok(default) };
        value.parse().map_err(|_| Error::input(format!("--{name} {value:?} is not a number")))
    }

    fn count(&self, name: &str, default: usize) -> Result<usize> {
        Ok(self.number(name, default as f64)? as usize)
    }

    fn precision(&self) -> Result<Precision> {
        let Some(name) = self.values.get("precision") else { return Ok(Precision::Bf16) };
        let found = Precision::ALL.into_iter().find(|precision| precision.name() == name);
        found.ok_or_else(|| Error::input(format!("--precision {name:?}: write bf16, tf32 or f32")))
    }

    fn encoder(&self) -> Result<Encoder> {
        let minilm = self.values.get("shape").is_some_and(|shape| shape == "minilm");
        let config = if minilm { BertConfig::bert(6, 384) } else { BertConfig::bert(12, 768) };
        let layout = ParamLayout::bert(&config);
        Encoder::new(config, Pooling { mode: PoolingMode::Cls, normalize: true, include_prompt: true }, layout)
    }

    /// Question and answer tokens, none beyond `--max-len`.
    fn lengths(&self) -> Result<Vec<[usize; 2]>> {
        let file = self.values.get("lengths").ok_or_else(|| Error::input("--lengths FILE is missing"))?;
        let text = std::fs::read(file).map_err(|e| Error::input(format!("{file}: {e}")))?;
        let pairs: Vec<[usize; 2]> = serde_json::from_slice(&text).map_err(|e| Error::input(format!("{file}: {e}")))?;
        let most = self.count("max-len", 256)?;
        Ok(pairs.into_iter().map(|pair| pair.map(|len| len.min(most))).collect())
    }
}

fn params(encoder: &Encoder) -> Vec<f32> {
    let mut params: Vec<f32> = (0..encoder.layout().total as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) as f32 / u32::MAX as f32 - 0.5) * 0.07)
        .collect();
    for entry in encoder.layout().entries.iter().filter(|entry| entry.name.ends_with("LayerNorm.weight")) {
        params[entry.range()].iter_mut().for_each(|x| *x += 1.0);
    }
    params
}

/// Texts of these lengths, of words at random.
fn table(pairs: &[[usize; 2]]) -> TokenTable {
    let mut table = TokenTable::new(vec![0, 0]);
    let mut number = 1u32;
    for len in pairs.iter().flatten() {
        let mut word = || {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            1000 + (number >> 8) % (WORDS as u32 - 1000)
        };
        table.push_text(&(0..*len).map(|_| word()).collect::<Vec<_>>());
    }
    table
}

fn open(settings: &Settings) -> Result<(Arc<Gpu>, Option<Times>)> {
    let gpu = gpu::open(0, settings.precision()?)?;
    if !settings.values.contains_key("profile") {
        return Ok((Arc::new(gpu), None));
    }
    let (profile, times) = Profile::of(gpu.into_backend());
    Ok((Arc::new(Gpu::new(Box::new(profile))?), Some(times)))
}

fn trainer(settings: &Settings, gpu: &Arc<Gpu>, encoder: Encoder) -> Result<DeviceTrainer> {
    let h = encoder.config().hidden_size;
    let dims: Vec<usize> = [768, 512, 384, 256, 128, 64].into_iter().filter(|dim| *dim <= h).collect();
    let fitting = DeviceTrainer::tokens_that_fit(gpu, &encoder)?;
    let device = DeviceSettings {
        loss: LossSpec { scale: 20.0, weights: vec![1.0; dims.len()], dims },
        max_grad_norm: 1.0,
        adamw: AdamW::default(),
        seed: 1,
        dropout: (0.1, 0.1),
        tokens_at_once: settings.count("tokens", fitting)?,
        exchanged: Element::F32,
    };
    let state = TrainState::new(params(&encoder))?;
    DeviceTrainer::new(gpu.clone(), Arc::new(encoder), device, &state)
}

/// Model FLOPs of forward and backward.
fn flops(encoder: &Encoder, lens: impl Iterator<Item = usize>) -> f64 {
    let layout = encoder.layout();
    let matrix: usize =
        layout.entries.iter().filter(|e| e.shape.len() == 2 && !e.name.starts_with("embeddings")).map(|e| e.len).sum();
    let config = encoder.config();
    let attention = 12.0 * (config.num_hidden_layers * config.hidden_size) as f64;
    lens.map(|len| 6.0 * matrix as f64 * len as f64 + attention * (len * len) as f64).sum()
}

fn train(settings: &Settings) -> Result<Value> {
    let (gpu, times) = open(settings)?;
    let encoder = settings.encoder()?;
    let (pairs, batch) = (settings.lengths()?, settings.count("batch", 64)?);
    let (warmup, steps) = (settings.count("warmup", 8)?, settings.count("steps", 30)?);
    let table = table(&pairs);
    let mut trainer = trainer(settings, &gpu, encoder.clone())?;
    let (mut took, mut tokens, mut work, mut loss) = (Vec::new(), 0, 0.0, 0.0);
    for step in 0..warmup + steps {
        let rows_of = |step: usize| (0..batch).map(|i| ((step * batch + i) % pairs.len()) as u32).collect::<Vec<u32>>();
        let (rows, next) = (rows_of(step), rows_of(step + 1));
        if step == warmup {
            times.iter().for_each(|times| drop(times.take()));
        }
        let begun = Instant::now();
        trainer.begin(&table, &[&rows], &Interrupt::default())?;
        loss = trainer.finish(&[&rows], 2e-5, Others::NONE, Some(Next { table: &table, rows: &next }))?.loss;
        if step >= warmup {
            took.push(begun.elapsed().as_secs_f64());
            let lens = || rows.iter().flat_map(|&row| pairs[row as usize]);
            tokens += lens().sum::<usize>();
            work += flops(&encoder, lens());
        }
    }
    let total: f64 = took.iter().sum();
    took.sort_by(f64::total_cmp);
    let peak = settings.number("peak", 989e12)?;
    let profile = times.map(|times| {
        let line = |(name, (count, share)): (String, (u64, std::time::Duration))| {
            json!({"name": name, "times": count, "ms_per_step": 1e3 * share.as_secs_f64() / steps as f64})
        };
        times.take().into_iter().map(line).collect::<Vec<_>>()
    });
    Ok(
        json!({"what": "train", "shape": settings.values.get("shape"), "batch": batch, "pairs_per_s": (batch * steps) as f64 / total,
        "real_tokens_per_s": tokens as f64 / total, "step_ms_median": 1e3 * took[steps / 2],
        "model_flops_utilisation": work / total / peak, "tokens_at_once": trainer.settings().tokens_at_once, "precision": gpu.precision().name(), "last_loss": loss,
        "device": gpu.backend().describe(), "profile": profile}),
    )
}

fn encode(settings: &Settings) -> Result<Value> {
    let (gpu, _) = open(settings)?;
    let (pairs, num_texts) = (settings.lengths()?, settings.count("texts", 2000)?);
    let table = table(&pairs);
    let trainer = trainer(settings, &gpu, settings.encoder()?)?;
    let encoder = settings.encoder()?;
    let texts: Vec<_> = (0..num_texts).map(|row| table.text(row % pairs.len(), 1).to_vec()).collect();
    let tokens: usize = texts.iter().map(Vec::len).sum();
    let input = TokenTexts { texts, prompt_len: 0 };
    let (solo, workspaces, interrupt) = (Solo::new(), Workspaces::default(), Interrupt::default());
    let encoding = Encoding {
        encoder: &encoder,
        params: &trainer.optimizer.params,
        collective: &solo,
        threads: 1,
        micro_batch_tokens: 1024,
        workspaces: &workspaces,
        interrupt: &interrupt,
        device: Some(&trainer),
    };
    encoding.encode(&input, &|_| {})?;
    let begun = Instant::now();
    encoding.encode(&input, &|_| {})?;
    let took = begun.elapsed().as_secs_f64();
    Ok(
        json!({"what": "encode", "texts_per_s": num_texts as f64 / took, "tokens_per_s": tokens as f64 / took, "device": gpu.backend().describe()}),
    )
}

fn loss(settings: &Settings) -> Result<Value> {
    let (gpu, _) = open(settings)?;
    let (rows, width) = (settings.count("rows", 65_536)?, settings.count("width", 768)?);
    let before = gpu.backend().free_bytes()?;
    let random = || Tensor::rand(-1f32, 1f32, (rows, width), gpu.device());
    let (anchors, candidates) = (random()?, random()?);
    let (d_anchors, d_candidates) = (anchors.zeros_like()?, candidates.zeros_like()?);
    let dims: Vec<usize> = [768, 512, 384, 256, 128, 64].into_iter().filter(|dim| *dim <= width).collect();
    let spec = LossSpec { scale: 20.0, weights: vec![1.0; dims.len()], dims };
    let device_loss =
        DeviceLoss { gpu: &gpu, spec: &spec, anchors: &anchors, candidates: &candidates, own_offset: 0, num_anchors: rows };
    let value = Tensor::zeros(1, DType::F32, gpu.device())?;
    let mut took = 0.0;
    for _ in 0..2 {
        let begun = Instant::now();
        device_loss.run(&value, &d_anchors, &d_candidates)?;
        gpu.backend().synchronize()?;
        took = begun.elapsed().as_secs_f64();
    }
    let taken = before.saturating_sub(gpu.backend().free_bytes()?);
    Ok(
        json!({"what": "loss", "rows": rows, "width": width, "seconds": took, "memory_gb_inputs_and_gradients_included": taken as f64 / 1e9,
        "device": gpu.backend().describe()}),
    )
}

fn optimizer(settings: &Settings) -> Result<Value> {
    let (gpu, _) = open(settings)?;
    let encoder = settings.encoder()?;
    let mut optimizer = Optimizer::new(&gpu, encoder.layout(), &TrainState::new(params(&encoder))?)?;
    optimizer.begin_update(&gpu, &AdamW::default(), 1e-5, 1.0, 1.0)?;
    optimizer.finish_update(1.0)?;
    let (begun, updates) = (Instant::now(), 20);
    for _ in 0..updates {
        optimizer.begin_update(&gpu, &AdamW::default(), 1e-5, 1.0, 1.0)?;
    }
    optimizer.finish_update(1.0)?;
    let took = begun.elapsed().as_secs_f64() / f64::from(updates);
    // norm: 4 bytes read; update: 16 read, 12 written; copy: 4 read, 2 written for nearly all
    let bytes = encoder.layout().total as f64 * 38.0;
    Ok(
        json!({"what": "optimizer", "parameters": encoder.layout().total, "ms": 1e3 * took, "gb_per_s": bytes / took / 1e9, "device": gpu.backend().describe()}),
    )
}

fn main() {
    let settings = Settings::read();
    let outcome = match settings.what.as_str() {
        "train" => train(&settings),
        "encode" => encode(&settings),
        "loss" => loss(&settings),
        "optimizer" => optimizer(&settings),
        other => Err(Error::input(format!("{other:?} is none of train, encode, loss, optimizer"))),
    };
    match outcome {
        Ok(line) => println!("{line}"),
        Err(error) => {
            eprintln!("error: {error}");
            std::process::exit(1);
        }
    }
}
