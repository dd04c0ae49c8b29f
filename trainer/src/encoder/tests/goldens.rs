//! MiniLM with its real weights against PyTorch: embeddings and gradients (dropout 0).

use std::collections::HashMap;
use std::path::PathBuf;

use serde_json::Value;

use super::*;

/// The folders of the goldens and of the model, where the environment names them.
fn folders() -> Option<(PathBuf, PathBuf)> {
    let find = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.exists());
    match (find("ARTEL_SHARED"), find("ARTEL_MINILM")) {
        (Some(shared), Some(model)) => Some((shared.join("golden"), model)),
        (None, _) => {
            println!("skipped: the goldens are read from ARTEL_SHARED, and ARTEL_SHARED not set");
            None
        }
        (_, None) => {
            println!("skipped: MiniLM's weights are read from ARTEL_MINILM, and ARTEL_MINILM not set");
            None
        }
    }
}

fn tensors(path: PathBuf) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

pub(super) struct Golden {
    pub(super) encoder: Encoder,
    pub(super) params: Tensor,
    /// Anchors, then positives.
    pub(super) batch: PackedBatch,
    pub(super) figures: Value,
    pub(super) tensors: HashMap<String, Tensor>,
}

pub(super) fn golden(dtype: DType) -> Option<Golden> {
    let (folder, model) = folders()?;
    let config = BertConfig::read(&model.join("config.json")).unwrap();
    let encoder = encoder(config, pooling(PoolingMode::Mean, true));
    let weights = tensors(model.join("model.safetensors"));
    let flat: Vec<Tensor> = encoder
        .layout()
        .entries
        .iter()
        .map(|entry| weights[&entry.name].flatten_all().unwrap().to_dtype(dtype).unwrap())
        .collect();
    let params = Tensor::cat(&flat, 0).unwrap();
    let figures: Value = serde_json::from_slice(&std::fs::read(folder.join("golden.json")).unwrap()).unwrap();
    let mut batch = PackedBatch::new();
    for (column, name) in ["anchor", "positive"].into_iter().enumerate() {
        let features = &figures["features"][name];
        let rows = features["input_ids"].as_array().unwrap().iter().zip(features["attention_mask"].as_array().unwrap());
        for (sample, (ids, mask)) in rows.enumerate() {
            let len = mask.as_array().unwrap().iter().filter(|x| x.as_u64() == Some(1)).count();
            let ids: Vec<u32> = ids.as_array().unwrap()[..len].iter().map(|id| id.as_u64().unwrap() as u32).collect();
            batch.push(SampleKey { sample: sample as u64, column: column as u32 }, &ids, 0);
        }
    }
    Some(Golden { encoder, params, batch, figures, tensors: tensors(folder.join("tensors.safetensors")) })
}

/// The loss of the 8 pairs and its gradient in their embeddings, by autograd in f64: the sum over dims of the mean over
/// anchors of logsumexp(20 cos) - 20 cos_own.
pub(super) fn loss_gradient(embeddings: &Tensor, dims: &[usize]) -> (f64, Tensor) {
    let all = candle_core::Var::from_tensor(&embeddings.to_dtype(DType::F64).unwrap()).unwrap();
    let pairs = all.dims()[0] / 2;
    let mut total = Tensor::zeros((), DType::F64, &Device::Cpu).unwrap();
    for &dim in dims {
        let cut = all.narrow(1, 0, dim).unwrap();
        let unit = cut.broadcast_div(&cut.sqr().unwrap().sum_keepdim(1).unwrap().sqrt().unwrap()).unwrap();
        let (anchors, positives) = (unit.narrow(0, 0, pairs).unwrap(), unit.narrow(0, pairs, pairs).unwrap());
        let logits = (anchors.matmul(&positives.t().unwrap()).unwrap() * 20.0).unwrap();
        let own = ((anchors * positives).unwrap().sum(1).unwrap() * 20.0).unwrap();
        let log_sums = logits.exp().unwrap().sum(1).unwrap().log().unwrap();
        total = (total + (log_sums - own).unwrap().mean_all().unwrap()).unwrap();
    }
    let d = total.backward().unwrap().get(&all).unwrap().to_dtype(embeddings.dtype()).unwrap();
    (total.to_scalar().unwrap(), d)
}

/// Goal: the embeddings are PyTorch's within 1e-5. Method: the 16 golden texts in one packed batch, f32 and f64.
#[test]
fn embeddings() {
    for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F64, 1e-9)] {
        let Some(golden) = golden(dtype) else { return };
        let (found, _) = golden.encoder.forward(&golden.params, &golden.batch, None, false, &mut Workspace::new()).unwrap();
        let expected = [&golden.tensors["emb_anchor_f64"], &golden.tensors["emb_positive_f64"]].map(values).concat();
        let worst = values(&found).iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        println!("embeddings in {dtype:?}: largest difference {worst:e}");
        assert!(worst < tolerance, "{dtype:?}: {worst:e}");
    }
}

/// Checks every parameter's gradient under one of the golden losses; `relative` bounds |g - g64| / |g64|.
fn check_gradients(golden: &Golden, kind: &str, dims: &[usize], relative: f64) {
    let mut loss = 0.0;
    let (_, grad) = forward_backward(&golden.encoder, &golden.params, &golden.batch, None, |embeddings| {
        let (value, d) = loss_gradient(embeddings, dims);
        loss = value;
        d
    });
    let expected_loss = golden.figures["loss"][format!("{kind}_f64")].as_f64().unwrap();
    assert!((loss - expected_loss).abs() < 1e-5, "{kind}: loss {loss} {expected_loss}");
    let mut worst: f64 = 0.0;
    for entry in &golden.encoder.layout().entries {
        if entry.name.ends_with("key.bias") {
            continue;
        }
        let found = &grad[entry.range()];
        let name = format!("0.model.{}", entry.name);
        let figures = &golden.figures["grad"][format!("{kind}_f64")]["params"][&name];
        let size = figures["l2"].as_f64().unwrap();
        let mut error = (norm(found) - size).abs();
        let part = |key: &str| -> Vec<f64> { figures[key].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect() };
        let (head, tail) = (part("head"), part("tail"));
        let ends = found[..head.len()].iter().zip(&head).chain(found[found.len() - tail.len()..].iter().zip(&tail));
        error = error.max(ends.map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt());
        if let Some(whole) = golden.tensors.get(&format!("grad_{kind}_f64/{name}")) {
            let difference: Vec<f64> = values(whole).iter().zip(found).map(|(a, b)| a - b).collect();
            error = error.max(norm(&difference));
        }
        assert!(error <= relative * size + 1e-6, "{kind} {name}: {error:e} of {size:e}");
        worst = worst.max(error / size);
    }
    println!("gradients of {kind} in {:?}: loss {loss}, largest relative difference {worst:e}", golden.params.dtype());
}

/// Goal: every parameter's gradient is PyTorch's. Method: both golden losses, f32 against the f64 figures at the bound
/// that is promised, and f64 far below it.
#[test]
fn gradients() {
    for (dtype, relative) in [(DType::F32, 1e-4), (DType::F64, 1e-8)] {
        let Some(golden) = golden(dtype) else { return };
        check_gradients(&golden, "mat", &[384, 256, 128, 64], relative);
        check_gradients(&golden, "mnrl", &[384], relative);
    }
}
