//! AdamW with decoupled weight decay, in the order of operations of `torch.optim.AdamW`.

use crate::model::layout::ParamLayout;

/// The constants of AdamW.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay rates of the two moments.
    pub betas: (f64, f64),
    /// Added to the denominator.
    pub eps: f64,
    /// Decoupled weight decay, for entries that decay.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        Self { betas: (0.9, 0.999), eps: 1e-8, weight_decay: 0.0 }
    }
}

/// One entry's scalars, at f32 as PyTorch applies them to f32 tensors.
struct Scalars {
    keep: f32,
    rise1: f32,
    beta2: f32,
    rise2: f32,
    root_bc2: f32,
    eps: f32,
    step_size: f32,
    grad_scale: f32,
}

impl AdamW {
    /// Update `t` (from 1) at learning rate `lr`; the gradient is `grad * grad_scale`. All slices have the length
    /// of the layout.
    #[allow(clippy::too_many_arguments)]
    pub fn step(
        &self,
        params: &mut [f32],
        grad: &[f32],
        m: &mut [f32],
        v: &mut [f32],
        layout: &ParamLayout,
        t: u64,
        lr: f64,
        grad_scale: f32,
    ) {
        let lens = [params.len(), grad.len(), m.len(), v.len()];
        assert!(lens.iter().all(|&len| len == layout.total), "slices of {lens:?} values, a layout of {}", layout.total);
        let (beta1, beta2) = self.betas;
        let power = |beta: f64| 1.0 - beta.powf(t as f64);
        for entry in &layout.entries {
            let scalars = Scalars {
                keep: if entry.decay { (1.0 - lr * self.weight_decay) as f32 } else { 1.0 },
                rise1: (1.0 - beta1) as f32,
                beta2: beta2 as f32,
                rise2: (1.0 - beta2) as f32,
                root_bc2: power(beta2).sqrt() as f32,
                eps: self.eps as f32,
                step_size: (lr / power(beta1)) as f32,
                grad_scale,
            };
            let at = entry.offset..entry.offset + entry.len;
            update(&scalars, &mut params[at.clone()], &grad[at.clone()], &mut m[at.clone()], &mut v[at]);
        }
    }
}

fn update(scalars: &Scalars, params: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32]) {
    for (((param, &grad), m), v) in params.iter_mut().zip(grad).zip(m).zip(v) {
        let grad = grad * scalars.grad_scale;
        *param *= scalars.keep;
        *m += scalars.rise1 * (grad - *m);
        *v = *v * scalars.beta2 + scalars.rise2 * grad * grad;
        let denominator = v.sqrt() / scalars.root_bc2 + scalars.eps;
        *param -= scalars.step_size * (*m / denominator);
    }
}
