//! AdamW with decoupled weight decay, in the order of operations of `torch.optim.AdamW`.

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

/// The scalars of an update, at f32 as PyTorch applies them to f32 tensors.
#[derive(Debug, Clone, Copy)]
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

/// One update, to be applied to all elements, in any order and on any threads.
#[derive(Debug, Clone, Copy)]
pub struct Update {
    plain: Scalars,
    decayed: Scalars,
}

impl AdamW {
    /// Update `t` (from 1) at learning rate `lr`; the gradient is what is given times `grad_scale`.
    pub fn update(&self, t: u64, lr: f64, grad_scale: f32) -> Update {
        let (beta1, beta2) = self.betas;
        let power = |beta: f64| 1.0 - beta.powf(t as f64);
        let plain = Scalars {
            keep: 1.0,
            rise1: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            rise2: (1.0 - beta2) as f32,
            root_bc2: power(beta2).sqrt() as f32,
            eps: self.eps as f32,
            step_size: (lr / power(beta1)) as f32,
            grad_scale,
        };
        Update { plain, decayed: Scalars { keep: (1.0 - lr * self.weight_decay) as f32, ..plain } }
    }
}

impl Update {
    /// The scalars of entries that decay, in the order in which the GPU's kernel has them: 1 - lr decay, 1 - beta1, beta2,
    /// 1 - beta2, root of 1 - beta2^t, eps, lr / (1 - beta1^t).
    pub(crate) fn scalars(&self) -> [f32; 7] {
        let Scalars { keep, rise1, beta2, rise2, root_bc2, eps, step_size, grad_scale: _ } = self.decayed;
        [keep, rise1, beta2, rise2, root_bc2, eps, step_size]
    }

    /// Updates some elements; no gradient is one of zeros. All slices are of one length.
    pub fn apply(&self, decay: bool, params: &mut [f32], grad: Option<&[f32]>, m: &mut [f32], v: &mut [f32]) {
        let lens = [params.len(), grad.map_or(m.len(), <[f32]>::len), m.len(), v.len()];
        assert!(lens.iter().all(|len| *len == lens[0]), "an update of {lens:?} elements");
        let scalars = if decay { &self.decayed } else { &self.plain };
        let elements = params.iter_mut().zip(m).zip(v);
        match grad {
            Some(grad) => elements.zip(grad).for_each(|(((param, m), v), grad)| scalars.one(param, *grad, m, v)),
            None => elements.for_each(|((param, m), v)| scalars.one(param, 0.0, m, v)),
        }
    }
}

impl Scalars {
    #[inline(always)]
    fn one(&self, param: &mut f32, grad: f32, m: &mut f32, v: &mut f32) {
        let grad = grad * self.grad_scale;
        *param *= self.keep;
        *m += self.rise1 * (grad - *m);
        *v = *v * self.beta2 + self.rise2 * grad * grad;
        let denominator = v.sqrt() / self.root_bc2 + self.eps;
        *param -= self.step_size * (*m / denominator);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::model::config::{Activation, BertConfig};
    use crate::model::layout::ParamLayout;

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
            let update = adamw.update(step as u64, 0.01 * f64::from(step - 1) / 4.0, 0.37);
            for entry in &layout.entries {
                let at = entry.range();
                let [params, m, v] = [&mut params, &mut m, &mut v].map(|values| &mut values[at.clone()]);
                update.apply(entry.decay, params, Some(&grad[at]), m, v);
            }
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
        let update = AdamW { weight_decay: 1.0, ..AdamW::default() }.update(1, 0.0, 1.0);
        update.apply(true, &mut params, Some(&vec![1.0; layout.total]), &mut m, &mut v);
        assert!(params == before && m.iter().all(|&m| m > 0.0) && v.iter().all(|&v| v > 0.0));
    }

    /// Goal: no gradient is one of zeros. Method: bits of two updates of a state that has moved.
    #[test]
    fn no_gradient_is_zeros() {
        let update = AdamW { weight_decay: 0.1, ..AdamW::default() }.update(7, 0.01, 0.5);
        let run = |grad: Option<&[f32]>| {
            let (mut params, mut m) = (values(50, 1), values(50, 2));
            let mut v: Vec<f32> = values(50, 3).iter().map(|v| v.abs()).collect();
            update.apply(true, &mut params, grad, &mut m, &mut v);
            [params, m, v]
        };
        assert_eq!(run(None), run(Some(&[0.0; 50])));
    }
}
