//! How fast this machine computes, measured in a moment: matrix products, memory, encoding. For people, never for a decision.

use std::hint::black_box;
use std::time::Duration;

use artel_common::clock;
use candle_core::Tensor;

use crate::encoder::{Encoder, Workspace};
use crate::error::Result;
use crate::kernels::{Mat, MatMut, gemm};
use crate::packed::PackedBatch;

/// The product that is timed, rows x inner times inner x columns: a feed-forward layer of a small encoder, on 1,024 tokens.
pub const PRODUCT: [usize; 3] = [1024, 384, 1536];
/// Rounds of which the best counts.
const ROUNDS: u32 = 3;
/// Fewest rows that the product may shrink to.
const LEAST_ROWS: usize = 64;
/// Fewest bytes of a thread's share of memory.
const LEAST_SHARE_BYTES: usize = 1 << 20;

/// f32 operations a second in products of [`PRODUCT`]'s shape, each thread at its own; fewer rows where the results would take more
/// than `most_bytes`.
///
/// # Errors
/// None is known.
pub fn products_per_second(threads: usize, most_bytes: usize, time: Duration) -> Result<f64> {
    let [mut rows, inner, columns] = PRODUCT;
    while rows > LEAST_ROWS && threads * rows * columns * size_of::<f32>() > most_bytes {
        rows /= 2;
    }
    let (lhs, rhs) = (vec![0.5_f32; rows * inner], vec![0.25_f32; columns * inner]);
    let product = |dst: &mut Vec<f32>| {
        let target = MatMut::new(dst, rows, columns, columns);
        gemm(target, false, 1.0, Mat::new(&lhs, rows, inner, inner), Mat::new(&rhs, columns, inner, inner).t());
        black_box(dst);
        Ok((2 * rows * inner * columns) as f64)
    };
    let prepare = || {
        let mut dst = vec![0.0; rows * columns];
        product(&mut dst).map(|_| dst)
    };
    best_rate(threads, ROUNDS, time, &prepare, &product)
}

/// Bytes a second that all threads read and write together in `a = b + s c` over `bytes` of memory, the three vectors together.
///
/// # Errors
/// None is known.
pub fn triad_bytes_per_second(threads: usize, bytes: usize, time: Duration) -> Result<f64> {
    let len = (bytes / threads.max(1)).max(LEAST_SHARE_BYTES) / (3 * size_of::<f32>());
    let prepare = || Ok([vec![1.0_f32; len], vec![2.0; len], vec![3.0; len]]);
    let triad = |vectors: &mut [Vec<f32>; 3]| {
        let [a, b, c] = vectors;
        a.iter_mut().zip(b.iter().zip(c.iter())).for_each(|(a, (b, c))| *a = *b + 3.0 * *c);
        black_box(vectors);
        Ok((3 * len * size_of::<f32>()) as f64)
    };
    best_rate(threads, ROUNDS, time, &prepare, &triad)
}

/// Tokens a second that all threads encode, each going through the batches over and over.
///
/// # Errors
/// The batches do not suit the model.
pub fn encoded_per_second(
    encoder: &Encoder,
    params: &Tensor,
    batches: &[PackedBatch],
    threads: usize,
    time: Duration,
) -> Result<f64> {
    assert!(!batches.is_empty(), "there is something to encode");
    let prepare = || Ok((Workspace::default(), batches.iter().cycle()));
    let encode = |state: &mut (Workspace, std::iter::Cycle<std::slice::Iter<'_, PackedBatch>>)| {
        let batch = state.1.next().expect("a cycle over something never ends");
        black_box(encoder.forward(params, batch, None, false, &mut state.0)?);
        Ok(batch.num_tokens() as f64)
    };
    best_rate(threads, 1, time, &prepare, &encode)
}

/// Does `work` over and over on each thread, in `rounds` that share `time`; units a second over all threads, of the best round.
fn best_rate<S: Send>(
    threads: usize,
    rounds: u32,
    time: Duration,
    prepare: &(dyn Fn() -> Result<S> + Sync),
    work: &(dyn Fn(&mut S) -> Result<f64> + Sync),
) -> Result<f64> {
    // prepared by the thread that uses it, so that its memory lies near
    let mut states = on_threads((0..threads).map(|_| prepare))?;
    let mut best = 0.0_f64;
    for _ in 0..rounds {
        let round = |state| move || rate(state, time / rounds, work);
        let rates = on_threads(states.iter_mut().map(round))?;
        best = best.max(rates.iter().sum());
    }
    Ok(best)
}

fn rate<S>(state: &mut S, time: Duration, work: &dyn Fn(&mut S) -> Result<f64>) -> Result<f64> {
    let (began, mut units) = (clock::now(), 0.0);
    loop {
        units += work(state)?;
        let passed = clock::now() - began;
        if passed >= time && !passed.is_zero() {
            return Ok(units / passed.as_secs_f64());
        }
    }
}

/// Runs each task on a thread of its own.
fn on_threads<T: Send>(tasks: impl Iterator<Item = impl FnOnce() -> Result<T> + Send>) -> Result<Vec<T>> {
    std::thread::scope(|scope| {
        let running: Vec<_> = tasks.map(|task| scope.spawn(task)).collect();
        running.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    /// Goal: figures of a sane size, and a small machine survives. Method: two threads for a moment, little memory allowed.
    #[test]
    fn measures_something() {
        let moment = Duration::from_millis(3);
        for most_bytes in [0, 1 << 30] {
            let flops = products_per_second(2, most_bytes, moment).unwrap();
            assert!((1e7..1e14).contains(&flops), "{flops}");
        }
        let bytes = triad_bytes_per_second(2, 0, moment).unwrap();
        assert!((1e7..1e14).contains(&bytes), "{bytes}");
    }

    /// Goal: threads add up and an error ends the measurement. Method: work that takes a known time; work that fails.
    #[test]
    fn rates_add_up() {
        let time = Duration::from_millis(20);
        let wait = |(): &mut ()| {
            let began = clock::now();
            while clock::now() - began < Duration::from_millis(1) {
                std::thread::yield_now();
            }
            Ok(1.0)
        };
        let rate = best_rate(3, 2, time, &|| Ok(()), &wait).unwrap();
        assert!((300.0..=3000.0).contains(&rate), "{rate}");
        assert!(best_rate(2, 1, time, &|| Ok(()), &|(): &mut ()| Err(Error::input("no"))).is_err());
    }
}
