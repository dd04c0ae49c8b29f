use std::collections::BTreeSet;

use super::*;
use crate::model::digest::{weights_digest, weights_digest_of_file};
use crate::model::json::JsonFile;
use crate::model::safetensors::SafeTensorsFile;
use crate::model::testing::SmallFolder;
use crate::model::tokenizer::Prompt;

fn options() -> ExportOptions {
    ExportOptions {
        matryoshka_dims: vec![12, 6],
        max_seq_length: 9,
        query_prompt: "what ".to_owned(),
        passage_prompt: String::new(),
        card: "# card\n".to_owned(),
        replace: false,
    }
}

fn files_of(dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            found.extend(files_of(&entry.path()).into_iter().map(|inner| format!("{name}/{inner}")));
        } else {
            found.insert(name);
        }
    }
    found
}

/// Goal: an export opens as the same model with the new weights, whatever layout and names the base has. Method: write
/// changed weights, open again, and compare weights, pooling, tokens, names, prompts and digests.
#[test]
fn exports_open_as_the_same_model() {
    for (small, prefix) in [(SmallFolder::bge(), "bert."), (SmallFolder::new_layout(), ""), (SmallFolder::bge(), "0.model.")] {
        let mut small = small;
        small.prefix = prefix;
        let dir = tempfile::tempdir().unwrap();
        let base = ModelFolder::open(&small.write(dir.path())).unwrap();
        let params: Vec<f32> = base.load_params().unwrap().iter().map(|value| value * 1.5 + 1e-3).collect();
        let to = dir.path().join("out/model");
        write(&base, &params, &to, &options()).unwrap();
        let again = ModelFolder::open(&to).unwrap();
        assert_eq!(again.warnings, Vec::<String>::new());
        assert!(again.load_params().unwrap().iter().zip(&params).all(|(a, b)| a.to_bits() == b.to_bits()));
        assert_eq!((again.pooling, again.max_seq_length, &again.config), (base.pooling, 9, &base.config));
        assert_eq!((again.prompts.query(), again.prompts.passage()), ("what ", ""));
        assert_eq!(again.tokenizer_digest(), base.tokenizer_digest());
        for text in ["What IS a Café?", "", "hot hot hot hot hot hot hot hot hot hot hot"] {
            let tokens = |folder: &ModelFolder| folder.tokenizer(9).unwrap().encode(text, &Prompt::none()).unwrap();
            assert_eq!(tokens(&again), tokens(&base));
        }
        let names =
            |path: &Path| SafeTensorsFile::open(&path.join("model.safetensors")).unwrap().tensors().keys().cloned().collect();
        let (before, after): (Vec<String>, Vec<String>) = (names(&base.path), names(&to));
        assert_eq!(before, after);
        assert_eq!(weights_digest(&base, &params).unwrap(), weights_digest_of_file(&to.join("model.safetensors")).unwrap());
        let second = dir.path().join("second");
        write(&again, &params, &second, &options()).unwrap();
        for name in files_of(&to) {
            assert_eq!(std::fs::read(to.join(&name)).unwrap(), std::fs::read(second.join(&name)).unwrap(), "{name}");
        }
    }
}

/// Goal: every file that readers look for is there, in the old layout. Method: list the folder and look inside.
#[test]
fn exports_have_every_file() {
    let dir = tempfile::tempdir().unwrap();
    let small = SmallFolder::new_layout();
    let path = small.write(dir.path());
    let made = crate::model::tokenizer_files::TokenizerFiles::read(&path, false).unwrap();
    std::fs::write(path.join("tokenizer.json"), made.effective.to_string()).unwrap();
    std::fs::remove_file(path.join("vocab.txt")).unwrap();
    let base = ModelFolder::open(&path).unwrap();
    let to = dir.path().join("model");
    write(&base, &base.load_params().unwrap(), &to, &options()).unwrap();
    let expected = [
        "1_Pooling/config.json",
        "2_Normalize/config.json",
        "README.md",
        "config.json",
        "config_sentence_transformers.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ];
    assert_eq!(files_of(&to), expected.iter().map(|name| (*name).to_owned()).collect());
    let read = |name: &str| JsonFile::read(&to.join(name)).unwrap().map;
    let pooling = read("1_Pooling/config.json");
    assert_eq!(pooling.len(), 8);
    assert_eq!((&pooling["pooling_mode_cls_token"], &pooling["pooling_mode_lasttoken"]), (&json!(true), &json!(false)));
    let config = read("config.json");
    assert_eq!((&config["matryoshka_dimensions"], &config["torch_dtype"]), (&json!([12, 6]), &json!("float32")));
    assert_eq!(config["id2label"], small.config["id2label"]);
    assert_eq!(std::fs::read_to_string(to.join("vocab.txt")).unwrap(), small.vocab.join("\n") + "\n");
    assert_eq!(read("special_tokens_map.json")["cls_token"], json!("[CLS]"));
    assert_eq!(read("tokenizer_config.json")["model_max_length"], json!(9));
    let modules = std::fs::read_to_string(to.join("modules.json")).unwrap();
    assert!(modules.contains("sentence_transformers.models.Normalize"), "{modules}");
    let left_over: Vec<String> = files_of(dir.path()).into_iter().filter(|name| name.starts_with('.')).collect();
    assert_eq!(left_over, Vec::<String>::new());
}

/// Goal: a model that does not normalise is not made to. Method: drop the module.
#[test]
fn normalisation_is_the_bases_own() {
    let mut small = SmallFolder::bge();
    small.modules.as_array_mut().unwrap().pop();
    let dir = tempfile::tempdir().unwrap();
    let base = ModelFolder::open(&small.write(dir.path())).unwrap();
    let to = dir.path().join("model");
    write(&base, &base.load_params().unwrap(), &to, &options()).unwrap();
    assert!(!to.join("2_Normalize").exists());
    assert!(!ModelFolder::open(&to).unwrap().pooling.normalize);
}

/// Goal: nothing is half-done or overwritten by accident. Method: things in the way, wrong options, weights that diverged.
#[test]
fn exports_are_whole_or_absent() {
    let dir = tempfile::tempdir().unwrap();
    let base = ModelFolder::open(&SmallFolder::bge().write(dir.path())).unwrap();
    let mut params = base.load_params().unwrap();
    let to = dir.path().join("model");
    let mut wrong = options();
    wrong.matryoshka_dims = vec![13];
    assert!(write(&base, &params, &to, &wrong).unwrap_err().to_string().contains("13"));
    wrong = options();
    wrong.max_seq_length = 17;
    assert!(write(&base, &params, &to, &wrong).is_err());
    assert!(write(&base, &params[1..], &to, &options()).is_err());
    let healthy = params[5];
    params[5] = f32::NAN;
    let error = write(&base, &params, &to, &options()).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::NotFinite);
    params[5] = healthy;
    assert!(!to.exists());
    std::fs::create_dir(&to).unwrap();
    write(&base, &params, &to, &options()).unwrap();
    assert!(write(&base, &params, &to, &options()).unwrap_err().to_string().contains("not empty"));
    params[5] = 2.0;
    write(&base, &params, &to, &ExportOptions { replace: true, ..options() }).unwrap();
    assert_eq!(ModelFolder::open(&to).unwrap().load_params().unwrap()[5], 2.0);
    let other = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("notes.txt"), "mine").unwrap();
    assert!(write(&base, &params, &other, &ExportOptions { replace: true, ..options() }).is_err());
    assert!(write(&base, &params, &other.join("notes.txt"), &options()).unwrap_err().to_string().contains("is a file"));
    assert_eq!(std::fs::read_to_string(other.join("notes.txt")).unwrap(), "mine");
    let names = std::fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.starts_with('.')).count(), 0);
}
