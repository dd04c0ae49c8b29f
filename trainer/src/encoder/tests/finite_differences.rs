//! Every parameter's gradient against central differences in f64.

use super::*;

/// The weighted sum of all embeddings, a loss whose gradient in them is `weights`.
fn loss(encoder: &Encoder, params: &Tensor, batch: &PackedBatch, dropout: Option<&Dropout>, weights: &[f64]) -> f64 {
    let (embeddings, _) = encoder.forward(params, batch, dropout, false, &mut Workspace::new()).unwrap();
    values(&embeddings).iter().zip(weights).map(|(x, w)| x * w).sum()
}

/// Checks every element of every parameter.
fn check(encoder: &Encoder, lengths: &[usize], dropout: Option<&Dropout>) {
    let batch = batch_of(encoder.config(), lengths);
    let params = random_params(encoder, 5, DType::F64);
    let weights = numbers(9, lengths.len() * encoder.config().hidden_size);
    let shape = (lengths.len(), encoder.config().hidden_size);
    let d = |_: &Tensor| Tensor::from_slice(&weights, shape, &Device::Cpu).unwrap();
    let (_, grad) = forward_backward(encoder, &params, &batch, dropout, d);
    let base = values(&params);
    let step = 2e-6;
    for entry in &encoder.layout().entries {
        let mut difference = Vec::new();
        for index in entry.range() {
            let [up, down] = [step, -step].map(|shift| {
                let mut moved = base.clone();
                moved[index] += shift;
                loss(encoder, &Tensor::new(moved, &Device::Cpu).unwrap(), &batch, dropout, &weights)
            });
            difference.push((up - down) / (2.0 * step) - grad[index]);
        }
        let (error, size) = (norm(&difference), norm(&grad[entry.range()]));
        assert!(error <= 1e-6 * size + 1e-7, "{:?} {}: error {error:e} of {size:e}", encoder.pooling(), entry.name);
        let may_vanish = entry.name.ends_with("key.bias");
        assert!(may_vanish || size > 1e-6, "{}: gradient {size:e}", entry.name);
    }
}

/// Goal: the backward of every layer is the forward's derivative. Method: central differences, each pooling, dropout on.
#[test]
fn every_pooling() {
    for mode in [PoolingMode::Cls, PoolingMode::Mean, PoolingMode::Max] {
        for include_prompt in [true, false] {
            let pooling = Pooling { mode, normalize: include_prompt, include_prompt };
            check(&encoder(small_config(Activation::Gelu), pooling), &[4, 2, 7], Some(&dropout(0.2)));
        }
    }
}

/// Goal: the same for the other activations. Method: central differences without dropout.
#[test]
fn every_activation() {
    for kind in [Activation::GeluTanh, Activation::Relu, Activation::Silu] {
        check(&encoder(small_config(kind), pooling(PoolingMode::Mean, true)), &[3, 5], None);
    }
}

/// Goal: sequences of several query blocks have right gradients too. Method: a length beyond one block, dropout on,
/// central differences along random directions of all parameters.
#[test]
fn long_sequences() {
    let mut config = small_config(Activation::Gelu);
    config.max_position_embeddings = 300;
    let encoder = encoder(config, pooling(PoolingMode::Mean, true));
    let batch = batch_of(encoder.config(), &[290, 3, 131]);
    let params = random_params(&encoder, 5, DType::F64);
    let weights = numbers(9, 3 * 12);
    let dropout = dropout(0.1);
    let d = |_: &Tensor| Tensor::from_slice(&weights, (3, 12), &Device::Cpu).unwrap();
    let (_, grad) = forward_backward(&encoder, &params, &batch, Some(&dropout), d);
    for entry in &encoder.layout().entries {
        let mut direction = vec![0.0; grad.len()];
        direction[entry.range()].copy_from_slice(&numbers(entry.offset as u64 + 1, entry.len));
        let expected: f64 = direction.iter().zip(&grad).map(|(a, b)| a * b).sum();
        let step = 1e-6;
        let [up, down] = [step, -step].map(|shift| {
            let moved = (&params + (Tensor::new(direction.as_slice(), &Device::Cpu).unwrap() * shift).unwrap()).unwrap();
            loss(&encoder, &moved, &batch, Some(&dropout), &weights)
        });
        let found = (up - down) / (2.0 * step);
        assert!((found - expected).abs() < 1e-6 * norm(&grad[entry.range()]) + 1e-7, "{}: {found} {expected}", entry.name);
    }
}
