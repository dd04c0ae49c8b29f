//! Small model folders for tests: a BERT of odd widths with cls pooling, written by hand.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::config::BertConfig;
use super::layout::ParamLayout;
use super::safetensors::{NewData, NewTensor, write};

/// A folder under construction: change its parts, then write it.
pub struct SmallFolder {
    pub config: Value,
    pub tokenizer_config: Value,
    pub modules: Value,
    pub pooling: Value,
    pub settings: Value,
    pub transformer_settings: Value,
    pub prefix: &'static str,
    pub vocab: Vec<String>,
}

impl SmallFolder {
    /// BGE's shape in small: old layout, cls pooling, normalised, f32, vocab.txt and no tokenizer.json.
    pub fn bge() -> Self {
        let words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "what", "is", "a", "cafe", "##s", "hot", "?", "什", "Hot"];
        let module =
            |idx: usize, path: &str, class: &str| json!({"idx": idx, "name": idx.to_string(), "path": path, "type": class});
        Self {
            config: json!({"architectures": ["BertModel"], "model_type": "bert", "torch_dtype": "float16", "vocab_size": words.len(),
                "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20,
                "hidden_act": "relu", "max_position_embeddings": 16, "type_vocab_size": 2, "id2label": {"0": "LABEL_0"}}),
            tokenizer_config: json!({"do_lower_case": true, "strip_accents": null, "tokenize_chinese_chars": true,
                "tokenizer_class": "BertTokenizer", "model_max_length": 16}),
            modules: json!([
                module(0, "", "sentence_transformers.models.Transformer"),
                module(1, "1_Pooling", "sentence_transformers.models.Pooling"),
                module(2, "2_Normalize", "sentence_transformers.models.Normalize"),
            ]),
            pooling: json!({"word_embedding_dimension": 12, "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}),
            settings: json!({"__version__": {"sentence_transformers": "2.2.2"}}),
            transformer_settings: json!({"max_seq_length": 10, "do_lower_case": true}),
            prefix: "",
            vocab: words.map(str::to_owned).to_vec(),
        }
    }

    /// The same folder as sentence-transformers 6 saves it.
    pub fn new_layout() -> Self {
        let mut folder = Self::bge();
        for (module, class) in folder.modules.as_array_mut().unwrap().iter_mut().zip([
            "sentence_transformers.base.modules.transformer.Transformer",
            "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
            "sentence_transformers.base.modules.normalize.Normalize",
        ]) {
            module["type"] = class.into();
        }
        folder.pooling = json!({"embedding_dimension": 12, "pooling_mode": "cls", "include_prompt": true});
        folder.transformer_settings = json!({"transformer_task": "feature-extraction",
            "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
            "module_output_name": "token_embeddings"});
        folder.tokenizer_config["model_max_length"] = 10.into();
        folder.settings = json!({"model_type": "SentenceTransformer", "prompts": {"query": "", "document": ""},
            "default_prompt_name": null, "similarity_fn_name": "cosine"});
        folder
    }

    /// Writes the folder; weights count up from 0 in steps that differ by tensor. Returns its path.
    pub fn write(&self, dir: &Path) -> PathBuf {
        let path = dir.join("base");
        for folder in ["1_Pooling", "2_Normalize"] {
            std::fs::create_dir_all(path.join(folder)).unwrap();
        }
        let files = [
            ("config.json", &self.config),
            ("tokenizer_config.json", &self.tokenizer_config),
            ("modules.json", &self.modules),
            ("1_Pooling/config.json", &self.pooling),
            ("config_sentence_transformers.json", &self.settings),
            ("sentence_bert_config.json", &self.transformer_settings),
        ];
        for (name, value) in files {
            if !value.is_null() {
                std::fs::write(path.join(name), value.to_string()).unwrap();
            }
        }
        std::fs::write(path.join("vocab.txt"), self.vocab.join("\n") + "\n").unwrap();
        self.write_weights(&path, |_| true);
        path
    }

    /// Writes model.safetensors with the tensors whose bare name `keep` accepts.
    pub fn write_weights(&self, path: &Path, keep: impl Fn(&str) -> bool) {
        let config = BertConfig::read(&path.join("config.json"));
        let Ok(config) = config else { return };
        let layout = ParamLayout::bert(&config);
        let value = |index: usize, entry: usize| ((index * 7 + entry * 13) % 101) as f32 / 101.0 - 0.5;
        let mut tensors: Vec<NewTensor<'static>> = Vec::new();
        for (number, entry) in layout.entries.iter().enumerate() {
            let values: Vec<f32> = (0..entry.len).map(|index| value(index, number)).collect();
            tensors.push(self.tensor(&entry.name, &entry.shape, NewData::F32(values.into())));
        }
        let h = config.hidden_size;
        tensors.push(self.tensor("pooler.dense.bias", &[h], NewData::F32(vec![0.25; h].into())));
        let positions: Vec<u8> = (0..16_i64).flat_map(i64::to_le_bytes).collect();
        tensors.push(self.tensor("embeddings.position_ids", &[1, 16], NewData::Raw("I64".into(), positions)));
        tensors.retain(|tensor| keep(tensor.name.strip_prefix(self.prefix).unwrap()));
        write(&path.join("model.safetensors"), &tensors).unwrap();
    }

    fn tensor(&self, name: &str, shape: &[usize], data: NewData<'static>) -> NewTensor<'static> {
        NewTensor { name: format!("{}{name}", self.prefix), shape: shape.to_vec(), data }
    }
}

/// The folder of goldens and the folder of MiniLM, or a line that says why the test is skipped.
pub fn shared(what: &str) -> Option<PathBuf> {
    let shared = std::env::var_os("ARTEL_SHARED").map(PathBuf::from).filter(|path| path.is_dir());
    if shared.is_none() {
        println!("skipped: {what} needs the golden files; ARTEL_SHARED not set");
    }
    shared
}

/// MiniLM's folder, or a line that says why the test is skipped.
pub fn minilm(what: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("ARTEL_MINILM").map(PathBuf::from).filter(|path| path.is_dir());
    if folder.is_none() {
        println!("skipped: {what} needs MiniLM's folder; ARTEL_MINILM not set");
    }
    folder
}
