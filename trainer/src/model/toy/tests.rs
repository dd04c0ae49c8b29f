use super::*;

fn texts() -> Vec<String> {
    ["A portable workstation is issued by Digital Services.", "How do I get a laptop? A laptop, please!", "The laptop is broken"]
        .map(str::to_owned)
        .to_vec()
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let names = [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "vocab.txt",
        "modules.json",
        "1_Pooling/config.json",
        "2_Normalize/config.json",
    ];
    names.map(|name| (name.to_owned(), std::fs::read(folder.join(name)).unwrap())).to_vec()
}

/// Goal: the toy is a function of texts and seed. Method: the same texts in another order give the same bytes; another seed other weights.
#[test]
fn equal_texts_and_seed_give_equal_files() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    make(&texts(), 1, &at("a")).unwrap();
    make(&texts().into_iter().rev().collect::<Vec<_>>(), 1, &at("b")).unwrap();
    make(&texts(), 2, &at("c")).unwrap();
    assert_eq!(files(&at("a")), files(&at("b")));
    assert_ne!(files(&at("a"))[1], files(&at("c"))[1]);
}

/// Goal: the weights are spread as said. Method: mean and deviation of each kind of tensor.
#[test]
fn weights_have_their_spread() {
    let layout = ParamLayout::bert(&config(300));
    for (name, mean, std) in [
        ("embeddings.word_embeddings.weight", 0.0, STD),
        ("embeddings.position_embeddings.weight", 0.0, POSITION_STD),
        ("encoder.layer.1.output.dense.weight", 0.0, STD),
        ("encoder.layer.1.output.dense.bias", 0.0, 0.0),
        ("encoder.layer.1.output.LayerNorm.weight", 1.0, 0.0),
    ] {
        let bytes = values_of(name, layout.entry(name).unwrap().len, 3);
        let values: Vec<f64> = bytes.chunks(4).map(|c| f64::from(f32::from_le_bytes(c.try_into().unwrap()))).collect();
        let count = values.len() as f64;
        let seen_mean = values.iter().sum::<f64>() / count;
        let seen_std = (values.iter().map(|v| (v - seen_mean).powi(2)).sum::<f64>() / count).sqrt();
        assert!((seen_mean - mean).abs() < 0.01, "{name}: mean {seen_mean}");
        assert!((seen_std - f64::from(std)).abs() <= 0.02 * f64::from(std), "{name}: deviation {seen_std}");
    }
}

/// Goal: known words are whole, unknown ones are spelled, nothing plain is unknown. Method: load tokenizer.json and encode.
#[test]
fn tokenizer_knows_words_and_spells_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    make(&texts(), 1, folder.path()).unwrap();
    let tokenizer = tokenizers::Tokenizer::from_file(folder.path().join("tokenizer.json")).unwrap();
    let encoded = tokenizer.encode("A LAPTOP is queer", true).unwrap();
    assert_eq!(encoded.get_tokens(), ["[CLS]", "a", "laptop", "is", "q", "##u", "##e", "##e", "##r", "[SEP]"]);
    let lines = std::fs::read_to_string(folder.path().join("vocab.txt")).unwrap();
    assert_eq!(lines.lines().nth(encoded.get_ids()[2] as usize), Some("laptop"));
}

/// Goal: texts without a word are refused. Method: no text, and blank ones.
#[test]
fn texts_without_words_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for texts in [vec![], vec![" \n".to_owned()]] {
        let error = make(&texts, 1, folder.path()).unwrap_err();
        assert!(error.to_string().contains("no word"), "{error}");
    }
}
