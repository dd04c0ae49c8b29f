//! Learning-rate schedules, as `transformers` has them.

use artel_common::spec::SchedulerKind;

/// What the learning rate is multiplied by at a step counted from 0, of `total` steps of which the first
/// `warmup` rise in a line from 0.
pub fn lr_factor(kind: SchedulerKind, step0: u64, warmup: u64, total: u64) -> f64 {
    if step0 < warmup && kind != SchedulerKind::Constant {
        return step0 as f64 / warmup as f64;
    }
    let rest = total.saturating_sub(warmup).max(1) as f64;
    match kind {
        SchedulerKind::Constant | SchedulerKind::ConstantWithWarmup => 1.0,
        SchedulerKind::Linear => total.saturating_sub(step0) as f64 / rest,
        SchedulerKind::Cosine => {
            let progress = (step0.saturating_sub(warmup) as f64 / rest).min(1.0);
            0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
        }
    }
}

/// Steps of warm-up: ceil(total * ratio).
pub fn warmup_steps(total: u64, ratio: f64) -> u64 {
    (total as f64 * ratio).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the curves of PARITY.md. Method: their corners and middles.
    #[test]
    fn curves() {
        use SchedulerKind::{Constant, ConstantWithWarmup, Cosine, Linear};
        let at = |kind, step| lr_factor(kind, step, 10, 110);
        for kind in [Cosine, Linear, ConstantWithWarmup] {
            assert_eq!((at(kind, 0), at(kind, 5), at(kind, 10)), (0.0, 0.5, 1.0));
        }
        assert_eq!((at(Constant, 0), at(Constant, 110)), (1.0, 1.0));
        assert_eq!((at(Linear, 60), at(Linear, 110), at(Linear, 120)), (0.5, 0.0, 0.0));
        assert!((at(Cosine, 60) - 0.5).abs() < 1e-12 && at(Cosine, 110).abs() < 1e-12 && at(Cosine, 500).abs() < 1e-12);
        assert_eq!(at(ConstantWithWarmup, 100), 1.0);
        assert_eq!((warmup_steps(101, 0.1), warmup_steps(100, 0.0), lr_factor(Cosine, 0, 0, 1)), (11, 0, 1.0));
    }
}
