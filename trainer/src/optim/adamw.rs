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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::model::config::{Activation, BertConfig};

    fn layout() -> ParamLayout {
        ParamLayout::bert(&BertConfig {
            vocab_size: 3,
            hidden_size: 2,
            num_hidden_layers: 1,
            num_attention_heads: 1,
            intermediate_size: 3,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-12,
            max_position_embeddings: 4,
            type_vocab_size: 1,
            hidden_dropout_prob: 0.0,
            attention_probs_dropout_prob: 0.0,
            pad_token_id: 0,
        })
    }

    /// The values that the fixture was made with.
    fn values(len: usize, seed: i64) -> Vec<f32> {
        let value = |i: i64| (((i * 7919 + seed * 104_729 + i * seed * 613) % 2003 - 1001) as f64 / 1001.0) as f32;
        (0..len as i64).map(value).collect()
    }

    /// Goal: updates are `torch.optim.AdamW`'s, decayed and not, the first at learning rate 0. Method: twelve updates
    /// against a fixture made by tests/tools/adamw_figures.py.
    #[test]
    fn updates_of_torch() {
        let fixture: Value = serde_json::from_str(include_str!("../../fixtures/adamw.json")).unwrap();
        let layout = layout();
        let adamw = AdamW { weight_decay: 0.1, ..AdamW::default() };
        let mut params = values(layout.total, 0);
        let (mut m, mut v) = (vec![0.0; layout.total], vec![0.0; layout.total]);
        for step in 1..=12 {
            let size = 10f64.powi(-(step % 5)) as f32;
            let grad: Vec<f32> = values(layout.total, i64::from(step)).iter().map(|value| value * size).collect();
            adamw.step(&mut params, &grad, &mut m, &mut v, &layout, step as u64, 0.01 * f64::from(step - 1) / 4.0, 0.37);
        }
        assert!(layout.entries.iter().any(|entry| entry.decay) && layout.entries.iter().any(|entry| !entry.decay));
        for entry in &layout.entries {
            let run = &fixture[if entry.decay { "decay" } else { "plain" }];
            for i in entry.offset..entry.offset + entry.len {
                for (got, name, size) in [(params[i], "params", 1.0), (m[i], "m", 1e-3), (v[i], "v", 1e-3)] {
                    let expected = run[name][i].as_f64().unwrap();
                    let error = (f64::from(got) - expected).abs();
                    assert!(error <= 1e-6 * expected.abs().max(size), "{name} {i} ({}): {got}, expected {expected}", entry.name);
                }
            }
        }
    }

    /// Goal: at learning rate 0 only the moments move. Method: one update.
    #[test]
    fn learning_rate_zero() {
        let layout = layout();
        let before = values(layout.total, 1);
        let (mut params, mut m, mut v) = (before.clone(), vec![0.0; layout.total], vec![0.0; layout.total]);
        AdamW { weight_decay: 1.0, ..AdamW::default() }.step(
            &mut params,
            &vec![1.0; layout.total],
            &mut m,
            &mut v,
            &layout,
            1,
            0.0,
            1.0,
        );
        assert!(params == before && m.iter().all(|&m| m > 0.0) && v.iter().all(|&v| v > 0.0));
    }
}
