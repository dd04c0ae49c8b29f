//! Forward and gradient against a BERT of plain candle operations under candle's autograd, in f64.

use candle_core::{D, Var};

use super::*;

/// One parameter as a view of the flat variable.
fn param(encoder: &Encoder, flat: &Tensor, name: &str) -> Tensor {
    let entry = encoder.layout().entry(name).unwrap();
    flat.narrow(0, entry.offset, entry.len).unwrap().reshape(entry.shape.as_slice()).unwrap()
}

/// By `erf`: the backward of candle's `gelu_erf` has a constant of six digits.
fn gelu(x: &Tensor) -> Tensor {
    let erf = (x * std::f64::consts::FRAC_1_SQRT_2).unwrap().erf().unwrap();
    ((x * (erf + 1.0).unwrap()).unwrap() * 0.5).unwrap()
}

struct Oracle<'a> {
    encoder: &'a Encoder,
    flat: &'a Tensor,
}

impl Oracle<'_> {
    fn get(&self, name: &str) -> Tensor {
        param(self.encoder, self.flat, name)
    }

    fn linear(&self, x: &Tensor, name: &str) -> Tensor {
        let product = x.matmul(&self.get(&format!("{name}.weight")).t().unwrap()).unwrap();
        product.broadcast_add(&self.get(&format!("{name}.bias"))).unwrap()
    }

    fn norm(&self, x: &Tensor, name: &str) -> Tensor {
        let centered = x.broadcast_sub(&x.mean_keepdim(D::Minus1).unwrap()).unwrap();
        let variance = centered.sqr().unwrap().mean_keepdim(D::Minus1).unwrap();
        let deviation = (variance + self.encoder.config().layer_norm_eps).unwrap().sqrt().unwrap();
        let normed = centered.broadcast_div(&deviation).unwrap();
        normed
            .broadcast_mul(&self.get(&format!("{name}.weight")))
            .unwrap()
            .broadcast_add(&self.get(&format!("{name}.bias")))
            .unwrap()
    }

    fn attention(&self, x: &Tensor, prefix: &str) -> Tensor {
        let Heads { num, size } = self.encoder.heads();
        let [q, k, v] = ["query", "key", "value"].map(|which| {
            let all = self.linear(x, &format!("{prefix}.attention.self.{which}"));
            all.reshape(((), num, size)).unwrap().transpose(0, 1).unwrap().contiguous().unwrap()
        });
        let scores = (q.matmul(&k.t().unwrap()).unwrap() / (size as f64).sqrt()).unwrap();
        let exps = scores.exp().unwrap();
        let probabilities = exps.broadcast_div(&exps.sum_keepdim(D::Minus1).unwrap()).unwrap();
        probabilities.matmul(&v).unwrap().transpose(0, 1).unwrap().contiguous().unwrap().flatten_from(1).unwrap()
    }

    /// The embedding of one sequence, [h]: mean pooling, normalised.
    fn embed(&self, ids: &[u32], types: &[u32]) -> Tensor {
        let pick = |name: &str, rows: &[u32]| {
            let rows = Tensor::new(rows, &Device::Cpu).unwrap();
            self.get(&format!("embeddings.{name}_embeddings.weight")).index_select(&rows, 0).unwrap()
        };
        let positions: Vec<u32> = (0..ids.len() as u32).collect();
        let sum = (pick("word", ids) + pick("position", &positions)).unwrap();
        let mut x = self.norm(&(sum + pick("token_type", types)).unwrap(), "embeddings.LayerNorm");
        for layer in 0..self.encoder.config().num_hidden_layers {
            let prefix = format!("encoder.layer.{layer}");
            let output = self.linear(&self.attention(&x, &prefix), &format!("{prefix}.attention.output.dense"));
            let middle = self.norm(&(output + x).unwrap(), &format!("{prefix}.attention.output.LayerNorm"));
            let activated = gelu(&self.linear(&middle, &format!("{prefix}.intermediate.dense")));
            let output = self.linear(&activated, &format!("{prefix}.output.dense"));
            x = self.norm(&(output + middle).unwrap(), &format!("{prefix}.output.LayerNorm"));
        }
        let mean = x.mean(0).unwrap();
        let length = mean.sqr().unwrap().sum_all().unwrap().sqrt().unwrap();
        mean.broadcast_div(&length).unwrap()
    }
}

/// Goal: forward and gradient are BERT's. Method: the same in plain candle operations, a sequence at a time, in f64.
#[test]
fn plain_candle_agrees() {
    let encoder = encoder(small_config(Activation::Gelu), pooling(PoolingMode::Mean, true));
    let params = random_params(&encoder, 8, DType::F64);
    let batch = batch_of(encoder.config(), &[4, 11, 1, 6]);
    let weights = Tensor::from_vec(numbers(2, 4 * 12), (4, 12), &Device::Cpu).unwrap();
    let (embeddings, grad) = forward_backward(&encoder, &params, &batch, None, |_| weights.clone());

    let flat = Var::from_tensor(&params).unwrap();
    let oracle = Oracle { encoder: &encoder, flat: flat.as_tensor() };
    let rows: Vec<Tensor> = (0..4).map(|i| oracle.embed(&batch.ids[batch.rows(i)], &batch.type_ids[batch.rows(i)])).collect();
    let expected = Tensor::stack(&rows, 0).unwrap();
    let grads = (&expected * &weights).unwrap().sum_all().unwrap().backward().unwrap();
    let expected_grad = values(grads.get(&flat).unwrap());
    for (a, b) in values(&embeddings).iter().zip(values(&expected)) {
        assert!((a - b).abs() < 1e-12, "{a} {b}");
    }
    for entry in &encoder.layout().entries {
        let difference: Vec<f64> = entry.range().map(|i| grad[i] - expected_grad[i]).collect();
        let (error, size) = (norm(&difference), norm(&expected_grad[entry.range()]));
        assert!(error < 1e-9 * size + 1e-12, "{}: {error:e} of {size:e}", entry.name);
    }
}
