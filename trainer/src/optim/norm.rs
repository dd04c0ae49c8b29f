//! The Euclidean norm of a gradient, in f64 and in a fixed order.

/// Values summed before they join the total.
const BLOCK: usize = 4096;
/// Running sums within a block.
const LANES: usize = 8;

/// The norm, the same bits for any number of threads and ranks.
pub fn grad_norm(grad: &[f32]) -> f64 {
    sum_squares(grad).sqrt()
}

/// The sum of squares, the same bits for any number of threads and ranks.
pub fn sum_squares(grad: &[f32]) -> f64 {
    grad.chunks(BLOCK).map(block_sum).sum()
}

fn block_sum(block: &[f32]) -> f64 {
    let mut lanes = [0.0f64; LANES];
    let (chunks, rest) = block.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(value) * f64::from(value);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane += f64::from(value) * f64::from(value);
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the norm is right for any length. Method: known sums, and squares that overflow f32.
    #[test]
    fn norms() {
        assert_eq!(grad_norm(&[]), 0.0);
        assert_eq!(grad_norm(&[3.0, -4.0]), 5.0);
        assert_eq!(grad_norm(&vec![1.0; 10_000]), 100.0);
        assert!((grad_norm(&[3e30, 4e30]) / 5e30 - 1.0).abs() < 1e-6);
        assert!(grad_norm(&[f32::NAN]).is_nan());
    }
}
