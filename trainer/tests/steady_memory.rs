//! What a training step allocates once it has seen batches like those that come.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use artel_trainer::collective::Solo;
use artel_trainer::encoder::Encoder;
use artel_trainer::loss::LossSpec;
use artel_trainer::model::config::{Activation, BertConfig};
use artel_trainer::model::layout::ParamLayout;
use artel_trainer::model::pooling::{Pooling, PoolingMode};
use artel_trainer::optim::AdamW;
use artel_trainer::state::TrainState;
use artel_trainer::step::{ActivationBudget, StepSettings, Trainer};
use artel_trainer::tokens::TokenTable;

/// Allocations of at least so many bytes are counted.
const LARGE_BYTES: usize = 64 << 10;

static COUNTING: AtomicBool = AtomicBool::new(false);
static NUM_LARGE: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

/// The packed operands of a matrix product, which the library takes for the time of a call, are aligned to cache lines; so
/// are no vectors of ours.
const PACKED_ALIGN: usize = 64;

fn count(layout: Layout) {
    let bytes = layout.size();
    if bytes >= LARGE_BYTES && layout.align() < PACKED_ALIGN && COUNTING.load(Ordering::Relaxed) {
        NUM_LARGE.fetch_add(1, Ordering::Relaxed);
        LARGEST.fetch_max(bytes, Ordering::Relaxed);
    }
}

// SAFETY: every call is handed to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(Layout::from_size_align(new_size, layout.align()).unwrap_or(layout));
        // SAFETY: the caller keeps the contract.
        unsafe { System.realloc(pointer, layout, new_size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const WORDS: u32 = 3_000;
const ROWS: u32 = 320;
const BATCH: usize = 32;

fn trainer(threads: usize, activation_budget: ActivationBudget) -> Trainer {
    let config = BertConfig {
        vocab_size: WORDS as usize,
        hidden_size: 128,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        intermediate_size: 512,
        hidden_act: Activation::Gelu,
        layer_norm_eps: 1e-12,
        max_position_embeddings: 256,
        type_vocab_size: 2,
        hidden_dropout_prob: 0.1,
        attention_probs_dropout_prob: 0.1,
        pad_token_id: 0,
    };
    let layout = ParamLayout::bert(&config);
    let params = (0..layout.total as u32).map(|i| (i.wrapping_mul(2_654_435_761) as f32 / u32::MAX as f32 - 0.5) * 0.1);
    let state = TrainState::new(params.collect()).unwrap();
    let pooling = Pooling { mode: PoolingMode::Mean, normalize: true, include_prompt: true };
    let settings = StepSettings {
        loss: LossSpec { scale: 20.0, dims: vec![128, 64], weights: vec![1.0; 2] },
        num_leaves: 8,
        micro_batch_tokens: 1024,
        max_grad_norm: 1.0,
        adamw: AdamW::default(),
        seed: 42,
        dropout: (0.1, 0.1),
        threads,
        activation_budget,
    };
    let encoder = Encoder::new(config, pooling, layout).unwrap();
    Trainer::new(Arc::new(encoder), settings, Arc::new(Solo::new()), state).unwrap()
}

/// Questions of 8 to 23 tokens and answers of 40 to 239: a batch has about 5,000, so leaves are cut in one or two.
fn table() -> TokenTable {
    let mut table = TokenTable::new(vec![0, 0]);
    let mut number = 1u32;
    let mut next = |below: u32| {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (number >> 8) % below
    };
    for _ in 0..ROWS {
        for (least, spread) in [(8, 16), (40, 200)] {
            let len = least + next(spread);
            let ids: Vec<u32> = (0..len).map(|_| 1 + next(WORDS - 1)).collect();
            table.push_text(&ids);
        }
    }
    table
}

/// Goal: a steady step allocates nothing of 64 KiB or more, in one pass and in two, on one thread and on three.
/// Method: an epoch to warm up, then another one, of the same rows in other batches, under a counting allocator.
#[test]
fn a_steady_step_allocates_nothing_large() {
    let table = table();
    for (threads, budget) in [(1, usize::MAX), (3, usize::MAX), (2, 0)] {
        let mut trainer = trainer(threads, budget.into());
        // batches of other rows, and so of other lengths, in the second epoch
        let rows = |epoch: u32| (0..ROWS).map(|row| (row * (7 + 10 * epoch)) % ROWS).collect::<Vec<u32>>();
        let mut epoch = |number: u32| {
            rows(number).chunks(BATCH).map(|batch| trainer.step(&table, &[batch], 1e-4).unwrap().loss).collect::<Vec<f64>>()
        };
        epoch(0);
        epoch(2);
        NUM_LARGE.store(0, Ordering::Relaxed);
        COUNTING.store(true, Ordering::Relaxed);
        let losses = epoch(1);
        COUNTING.store(false, Ordering::Relaxed);
        assert!(losses.iter().all(|loss| loss.is_finite()));
        let (count, largest) = (NUM_LARGE.load(Ordering::Relaxed), LARGEST.load(Ordering::Relaxed));
        assert_eq!(count, 0, "{threads} threads, budget {budget}: {count} large allocations in 10 steps, up to {largest} bytes");
    }
}
