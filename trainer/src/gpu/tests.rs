//! Whole updates by the GPU's kernels, run on the CPU.

mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::check::{small_run, table};
use super::*;
use crate::collective::Solo;
use crate::encode::{Encoding, TokenTexts};
use crate::encoder::{Encoder, Workspaces};
use crate::interrupt::Interrupt;
use crate::loss::LossSpec;
use crate::model::config::BertConfig;
use crate::model::layout::ParamLayout;
use crate::model::pooling::Pooling;
use crate::nccl::Element;
use crate::state::{TrainState, with_values};
use crate::step::{ActivationBudget, StepSettings, Trainer};

const ROWS: u32 = 10;

fn trainer(encoder: Encoder, settings: DeviceSettings, params: Vec<f32>) -> DeviceTrainer {
    let state = TrainState::new(params).unwrap();
    DeviceTrainer::new(Arc::new(emulated::gpu()), Arc::new(encoder), settings, &state).unwrap()
}

/// The settings of a trainer with these of a device.
fn on_cpu(settings: DeviceSettings) -> StepSettings {
    StepSettings {
        loss: settings.loss,
        num_leaves: 2,
        micro_batch_tokens: 64,
        max_grad_norm: settings.max_grad_norm,
        adamw: settings.adamw,
        seed: settings.seed,
        dropout: settings.dropout,
        threads: 2,
        activation_budget: ActivationBudget { all: usize::MAX, some: usize::MAX, num_sums: 0 },
    }
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Goal: memory decides how often texts are embedded, and little else: masks are the same, and gradients but for the order of sums. Method: a
/// batch in one piece, in pieces some of which are kept, and text by text.
#[test]
fn pieces_are_the_whole() {
    let (table, rows) = (table(ROWS), (0..ROWS).collect::<Vec<_>>());
    let outcomes = [1 << 20, 300, 200, 1].map(|tokens_at_once| {
        let (encoder, params, settings) = small_run(0.1).unwrap();
        let mut trainer = trainer(encoder, DeviceSettings { tokens_at_once, ..settings }, params);
        let outcome = trainer.step(&table, &[&rows], 1e-3, &Interrupt::default()).unwrap();
        (outcome, trainer.optimizer.grad.to_vec1::<f32>().unwrap())
    });
    let (whole, grad) = &outcomes[0];
    let grad: Vec<f64> = grad.iter().map(|x| f64::from(*x)).collect();
    for (outcome, pieces) in &outcomes[1..] {
        assert_eq!(outcome.loss, whole.loss, "a text's embedding depends on what is beside it");
        let pieces: Vec<f64> = pieces.iter().map(|x| f64::from(*x)).collect();
        assert!((outcome.grad_norm / whole.grad_norm - 1.0).abs() < 1e-4);
        assert!(cosine(&grad, &pieces) > 0.99999);
    }
}

/// Goal: a loss that is no number is an error, and moves nothing. Method: a parameter that is infinite; the state before and after.
#[test]
fn not_finite() {
    let (encoder, mut before, settings) = small_run(0.0).unwrap();
    let at = encoder.layout().entry("encoder.layer.1.output.dense.weight").unwrap().offset;
    before[at] = f32::INFINITY;
    let mut trainer = trainer(encoder, settings, before.clone());
    let rows: Vec<u32> = (0..ROWS).collect();
    let error = trainer.step(&table(ROWS), &[&rows], 1e-3, &Interrupt::default()).unwrap_err();
    assert!(matches!(error, crate::Error::NotFinite(_)), "{error}");
    assert!(error.to_string().contains("at step 1"), "{error}");
    let state = trainer.optimizer.state().unwrap();
    assert!(with_values(&state.params, |params| params == before).unwrap());
    assert!(state.step == 0 && state.exp_avg.iter().all(|x| *x == 0.0));
}

/// Goal: what the kernels are not made for is refused by name. Method: heads of 8, and a width beyond a warp's rows.
#[test]
fn unsuitable_models() {
    for (hidden_size, num_attention_heads, expected) in [(64, 8, "attention heads of 8"), (2048, 32, "a hidden width of 2048")] {
        let (small, _, settings) = small_run(0.0).unwrap();
        let config = BertConfig { hidden_size, num_attention_heads, ..small.config().clone() };
        let layout = ParamLayout::bert(&config);
        let params = vec![0.1; layout.total];
        let encoder = Encoder::new(config, Pooling::mean(), layout).unwrap();
        let settings = DeviceSettings { loss: LossSpec::full_width(20.0, hidden_size), ..settings };
        let state = TrainState::new(params).unwrap();
        let made = DeviceTrainer::new(Arc::new(emulated::gpu()), Arc::new(encoder), settings, &state);
        let error = made.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// Goal: where memory runs out a step is done all the same, with fewer tokens at once, and other failures come out. Method: a kernel that fails as CUDA
/// does on some of its calls; the outcome against an undisturbed one.
#[test]
fn out_of_memory() {
    let (table, rows) = (table(ROWS), (0..ROWS).collect::<Vec<_>>());
    let step = |failing: std::ops::Range<usize>, why: &'static str| {
        let (encoder, params, settings) = small_run(0.1).unwrap();
        let calls = AtomicUsize::new(0);
        let gpu = emulated::altered(Precision::Bf16, move |launch| {
            let failing = launch.kernel == "attention_32" && failing.contains(&calls.fetch_add(1, Ordering::SeqCst));
            failing.then(|| Err(crate::Error::Internal(why.to_owned())))
        });
        let state = TrainState::new(params).unwrap();
        let mut trainer = DeviceTrainer::new(Arc::new(gpu), Arc::new(encoder), settings, &state).unwrap();
        let outcome = trainer.step(&table, &[&rows], 1e-3, &Interrupt::default());
        (outcome, trainer.settings().tokens_at_once)
    };
    let (whole, tokens) = step(0..0, "");
    let memory = "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")";
    let (halved, fewer) = step(1..3, memory);
    assert_eq!((halved.unwrap(), fewer), (whole.unwrap(), tokens / 4));
    let (never, least) = step(0..usize::MAX, memory);
    let never = never.unwrap_err().to_string();
    assert!(never.contains("OUT_OF_MEMORY") && never.contains("does not suffice for 1024 tokens"), "{never}");
    assert_eq!(least, 1024);
    assert!(step(1..2, "another failure").0.unwrap_err().to_string().contains("another failure"));
}

/// Goal: memory that runs out on the way back costs nothing but time, whichever batch of a step it is. Method: a kernel of the backward that fails once, in the first batch and in the
/// second; what came of it.
#[test]
fn out_of_memory_on_the_way_back() {
    let (table, rows) = (table(ROWS), (0..ROWS).collect::<Vec<_>>());
    let step = |failing: Option<usize>| {
        let (encoder, params, settings) = small_run(0.1).unwrap();
        let calls = AtomicUsize::new(0);
        let gpu = emulated::altered(Precision::Bf16, move |launch| {
            let is_it = launch.kernel == "attention_backward_keys_32" && Some(calls.fetch_add(1, Ordering::SeqCst)) == failing;
            is_it.then(|| Err(crate::Error::Internal("CUDA_ERROR_OUT_OF_MEMORY".to_owned())))
        });
        let state = TrainState::new(params).unwrap();
        let mut trainer = DeviceTrainer::new(Arc::new(gpu), Arc::new(encoder), settings, &state).unwrap();
        let outcome = trainer.step(&table, &[&rows[..5], &rows[5..]], 1e-3, &Interrupt::default()).unwrap();
        (outcome, trainer.settings().tokens_at_once)
    };
    let (whole, tokens) = step(None);
    // two layers a batch
    for call in [0, 1, 2, 3] {
        assert_eq!(step(Some(call)), (whole, tokens / 2), "call {call}");
    }
}

/// Goal: a trainer on a GPU is one as any other: its state is fetched when it is wanted, its vectors are those of its parameters, a run goes on from
/// what was saved. Method: two updates at once, and one after the other with a new trainer; vectors against the CPU's.
#[test]
fn a_trainer_on_a_gpu() {
    let (table, rows) = (table(ROWS), (0..ROWS).collect::<Vec<_>>());
    let begin = |state: TrainState| {
        let (encoder, _, settings) = small_run(0.1).unwrap();
        let trainer = Trainer::new(Arc::new(encoder), on_cpu(settings), Arc::new(Solo::new()), state).unwrap();
        trainer.on_gpu(Arc::new(emulated::gpu()), None, Element::F32).unwrap()
    };
    let (_, params, _) = small_run(0.1).unwrap();
    let mut whole = begin(TrainState::new(params.clone()).unwrap());
    let mut first = begin(TrainState::new(params.clone()).unwrap());
    whole.step(&table, &[&rows], 1e-3).unwrap();
    let two = whole.step(&table, &[&rows], 1e-3).unwrap();
    assert!(with_values(&whole.state.params, |now| now == params).unwrap() && whole.state.step == 2);
    first.step(&table, &[&rows], 1e-3).unwrap();
    first.settle().unwrap();
    let [after, exp_avg, exp_avg_sq] = first.state.copy_range(0..params.len(), Default::default()).unwrap();
    let mut second = begin(TrainState::saved(after, exp_avg, exp_avg_sq, first.state.step).unwrap());
    assert_eq!(second.step(&table, &[&rows], 1e-3).unwrap(), two);
    second.settle().unwrap();
    whole.settle().unwrap();
    whole.settle().unwrap();
    assert_eq!(second.state.params_digest().unwrap(), whole.state.params_digest().unwrap());

    let texts = TokenTexts { texts: (0..ROWS as usize).map(|row| table.text(row, 1).to_vec()).collect(), prompt_len: 0 };
    let encode = |device: Option<&dyn EncodeOnDevice>| {
        let encoding = Encoding {
            encoder: whole.encoder(),
            params: &whole.state.params,
            collective: &**whole.collective(),
            threads: 2,
            micro_batch_tokens: 64,
            workspaces: &Workspaces::default(),
            interrupt: whole.interrupt(),
            device,
        };
        encoding.encode(&texts, &|_| {}).unwrap().iter().map(|x| f64::from(*x)).collect::<Vec<_>>()
    };
    // by the trainer, and by its parameters alone
    let (encoder, _, _) = small_run(0.0).unwrap();
    let alone = DeviceEncoder::new(emulated::gpu(), encoder, &whole.state.params).unwrap();
    assert!(alone.micro_batch_tokens() > 0);
    let (found, expected) = (encode(Some(&alone)), encode(None));
    assert_eq!(encode(whole.device().map(|device| device as _)), found);
    for (found, expected) in found.chunks_exact(64).zip(expected.chunks_exact(64)) {
        assert!(cosine(found, expected) > 0.999);
    }
}
