//! The encoder by the GPU's kernels, run on the CPU, against the encoder in f64 and PyTorch's goldens.

use super::goldens::{golden, loss_gradient};
use super::*;
use crate::gpu::{DeviceBatch, Place, Weights, emulated};

/// [`forward_backward`] on the emulated GPU, with f32 parameters.
fn on_gpu(
    encoder: &Encoder,
    params: &Tensor,
    batch: &PackedBatch,
    dropout: Option<&Dropout>,
    d: impl FnOnce(&Tensor) -> Tensor,
) -> (Tensor, Vec<f64>) {
    let gpu = emulated::gpu();
    let weights = Weights::new(&gpu, encoder.layout()).unwrap();
    weights.update(&gpu, params).unwrap();
    let on_device = DeviceBatch::new(&gpu, batch, encoder.config(), encoder.pooling()).unwrap();
    let place = Place { gpu: &gpu, batch: &on_device, weights: &weights };
    let pass = encoder.pass(params, batch, dropout).unwrap().on(place);
    let mut ws = Workspace::new();

    let passing = pass.room(false, &mut ws).unwrap();
    pass.forward(&passing, &mut ws).unwrap();
    let alone = values(&passing.embeddings);
    let acts = pass.room(true, &mut ws).unwrap();
    pass.forward(&acts, &mut ws).unwrap();
    let embeddings = acts.embeddings.copy().unwrap();
    assert_eq!(values(&embeddings), alone, "a forward that keeps nothing differs");
    let grad = params.zeros_like().unwrap();
    pass.backward(acts, &d(&embeddings), &grad, &mut ws).unwrap();
    (embeddings, values(&grad))
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / (norm(a) * norm(b)).max(1e-30)
}

/// A BERT that the kernels take: `heads` of `size` features.
fn config(heads: usize, size: usize, hidden_act: Activation) -> BertConfig {
    BertConfig {
        hidden_size: heads * size,
        num_attention_heads: heads,
        intermediate_size: 2 * heads * size + 6,
        max_position_embeddings: 200,
        layer_norm_eps: 1e-12,
        ..small_config(hidden_act)
    }
}

/// Compares the emulated GPU with the CPU in f64: every parameter's gradient by itself.
fn compare(config: BertConfig, pooling: Pooling, lengths: &[usize], p: f32) {
    let encoder = encoder(config, pooling);
    // smaller than in a trained model, so that no softmax or activation saturates and rounding is not blown up
    let params = (random_params(&encoder, 5, DType::F64) * 0.4).unwrap();
    let batch = batch_of(encoder.config(), lengths);
    let dropout = (p > 0.0).then(|| dropout(p));
    let h = encoder.config().hidden_size;
    let d = Tensor::new(numbers(3, lengths.len() * h), &Device::Cpu).unwrap().reshape((lengths.len(), h)).unwrap();
    let (expected, expected_grad) = forward_backward(&encoder, &params, &batch, dropout.as_ref(), |_| d.clone());
    let params = params.to_dtype(DType::F32).unwrap();
    let (found, grad) = on_gpu(&encoder, &params, &batch, dropout.as_ref(), |_| d.to_dtype(DType::F32).unwrap());
    for (sequence, (a, b)) in values(&found).chunks_exact(h).zip(values(&expected).chunks_exact(h)).enumerate() {
        // a prompt that fills its sequence leaves nothing to pool
        if norm(b) == 0.0 {
            assert_eq!(norm(a), 0.0, "sequence {sequence}");
            continue;
        }
        assert!(cosine(a, b) > 0.999, "sequence {sequence}: {}", cosine(a, b));
        assert!((norm(a) / norm(b) - 1.0).abs() < 0.01, "sequence {sequence}: {} {}", norm(a), norm(b));
    }
    for entry in &encoder.layout().entries {
        let (a, b) = (&grad[entry.range()], &expected_grad[entry.range()]);
        // a key's bias has none but by rounding: the softmax does not see it
        if entry.name.ends_with("key.bias") {
            continue;
        }
        let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let (cosine, ratio) = (cosine(a, b), norm(a) / norm(b));
        assert!(cosine > 0.995 && (ratio - 1.0).abs() < 0.03, "{}: cosine {cosine}, norms {ratio}, worst {worst:e}", entry.name);
    }
}

/// Goal: every kernel computes what the CPU does, whatever the shapes: sequences shorter, as long as and longer than tiles, widths that
/// fill a warp's rows and that do not, every activation and pooling, masks of dropout bit for bit. Method: against the encoder in f64.
#[test]
fn shapes() {
    let lengths = [1, 63, 64, 65, 130, 7];
    let mean = pooling(PoolingMode::Mean, true);
    compare(config(2, 16, Activation::Gelu), mean, &lengths, 0.0);
    compare(config(4, 32, Activation::GeluTanh), pooling(PoolingMode::Cls, true), &lengths, 0.0);
    compare(config(3, 64, Activation::Silu), pooling(PoolingMode::Mean, false), &[5, 17], 0.0);
    compare(config(2, 16, Activation::Relu), Pooling { include_prompt: false, ..mean }, &[1, 9, 40], 0.0);
    compare(config(2, 32, Activation::Gelu), pooling(PoolingMode::Max, true), &[3, 12], 0.0);
    // with h a multiple of 128, and not
    compare(config(4, 32, Activation::Gelu), mean, &lengths, 0.1);
    compare(config(3, 16, Activation::Gelu), mean, &lengths, 0.3);
}

/// Goal: in bf16 the goldens hold within what is promised for a GPU. Method: MiniLM's embeddings, loss and whole gradient against PyTorch's
/// in f64.
#[test]
fn goldens() {
    let Some(golden) = golden(DType::F32) else { return };
    let mut loss = 0.0;
    let (found, grad) = on_gpu(&golden.encoder, &golden.params, &golden.batch, None, |embeddings| {
        let (value, d) = loss_gradient(embeddings, &[384, 256, 128, 64]);
        loss = value;
        d
    });
    let expected = [&golden.tensors["emb_anchor_f64"], &golden.tensors["emb_positive_f64"]].map(values).concat();
    let (found, h) = (values(&found), 384);
    let least = found.chunks_exact(h).zip(expected.chunks_exact(h)).map(|(a, b)| cosine(a, b)).fold(1.0, f64::min);
    let expected_loss = golden.figures["loss"]["mat_f64"].as_f64().unwrap();

    let params = golden.params.to_dtype(DType::F64).unwrap();
    let exact = |embeddings: &Tensor| loss_gradient(embeddings, &[384, 256, 128, 64]).1;
    let (_, expected_grad) = forward_backward(&golden.encoder, &params, &golden.batch, None, exact);
    let (cosine, ratio) = (cosine(&grad, &expected_grad), norm(&grad) / norm(&expected_grad));
    println!("bf16: embeddings' least cosine {least}, loss {loss} of {expected_loss}, gradient's cosine {cosine}, norms {ratio}");
    assert!(least > 0.999 && (loss / expected_loss - 1.0).abs() < 0.02);
    assert!(cosine > 0.99 && (ratio - 1.0).abs() < 0.03);
}
