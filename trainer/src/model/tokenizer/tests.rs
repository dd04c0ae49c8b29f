use serde_json::{Value, json};

use super::*;
use crate::model::folder::ModelFolder;
use crate::model::testing::{SmallFolder, minilm, shared};

fn small(change: impl FnOnce(&mut SmallFolder), tokenizer_json: Option<&dyn Fn(&mut Value)>) -> ModelFolder {
    let mut small = SmallFolder::bge();
    small.transformer_settings["do_lower_case"] = false.into();
    change(&mut small);
    let dir = tempfile::tempdir().unwrap();
    let path = small.write(dir.path());
    if let Some(change) = tokenizer_json {
        let mut json = TokenizerFiles::read(&path, false).unwrap().effective;
        change(&mut json);
        std::fs::write(path.join("tokenizer.json"), json.to_string()).unwrap();
        std::fs::remove_file(path.join("vocab.txt")).unwrap();
    }
    ModelFolder::open(&path).unwrap()
}

fn ids(folder: &ModelFolder, text: &str) -> Vec<u32> {
    folder.tokenizer(10).unwrap().encode(text, &Prompt::none()).unwrap()
}

/// Goal: token ids equal sentence-transformers' on hard texts. Method: the goldens' eight pairs at 64 tokens, from
/// tokenizer.json and from vocab.txt alone.
#[test]
fn goldens_are_equal() {
    let (Some(shared), Some(minilm)) = (shared("goldens_are_equal"), minilm("goldens_are_equal")) else { return };
    let golden: Value = serde_json::from_slice(&std::fs::read(shared.join("golden/golden.json")).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for name in ["tokenizer_config.json", "vocab.txt"] {
        std::fs::copy(minilm.join(name), dir.path().join(name)).unwrap();
    }
    let mut compared = 0;
    for folder in [minilm.as_path(), dir.path()] {
        let files = TokenizerFiles::read(folder, false).unwrap();
        assert_eq!(files.warnings, Vec::<String>::new());
        let tokenizer = Tokenizer::build(&files, folder, 30522, 64).unwrap();
        for column in ["anchor", "positive"] {
            let rows = golden["features"][column]["input_ids"].as_array().unwrap();
            let masks = golden["features"][column]["attention_mask"].as_array().unwrap();
            for (row, (padded, mask)) in rows.iter().zip(masks).enumerate() {
                let len = mask.as_array().unwrap().iter().filter(|bit| **bit == json!(1)).count();
                let text = golden["pairs"][row][column].as_str().unwrap();
                let got = tokenizer.encode(text, &Prompt::none()).unwrap();
                assert_eq!(json!(got).as_array().unwrap().as_slice(), &padded.as_array().unwrap()[..len], "{text:?}");
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 32);
}

/// Goal: long texts end in [SEP] at the limit, empty ones are [CLS] [SEP], and a prompt's length is sentence-transformers'.
/// Method: a small vocabulary whose ids are known.
#[test]
fn lengths_and_prompts() {
    let tokenizer = small(|_| (), None).tokenizer(5).unwrap();
    assert_eq!(tokenizer.encode("what is a hot cafes", &Prompt::none()).unwrap(), [2, 5, 6, 7, 3]);
    for text in ["", " \t\n", "\u{0}"] {
        assert_eq!(tokenizer.encode(text, &Prompt::none()).unwrap(), [2, 3]);
    }
    let prompt = tokenizer.prompt("What is ").unwrap();
    assert_eq!((prompt.num_tokens(), prompt.text()), (3, "What is "));
    assert_eq!(tokenizer.encode("hot", &prompt).unwrap(), [2, 5, 6, 10, 3]);
    assert_eq!(tokenizer.prompt("").unwrap(), Prompt::none());
}

/// Goal: the settings of tokenizer_config.json are those in effect, whatever tokenizer.json says, with a warning where they
/// differ, and a class of another name takes tokenizer.json as it stands. Method: what transformers 5.23 does, case by case.
#[test]
fn tokenizer_config_rules_a_bert_tokenizer() {
    assert_eq!(ids(&small(|_| (), None), "Hot cafés什a"), [2, 10, 8, 9, 12, 7, 3]);
    let cased = small(|f| f.tokenizer_config["do_lower_case"] = false.into(), None);
    assert_eq!(ids(&cased, "Hot café"), [2, 13, 1, 3]);
    let stripped = small(
        |f| {
            f.tokenizer_config["do_lower_case"] = false.into();
            f.tokenizer_config["strip_accents"] = true.into();
        },
        None,
    );
    assert_eq!(ids(&stripped, "Hot café"), [2, 13, 8, 3]);
    let joined = small(|f| f.tokenizer_config["tokenize_chinese_chars"] = false.into(), None);
    assert_eq!(ids(&joined, "什a"), [2, 1, 3]);
    let lower = small(|f| f.transformer_settings["do_lower_case"] = true.into(), None);
    assert_eq!(ids(&lower, "Hot"), [2, 10, 3]);
    let casing = |json: &mut Value| json["normalizer"]["lowercase"] = false.into();
    let disagreeing = small(|_| (), Some(&casing));
    assert_eq!(ids(&disagreeing, "Hot"), [2, 10, 3]);
    assert!(disagreeing.warnings[0].contains("tokenizer_config.json is followed"), "{:?}", disagreeing.warnings);
}

/// Goal: other tokenizer classes take tokenizer.json as it stands. Method: a case-keeping file under the generic class, which
/// cannot be made from vocab.txt alone.
#[test]
fn other_classes_take_the_file_as_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let mut small = SmallFolder::bge();
    small.transformer_settings["do_lower_case"] = false.into();
    let path = small.write(dir.path());
    let mut json = TokenizerFiles::read(&path, false).unwrap().effective;
    json["normalizer"]["lowercase"] = false.into();
    std::fs::write(path.join("tokenizer.json"), json.to_string()).unwrap();
    small.tokenizer_config["tokenizer_class"] = "PreTrainedTokenizerFast".into();
    std::fs::write(path.join("tokenizer_config.json"), small.tokenizer_config.to_string()).unwrap();
    let folder = ModelFolder::open(&path).unwrap();
    assert_eq!(ids(&folder, "Hot"), [2, 13, 3]);
    assert_eq!(folder.warnings, Vec::<String>::new());
}

/// Goal: truncation and padding of tokenizer.json's own are overridden. Method: a file that pads and cuts to 4.
#[test]
fn own_truncation_and_padding_are_overridden() {
    let harm = |json: &mut Value| {
        json["truncation"] = json!({"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"});
        json["padding"] = json!({"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
            "pad_type_id": 0, "pad_token": "[PAD]"});
    };
    let folder = small(|_| (), Some(&harm));
    assert_eq!(ids(&folder, "what is a hot cafe ?"), [2, 5, 6, 7, 10, 8, 11, 3]);
    assert_eq!(ids(&folder, "what"), [2, 5, 3]);
}

/// Goal: limits that make no sense are refused. Method: no room for text; more than the positions.
#[test]
fn senseless_limits_are_refused() {
    let folder = small(|_| (), None);
    assert!(folder.tokenizer(2).unwrap_err().to_string().contains("at least 3"));
    assert!(folder.tokenizer(17).unwrap_err().to_string().contains("16 positions"));
    assert!(folder.tokenizer(0).is_err());
}
