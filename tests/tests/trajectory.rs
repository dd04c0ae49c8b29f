//! Whole updates against values made with PyTorch: loss, gradient norm and movement over 20 steps, and one batch over
//! two ranks. ARTEL_SHARED names the golden values, ARTEL_MINILM the model.

#![allow(clippy::unwrap_used, reason = "a helper of tests may panic as they do")]

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use artel_common::spec::SchedulerKind;
use artel_tests::{minilm, shared};
use artel_trainer::collective::{Collective, Solo, TcpCollective};
use artel_trainer::encoder::Encoder;
use artel_trainer::loss::LossSpec;
use artel_trainer::model::{ModelFolder, Prompt, Tokenizer};
use artel_trainer::optim::{AdamW, lr_factor};
use artel_trainer::state::{TrainState, with_values};
use artel_trainer::step::{StepSettings, Trainer};
use artel_trainer::tokens::TokenTable;
use safetensors::SafeTensors;
use serde_json::Value;

const DIMS: [usize; 4] = [384, 256, 128, 64];

struct Golden {
    values: Value,
    shared: std::path::PathBuf,
    folder: ModelFolder,
    tokenizer: Tokenizer,
}

impl Golden {
    fn open() -> Option<Self> {
        let (shared, model) = (shared()?, minilm()?);
        let text = std::fs::read_to_string(shared.join("golden/golden.json")).unwrap();
        let folder = ModelFolder::open(&model).unwrap();
        let tokenizer = folder.tokenizer(64).unwrap();
        Some(Self { values: serde_json::from_str(&text).unwrap(), shared, folder, tokenizer })
    }

    fn table(&self, pairs: &Value) -> TokenTable {
        let mut table = TokenTable::new(vec![0, 0]);
        for pair in pairs.as_array().unwrap() {
            for column in ["anchor", "positive"] {
                table.push_text(&self.tokenizer.encode(pair[column].as_str().unwrap(), &Prompt::none()).unwrap());
            }
        }
        table
    }

    fn trainer(&self, weight_decay: f64, collective: Arc<dyn Collective>, activation_budget: usize) -> Trainer {
        let settings = StepSettings {
            loss: LossSpec { scale: 20.0, dims: DIMS.to_vec(), weights: vec![1.0; 4] },
            num_leaves: 8,
            micro_batch_tokens: 1024,
            max_grad_norm: 1.0,
            adamw: AdamW { betas: (0.9, 0.999), eps: 1e-8, weight_decay },
            seed: 42,
            dropout: (0.0, 0.0),
            threads: 2,
            activation_budget: activation_budget.into(),
        };
        let folder = &self.folder;
        let encoder = Encoder::new(folder.config.clone(), folder.pooling, folder.layout.clone()).unwrap();
        let state = TrainState::new(folder.load_params().unwrap()).unwrap();
        Trainer::new(Arc::new(encoder), settings, collective, state).unwrap()
    }
}

fn tensors(path: &Path) -> HashMap<String, Vec<f32>> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let values = |data: &[u8]| data.as_chunks::<4>().0.iter().map(|c| f32::from_le_bytes(*c)).collect();
    file.tensors().into_iter().map(|(name, view)| (name, values(view.data()))).collect()
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

fn bare(name: &str) -> &str {
    name.trim_start_matches("0.model.")
}

/// Goal: 20 updates lose, clip and move as PyTorch's do, at each weight decay. Method: loss and gradient norm per step
/// within 1e-3 relative + 1e-5; each tensor's movement within 5e-3 of the f64 one (word embeddings, by norm, 1e-2).
#[test]
fn twenty_steps() {
    let Some(golden) = Golden::open() else { return };
    let movement = tensors(&golden.shared.join("golden/movement.safetensors"));
    for (name, weight_decay) in [("wd0.0", 0.0), ("wd0.01", 0.01), ("wd1.0", 1.0)] {
        let expected = &golden.values["trajectories"][name];
        let mut trainer = golden.trainer(weight_decay, Arc::new(Solo::new()), usize::MAX);
        let start = with_values(&trainer.state.params, <[f32]>::to_vec).unwrap();
        for (step, pairs) in golden.values["train_batches"].as_array().unwrap().iter().enumerate() {
            let table = golden.table(pairs);
            let rate = 2e-5 * lr_factor(SchedulerKind::Cosine, step as u64, 2, 20);
            let rows: Vec<u32> = (0..8).collect();
            let outcome = trainer.step(&table, &[&rows], rate).unwrap();
            let wanted = &expected["steps"][step];
            for (what, got, key) in
                [("loss", outcome.loss, "loss"), ("norm", outcome.grad_norm, "grad_norm_before_clip"), ("rate", rate, "lr")]
            {
                let want = wanted[key].as_f64().unwrap();
                assert!((got - want).abs() <= 1e-3 * want.abs() + 1e-5, "{name} step {}: {what} {got} is not {want}", step + 1);
            }
        }
        let end = with_values(&trainer.state.params, <[f32]>::to_vec).unwrap();
        let moved = |name: &str| {
            let entry = golden.folder.layout.entry(name).unwrap();
            let range = entry.offset..entry.offset + entry.len;
            start[range.clone()].iter().zip(&end[range]).map(|(a, b)| f64::from(*b) - f64::from(*a)).collect::<Vec<f64>>()
        };
        let mut compared = 0;
        for (key, want) in movement.iter().filter_map(|(key, want)| Some((key.strip_prefix(&format!("{name}/"))?, want))) {
            let got = moved(bare(key));
            let error = norm(got.iter().zip(want).map(|(got, want)| got - f64::from(*want)));
            let size = norm(want.iter().map(|want| f64::from(*want)));
            assert!(error <= 5e-3 * size, "{name}/{key}: moved {} of its norm away from the truth", error / size);
            compared += 1;
        }
        assert!(compared >= 10, "{name}: only {compared} tensors were compared");
        let words = norm(moved("embeddings.word_embeddings.weight").into_iter());
        let want = expected["movement_norm_f64"]["0.model.embeddings.word_embeddings.weight"].as_f64().unwrap();
        assert!((words - want).abs() <= 1e-2 * want, "{name}: word embeddings moved by {words}, not {want}");
        println!("{name}: {compared} tensors within 5e-3");
    }
}

/// Goal: the first update runs at rate 0 and moves nothing, the second moves every parameter but the key biases.
/// Method: compare before and after, per tensor.
#[test]
fn everything_moves() {
    let Some(golden) = Golden::open() else { return };
    let mut trainer = golden.trainer(0.0, Arc::new(Solo::new()), usize::MAX);
    let start = with_values(&trainer.state.params, <[f32]>::to_vec).unwrap();
    let table = golden.table(&golden.values["pairs"]);
    let rows: Vec<u32> = (0..8).collect();
    let grad = trainer.gradient(&table, &rows).unwrap().grad.dense();
    trainer.step(&table, &[&rows], 0.0).unwrap();
    assert!(with_values(&trainer.state.params, |now| now == start).unwrap(), "a step at rate 0 moved something");
    trainer.step(&table, &[&rows], 1e-5).unwrap();
    for entry in &golden.folder.layout.entries {
        let range = entry.offset..entry.offset + entry.len;
        let moved = with_values(&trainer.state.params, |now| now[range.clone()] != start[range.clone()]).unwrap();
        assert!(moved, "{} has not moved", entry.name);
        let size = norm(grad[range].iter().map(|g| f64::from(*g)));
        assert!(size.is_finite());
        assert!(entry.name.ends_with("key.bias") || size > 1e-6, "{}: gradient of norm {size}", entry.name);
    }
}

/// Goal: over two ranks loss and gradient are those of the whole batch, bit for bit, in one pass and in two.
/// Method: two ranks on threads over TCP against one; the norm that PyTorch found is 124.635.
#[test]
fn two_ranks_are_one_batch() {
    let Some(golden) = Golden::open() else { return };
    let table = golden.table(&golden.values["pairs"]);
    let rows: Vec<u32> = (0..8).collect();
    let whole = golden.trainer(0.0, Arc::new(Solo::new()), usize::MAX).gradient(&table, &rows).unwrap();
    let (loss, grad, kept) = (whole.loss, whole.grad, whole.kept);
    assert_eq!(kept.0, kept.1);
    assert!((loss - 3.106_849_5).abs() < 1e-5, "{loss}");
    assert!((grad.norm() - 124.635).abs() < 0.01, "{}", grad.norm());
    let two_pass = golden.trainer(0.0, Arc::new(Solo::new()), 0).gradient(&table, &rows).unwrap();
    assert_eq!((two_pass.kept.0, two_pass.loss.to_bits()), (0, loss.to_bits()));
    assert!(two_pass.grad == grad, "GradCache's gradient differs from one pass");
    let local = "127.0.0.1".parse().unwrap();
    let listeners: Vec<_> = (0..2).map(|_| TcpCollective::listen(local).unwrap()).collect();
    let members: Vec<_> = listeners.iter().map(|listener| listener.address()).collect();
    std::thread::scope(|scope| {
        for (rank, listener) in listeners.into_iter().enumerate() {
            let (golden, table, rows, grad, members) = (&golden, &table, &rows, &grad, &members);
            scope.spawn(move || {
                let limit = Duration::from_secs(60);
                let collective = listener.connect([1; 32], 1, rank, members, limit, limit).unwrap();
                let own = golden.trainer(0.0, Arc::new(collective), usize::MAX).gradient(table, rows).unwrap();
                assert_eq!(own.loss.to_bits(), loss.to_bits());
                assert!(own.grad == *grad, "rank {rank}'s gradient differs from the single process's");
            });
        }
    });
}
