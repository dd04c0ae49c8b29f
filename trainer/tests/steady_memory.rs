//! What a training step allocates once it has seen batches like those that come.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::{BATCH, ROWS, table, trainer};

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

/// Goal: a steady step allocates nothing of 64 KiB or more, in one pass and in two, on one thread and on three.
/// Method: two epochs to warm up, then another one, of the same rows in other batches, under a counting allocator. How many
/// vectors wait for their siblings at most hangs on how threads meet, so several may need an epoch more, but no step needs one of its own.
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
        let mut counts = Vec::new();
        for number in [1, 3, 4, 5] {
            NUM_LARGE.store(0, Ordering::Relaxed);
            COUNTING.store(true, Ordering::Relaxed);
            let losses = epoch(number);
            COUNTING.store(false, Ordering::Relaxed);
            assert!(losses.iter().all(|loss| loss.is_finite()));
            counts.push(NUM_LARGE.load(Ordering::Relaxed));
            if counts.ends_with(&[0]) || threads == 1 {
                break;
            }
        }
        let (total, largest) = (counts.iter().sum::<usize>(), LARGEST.load(Ordering::Relaxed));
        let steady = counts.ends_with(&[0]) && total <= threads;
        assert!(steady, "{threads} threads, budget {budget}: large allocations in 10 steps: {counts:?}, up to {largest} bytes");
    }
}
