//! GFLOP/s of one thread in f32 products of MiniLM's shapes, by library; the fastest of several runs.
//!
//!   cargo run --release --manifest-path bench/products/Cargo.toml [TOKENS=900] [LENGTH=190]

use std::time::{Duration, Instant};

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

/// A product of [m, k] by [k, n]; a side that is transposed lies in memory the other way round.
struct Shape {
    name: &'static str,
    m: usize,
    k: usize,
    n: usize,
    lhs_transposed: bool,
    rhs_transposed: bool,
}

/// (row stride, column stride) of [rows, columns].
fn strides(rows: usize, columns: usize, transposed: bool) -> (isize, isize) {
    if transposed { (1, rows as isize) } else { (columns as isize, 1) }
}

type Product = fn(&Shape, &mut [f32], &[f32], &[f32]);

fn by_gemm(shape: &Shape, dst: &mut [f32], lhs: &[f32], rhs: &[f32]) {
    let &Shape { m, k, n, .. } = shape;
    let (lhs_rs, lhs_cs) = strides(m, k, shape.lhs_transposed);
    let (rhs_rs, rhs_cs) = strides(k, n, shape.rhs_transposed);
    // SAFETY: the slices hold what the strides reach.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.as_mut_ptr(),
            1,
            n as isize,
            false,
            lhs.as_ptr(),
            lhs_cs,
            lhs_rs,
            rhs.as_ptr(),
            rhs_cs,
            rhs_rs,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

fn by_matrixmultiply(shape: &Shape, dst: &mut [f32], lhs: &[f32], rhs: &[f32]) {
    let &Shape { m, k, n, .. } = shape;
    let (lhs_rs, lhs_cs) = strides(m, k, shape.lhs_transposed);
    let (rhs_rs, rhs_cs) = strides(k, n, shape.rhs_transposed);
    // SAFETY: as above.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            1.0,
            lhs.as_ptr(),
            lhs_rs,
            lhs_cs,
            rhs.as_ptr(),
            rhs_rs,
            rhs_cs,
            0.0,
            dst.as_mut_ptr(),
            n as isize,
            1,
        );
    }
}

fn by_faer(shape: &Shape, dst: &mut [f32], lhs: &[f32], rhs: &[f32]) {
    let &Shape { m, k, n, .. } = shape;
    let side = |values, rows, columns, transposed| match transposed {
        true => MatRef::from_column_major_slice(values, rows, columns),
        false => MatRef::from_row_major_slice(values, rows, columns),
    };
    let (lhs, rhs) = (side(lhs, m, k, shape.lhs_transposed), side(rhs, k, n, shape.rhs_transposed));
    matmul(MatMut::from_row_major_slice_mut(dst, m, n), Accum::Replace, lhs, rhs, 1.0, Par::Seq);
}

fn gflop_per_s(shape: &Shape, product: Product) -> f64 {
    let &Shape { m, k, n, .. } = shape;
    let values = |len: usize| (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) as f32 / u32::MAX as f32) - 0.5);
    let (lhs, rhs): (Vec<f32>, Vec<f32>) = (values(m * k).collect(), values(k * n).collect());
    let mut dst = vec![0.0; m * n];
    let (begun, mut best) = (Instant::now(), Duration::MAX);
    // small products many at a time, or the clock would be measured
    let repeats = (20_000_000 / (m * k * n)).max(1);
    while begun.elapsed() < Duration::from_millis(600) {
        let start = Instant::now();
        for _ in 0..repeats {
            product(shape, &mut dst, &lhs, &rhs);
            std::hint::black_box(&mut dst);
        }
        best = best.min(start.elapsed());
    }
    (2 * m * k * n * repeats) as f64 / best.as_secs_f64() / 1e9
}

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<usize>().expect("a number"));
    let (tokens, length) = (args.next().unwrap_or(900), args.next().unwrap_or(190));
    let shape = |name, m, k, n, lhs_transposed, rhs_transposed| Shape { name, m, k, n, lhs_transposed, rhs_transposed };
    let shapes = [
        shape("projection, forward", tokens, 384, 384, false, true),
        shape("feed-forward in, forward", tokens, 384, 1536, false, true),
        shape("feed-forward out, forward", tokens, 1536, 384, false, true),
        shape("feed-forward in, to the input", tokens, 1536, 384, false, false),
        shape("feed-forward out, to the input", tokens, 384, 1536, false, false),
        shape("feed-forward in, to the weight", 1536, tokens, 384, true, false),
        shape("projection, to the weight", 384, tokens, 384, true, false),
        shape("scores of a head", length, 32, length, false, true),
        shape("context of a head", length, length, 32, false, false),
        shape("values' gradient of a head", length, length, 32, true, false),
    ];
    println!("| product | m x k x n | gemm | faer | matrixmultiply |\n|---|---|---|---|---|");
    for shape in &shapes {
        let [gemm, faer, matrixmultiply] =
            [by_gemm as Product, by_faer, by_matrixmultiply].map(|product| gflop_per_s(shape, product));
        let Shape { name, m, k, n, .. } = shape;
        println!("| {name} | {m} x {k} x {n} | {gemm:.0} | {faer:.0} | {matrixmultiply:.0} |");
    }
}
