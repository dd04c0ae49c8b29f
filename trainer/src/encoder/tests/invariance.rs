//! What must not change the result, to the bit.

use super::*;

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

fn setup() -> (Encoder, Tensor, PackedBatch) {
    let encoder = encoder(small_config(Activation::Gelu), pooling(PoolingMode::Mean, true));
    let params = random_params(&encoder, 3, DType::F32);
    let batch = batch_of(encoder.config(), &[5, 11, 1, 7]);
    (encoder, params, batch)
}

/// Goal: keeping activations changes no bit, nor does a used workspace or a second run. Method: compare bits.
#[test]
fn keep_and_workspace_do_not_matter() {
    let (encoder, params, batch) = setup();
    let dropout = dropout(0.1);
    let mut ws = Workspace::new();
    let (kept, _) = encoder.forward(&params, &batch, Some(&dropout), true, &mut ws).unwrap();
    let (not_kept, none) = encoder.forward(&params, &batch, Some(&dropout), false, &mut ws).unwrap();
    assert!(none.is_none());
    assert_eq!(bits(&kept), bits(&not_kept));
    let d = |embeddings: &Tensor| embeddings.affine(2.0, 0.5).unwrap();
    let (_, first) = forward_backward(&encoder, &params, &batch, Some(&dropout), d);
    let grad = params.zeros_like().unwrap();
    for _ in 0..2 {
        let (embeddings, acts) = encoder.forward(&params, &batch, Some(&dropout), true, &mut ws).unwrap();
        let grad = params.zeros_like().unwrap();
        encoder.backward(&params, &batch, acts.unwrap(), &d(&embeddings), Some(&dropout), &grad, &mut ws).unwrap();
        assert_eq!(values(&grad), first);
    }
    assert_eq!(values(&grad).iter().sum::<f64>(), 0.0);
}

/// Goal: a sequence's mask, and but for rounding its embedding, does not depend on where it is packed. Method: the same
/// sequences in reverse order, with strong dropout.
#[test]
fn packing_order_does_not_matter() {
    let (encoder, params, batch) = setup();
    let params = params.to_dtype(DType::F64).unwrap();
    let mut reversed = PackedBatch::new();
    for index in (0..batch.num_sequences()).rev() {
        let rows = batch.rows(index);
        reversed.push(batch.keys[index], &batch.ids[rows.clone()], batch.prompt_lens[index]);
        let start = reversed.num_tokens() - rows.len();
        reversed.type_ids[start..].copy_from_slice(&batch.type_ids[rows]);
    }
    let dropout = dropout(0.5);
    let run = |batch: &PackedBatch| encoder.forward(&params, batch, Some(&dropout), false, &mut Workspace::new()).unwrap().0;
    let (forwards, mut backwards) = (run(&batch).to_vec2::<f64>().unwrap(), run(&reversed).to_vec2::<f64>().unwrap());
    backwards.reverse();
    for (a, b) in forwards.iter().flatten().zip(backwards.iter().flatten()) {
        assert!((a - b).abs() < 1e-12, "{a} {b}");
    }
    let other_step = Dropout { key: DropoutKey { seed: 42, step: 8 }, ..dropout };
    let (other, _) = encoder.forward(&params, &batch, Some(&other_step), false, &mut Workspace::new()).unwrap();
    assert_ne!(other.to_vec2::<f64>().unwrap(), forwards);
}

/// Goal: a gradient is added, not set. Method: two backwards into one vector give the sum of two.
#[test]
fn gradients_are_added() {
    let (encoder, params, batch) = setup();
    let d = |embeddings: &Tensor| embeddings.affine(2.0, 0.5).unwrap();
    let (_, once) = forward_backward(&encoder, &params, &batch, None, d);
    let mut ws = Workspace::new();
    let grad = params.zeros_like().unwrap();
    for _ in 0..2 {
        let (embeddings, acts) = encoder.forward(&params, &batch, None, true, &mut ws).unwrap();
        encoder.backward(&params, &batch, acts.unwrap(), &d(&embeddings), None, &grad, &mut ws).unwrap();
    }
    let difference: Vec<f64> = values(&grad).iter().zip(&once).map(|(twice, once)| twice - 2.0 * once).collect();
    assert!(norm(&difference) < 1e-6 * norm(&once));
}

/// Goal: bad input is an error with a message, an empty batch is none. Method: one fault at a time.
#[test]
fn bad_input_is_refused() {
    let (encoder, params, batch) = setup();
    let refused = |change: &dyn Fn(&mut PackedBatch), expected: &str| {
        let mut changed = batch.clone();
        change(&mut changed);
        let error = encoder.forward(&params, &changed, None, false, &mut Workspace::new()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(&|batch| batch.ids[3] = 19, "token id 19 lies outside the model's 19");
    refused(&|batch| batch.type_ids[3] = 2, "token type 2");
    refused(&|batch| batch.push(SampleKey { sample: 0, column: 0 }, &[1; 12], 0), "12 tokens is longer than the model's 11");
    refused(&|batch| batch.cu_seqlens[1] = 0, "sequence 0 has no token");
    let wrong = Dropout { hidden: 1.0, ..dropout(0.1) };
    assert!(encoder.forward(&params, &batch, Some(&wrong), false, &mut Workspace::new()).is_err());
    let half = params.to_dtype(DType::F16).unwrap();
    assert!(encoder.forward(&half, &batch, None, false, &mut Workspace::new()).is_err());
    let (nothing, _) = encoder.forward(&params, &PackedBatch::new(), None, false, &mut Workspace::new()).unwrap();
    assert_eq!(nothing.dims(), [0, 12]);
}

/// Goal: the memory model's figure is what is held. Method: the elements of all views that a forward leaves.
#[test]
fn activation_bytes_are_what_is_held() {
    let (encoder, params, batch) = setup();
    let (_, acts) = encoder.forward(&params, &batch, None, true, &mut Workspace::new()).unwrap();
    let acts = acts.unwrap();
    let of_layer = |layer: &crate::encoder::activations::LayerActivations| {
        let crate::encoder::activations::LayerActivations { qkv, log_sums, context, attention_sum, intermediate, output_sum } =
            layer;
        [qkv, log_sums, context, attention_sum, intermediate, output_sum].map(Tensor::elem_count).iter().sum::<usize>()
    };
    let held = acts.layers.iter().map(of_layer).sum::<usize>() + acts.hidden.elem_count();
    assert_eq!(held * size_of::<f32>(), encoder.activation_bytes(batch.num_tokens()));
}
