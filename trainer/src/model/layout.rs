//! The model as one flat f32 vector: the table of names, shapes and places.
//!
//! Names are Hugging Face's without any prefix (`encoder.layer.0.attention.self.query.weight`); the order is
//! BERT's own, from the embeddings up. The pooler is not here: it takes no part in an embedding.

use std::collections::HashMap;
use std::ops::Range;

use super::config::BertConfig;

/// One parameter's place in the flat vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamEntry {
    /// The bare Hugging Face name.
    pub name: String,
    /// Its shape, row-major; a linear layer's weight is [out, in].
    pub shape: Vec<usize>,
    /// Where it begins, in elements.
    pub offset: usize,
    /// How many elements it has: the product of `shape`.
    pub len: usize,
    /// Whether weight decay applies: not to biases and LayerNorm weights.
    pub decay: bool,
}

/// All parameters, one behind the other without gaps.
#[derive(Debug, Clone)]
pub struct ParamLayout {
    /// In order of `offset`.
    pub entries: Vec<ParamEntry>,
    /// The length of the vector, in elements.
    pub total: usize,
    by_name: HashMap<String, usize>,
}

impl ParamEntry {
    /// Its elements' range in the flat vector.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len
    }
}

impl ParamLayout {
    /// The layout of a BERT encoder of these sizes (validated: no product overflows).
    pub fn bert(config: &BertConfig) -> Self {
        let h = config.hidden_size;
        let mut layout = Self { entries: Vec::new(), total: 0, by_name: HashMap::new() };
        layout.push("embeddings.word_embeddings.weight".to_owned(), &[config.vocab_size, h]);
        layout.push("embeddings.position_embeddings.weight".to_owned(), &[config.max_position_embeddings, h]);
        layout.push("embeddings.token_type_embeddings.weight".to_owned(), &[config.type_vocab_size, h]);
        layout.push_pair("embeddings.LayerNorm", &[h], h);
        for layer in 0..config.num_hidden_layers {
            let prefix = format!("encoder.layer.{layer}");
            layout.push_pair(&format!("{prefix}.attention.self.query"), &[h, h], h);
            layout.push_pair(&format!("{prefix}.attention.self.key"), &[h, h], h);
            layout.push_pair(&format!("{prefix}.attention.self.value"), &[h, h], h);
            layout.push_pair(&format!("{prefix}.attention.output.dense"), &[h, h], h);
            layout.push_pair(&format!("{prefix}.attention.output.LayerNorm"), &[h], h);
            layout.push_pair(&format!("{prefix}.intermediate.dense"), &[config.intermediate_size, h], config.intermediate_size);
            layout.push_pair(&format!("{prefix}.output.dense"), &[h, config.intermediate_size], h);
            layout.push_pair(&format!("{prefix}.output.LayerNorm"), &[h], h);
        }
        layout
    }

    /// The parameter of this bare name.
    pub fn entry(&self, name: &str) -> Option<&ParamEntry> {
        self.by_name.get(name).map(|&index| &self.entries[index])
    }

    fn push_pair(&mut self, prefix: &str, weight_shape: &[usize], bias_len: usize) {
        self.push(format!("{prefix}.weight"), weight_shape);
        self.push(format!("{prefix}.bias"), &[bias_len]);
    }

    fn push(&mut self, name: String, shape: &[usize]) {
        let len = shape.iter().product();
        let decay = !name.ends_with("bias") && !name.contains("LayerNorm");
        self.by_name.insert(name.clone(), self.entries.len());
        self.entries.push(ParamEntry { name, shape: shape.to_vec(), offset: self.total, len, decay });
        self.total += len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the layout is gapless and as large as BERT's own count. Method: BERT-base has 108,891,648
    /// parameters without its pooler (109,482,240 with it).
    #[test]
    fn bert_base_has_its_size() {
        let config = BertConfig::bert(12, 768);
        let layout = ParamLayout::bert(&config);
        assert_eq!(layout.total, 109_482_240 - (768 * 768 + 768));
        let mut end = 0;
        for entry in &layout.entries {
            assert_eq!(entry.offset, end, "{}", entry.name);
            end = entry.range().end;
        }
        assert_eq!(end, layout.total);
        let query = layout.entry("encoder.layer.11.attention.self.query.weight").unwrap();
        assert!(query.decay && query.shape == [768, 768]);
        assert!(!layout.entry("embeddings.LayerNorm.weight").unwrap().decay);
        assert!(layout.entry("pooler.dense.weight").is_none());
    }
}
