use serde_json::json;

use super::*;
use crate::model::pooling::PoolingMode;
use crate::model::safetensors::{NewData, NewTensor, SafeTensorsFile, write};
use crate::model::testing::SmallFolder;
use crate::model::tokenizer::Prompt;

fn open_error(folder: &SmallFolder, change: impl FnOnce(&Path)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = folder.write(dir.path());
    change(&path);
    ModelFolder::open(&path).and_then(|folder| folder.load_params()).unwrap_err().to_string()
}

/// Goal: pooling, normalisation and limits come from the folder's own files, in both layouts. Method: one folder in each.
#[test]
fn both_layouts_say_the_same() {
    for small in [SmallFolder::bge(), SmallFolder::new_layout()] {
        let dir = tempfile::tempdir().unwrap();
        let folder = ModelFolder::open(&small.write(dir.path())).unwrap();
        assert_eq!(folder.pooling, Pooling { mode: PoolingMode::Cls, normalize: true, include_prompt: true });
        assert_eq!(folder.max_seq_length, 10);
        assert_eq!(folder.warnings, Vec::<String>::new());
        let params = folder.load_params().unwrap();
        assert_eq!(params.len(), folder.layout.total);
        let entry = folder.layout.entry("embeddings.word_embeddings.weight").unwrap();
        assert_eq!(params[entry.offset], -0.5);
        let tokens = folder.tokenizer(8).unwrap().encode("What is a Café?", &Prompt::none()).unwrap();
        assert_eq!(tokens, [2, 5, 6, 7, 8, 11, 3]);
    }
}

/// Goal: a folder that says nothing about pooling gets the mean and a warning. Method: no modules.json.
#[test]
fn a_bare_transformer_is_warned_of() {
    let mut small = SmallFolder::bge();
    small.modules = Value::Null;
    let dir = tempfile::tempdir().unwrap();
    let folder = ModelFolder::open(&small.write(dir.path())).unwrap();
    assert_eq!(folder.pooling, Pooling::mean());
    assert!(folder.warnings[0].contains("mean pooling"), "{:?}", folder.warnings);
}

/// Goal: the limit follows sentence_bert_config.json, then tokenizer_config.json, capped by the positions. Method: each in turn.
#[test]
fn limits_are_found_in_order() {
    for (transformer, tokenizer, expected) in [
        (json!(7), json!(12), 7),
        (json!(700), json!(12), 16),
        (json!(null), json!(12), 12),
        (json!(null), json!(1e30), 16),
        (json!(null), json!(null), 16),
    ] {
        let mut small = SmallFolder::bge();
        small.transformer_settings["max_seq_length"] = transformer;
        small.tokenizer_config["model_max_length"] = tokenizer;
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ModelFolder::open(&small.write(dir.path())).unwrap().max_seq_length, expected);
    }
}

/// Goal: prefixes, BERT's first LayerNorm names, other tasks' heads and split files all load to the same weights.
/// Method: write the same values in each form and compare the vectors.
#[test]
fn stored_names_may_differ() {
    let dir = tempfile::tempdir().unwrap();
    let plain = ModelFolder::open(&SmallFolder::bge().write(dir.path())).unwrap().load_params().unwrap();
    for prefix in ["bert.", "0.model."] {
        let mut small = SmallFolder::bge();
        small.prefix = prefix;
        let dir = tempfile::tempdir().unwrap();
        let path = small.write(dir.path());
        assert_eq!(ModelFolder::open(&path).unwrap().load_params().unwrap(), plain);
        let source = SafeTensorsFile::open(&path.join("model.safetensors")).unwrap();
        let mut parts: [Vec<NewTensor<'_>>; 2] = Default::default();
        let mut map = serde_json::Map::new();
        for (index, (name, info)) in source.tensors().iter().enumerate() {
            let name_then = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
            let data = NewData::Raw(info.dtype.clone(), source.read_raw(name).unwrap());
            map.insert(name_then.clone(), format!("part{}.safetensors", index % 2).into());
            parts[index % 2].push(NewTensor { name: name_then, shape: info.shape.clone(), data });
        }
        let head = NewData::F32(vec![1.0].into());
        parts[0].push(NewTensor { name: "cls.predictions.bias".into(), shape: vec![1], data: head });
        std::fs::remove_file(path.join("model.safetensors")).unwrap();
        for (index, part) in parts.iter().enumerate() {
            write(&path.join(format!("part{index}.safetensors")), part).unwrap();
        }
        std::fs::write(path.join("model.safetensors.index.json"), json!({"weight_map": map}).to_string()).unwrap();
        let folder = ModelFolder::open(&path).unwrap();
        assert_eq!(folder.load_params().unwrap(), plain);
        assert!(folder.warnings[0].contains("cls.predictions.bias"), "{:?}", folder.warnings);
    }
}

/// Goal: settings that Artel does not compute are refused by name, not skipped. Method: one change each.
#[test]
fn unknown_settings_are_refused_by_name() {
    type Change = fn(&mut SmallFolder);
    let cases: [(Change, &str); 13] = [
        (|f| f.modules[2]["type"] = "sentence_transformers.models.Dense".into(), "models.Dense"),
        (|f| f.modules[0]["type"] = "custom_st.Transformer".into(), "custom_st.Transformer"),
        (|f| f.modules.as_array_mut().unwrap().swap(1, 2), "in this order"),
        (|f| f.modules[1]["path"] = "../1_Pooling".into(), "leads out"),
        (|f| f.modules[1]["path"] = "/etc".into(), "leads out"),
        (|f| f.modules = json!({}), "expected a list"),
        (|f| f.config["position_embedding_type"] = "relative_key".into(), "relative_key"),
        (|f| f.pooling["pooling_mode_mean_tokens"] = true.into(), "cls, mean"),
        (|f| f.transformer_settings["transformer_task"] = "fill-mask".into(), "fill-mask"),
        (|f| f.transformer_settings["query_length"] = 32.into(), "query_length"),
        (|f| f.settings["model_type"] = "SparseEncoder".into(), "SparseEncoder"),
        (|f| f.vocab.push("more".into()), "14 words"),
        (|f| f.tokenizer_config["tokenizer_class"] = "XLMRobertaTokenizer".into(), "XLMRobertaTokenizer"),
    ];
    for (change, expected) in cases {
        let mut small = SmallFolder::bge();
        change(&mut small);
        let error = open_error(&small, |_| ());
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

/// Goal: missing and damaged files are refused, and the message says what to do. Method: one harm each.
#[test]
fn damaged_folders_are_refused() {
    let small = SmallFolder::bge();
    let remove = |name: &'static str| move |path: &Path| std::fs::remove_file(path.join(name)).unwrap();
    assert!(open_error(&small, remove("config.json")).contains("config.json"));
    assert!(open_error(&small, remove("vocab.txt")).contains("no tokenizer"));
    assert!(open_error(&small, remove("1_Pooling/config.json")).contains("1_Pooling"));
    assert!(open_error(&small, remove("model.safetensors")).contains("no model.safetensors"));
    let error = open_error(&small, |path| {
        std::fs::rename(path.join("model.safetensors"), path.join("pytorch_model.bin")).unwrap();
    });
    assert!(error.contains("pickle") && error.contains("save_pretrained"), "{error}");
    let error = open_error(&small, |path| small.write_weights(path, |name| name != "encoder.layer.1.output.dense.bias"));
    assert!(error.contains("encoder.layer.1.output.dense.bias"), "{error}");
    let error = open_error(&small, |path| {
        let text = std::fs::read_to_string(path.join("config.json")).unwrap();
        std::fs::write(path.join("config.json"), text.replace("\"intermediate_size\":20", "\"intermediate_size\":24")).unwrap();
    });
    assert!(error.contains("[20, 12]") && error.contains("[24, 12]"), "{error}");
    let error = open_error(&small, |path| {
        let text = std::fs::read_to_string(path.join("config.json")).unwrap();
        std::fs::write(path.join("config.json"), text.replace("\"num_hidden_layers\":2", "\"num_hidden_layers\":1")).unwrap();
    });
    assert!(error.contains("encoder.layer.1."), "{error}");
    for value in [f32::NAN, f32::NEG_INFINITY] {
        let error = open_error(&small, |path| poison(&path.join("model.safetensors"), value));
        assert!(error.contains(&value.to_string()) && error.contains("encoder.layer.0.output.dense.weight"), "{error}");
    }
    assert!(ModelFolder::open(Path::new("/nowhere")).unwrap_err().to_string().contains("not a folder"));
}

/// Overwrites one weight in place.
fn poison(path: &Path, value: f32) {
    let file = SafeTensorsFile::open(path).unwrap();
    let mut tensors = Vec::new();
    for (name, info) in file.tensors() {
        let mut bytes = file.read_raw(name).unwrap();
        if name == "encoder.layer.0.output.dense.weight" {
            bytes[40..44].copy_from_slice(&value.to_le_bytes());
        }
        tensors.push(NewTensor { name: name.clone(), shape: info.shape.clone(), data: NewData::Raw(info.dtype.clone(), bytes) });
    }
    write(path, &tensors).unwrap();
}
