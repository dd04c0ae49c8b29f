//! The model card: README.md with the front matter that the Hugging Face hub reads, measurements before and after, and usage.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::pooling::Pooling;

/// Metrics by sentence-transformers' keys: `dim_128_cosine_ndcg@10`.
pub type Metrics = BTreeMap<String, f64>;

/// The metrics shown in the tables, best known first.
const SHOWN: [(&str, &str); 8] = [
    ("cosine_ndcg@10", "NDCG@10"),
    ("cosine_mrr@10", "MRR@10"),
    ("cosine_map@100", "MAP@100"),
    ("cosine_accuracy@1", "Accuracy@1"),
    ("cosine_accuracy@10", "Accuracy@10"),
    ("cosine_precision@1", "Precision@1"),
    ("cosine_recall@1", "Recall@1"),
    ("cosine_recall@10", "Recall@10"),
];

/// Everything that a card says.
#[derive(Debug, Clone)]
pub struct CardFacts {
    /// The model's name: the run's.
    pub name: String,
    /// The base model as the user named it.
    pub base_model: String,
    /// The base model's id on the Hugging Face hub, if it came from there.
    pub base_model_id: Option<String>,
    /// What it was trained on, in a phrase: the files' names.
    pub data: String,
    /// Pairs (or rows with negatives) trained on.
    pub num_train_pairs: u64,
    /// What it was measured on, in a phrase; none where it was not measured.
    pub test_data: Option<String>,
    /// Queries measured.
    pub num_queries: u64,
    /// Documents that were searched.
    pub corpus_size: u64,
    /// Losses, outermost first: `MatryoshkaLoss`, `MultipleNegativesRankingLoss`.
    pub losses: Vec<String>,
    /// Widths at which embeddings may be cut; empty without Matryoshka.
    pub matryoshka_dims: Vec<usize>,
    /// Width of the embedding.
    pub hidden_size: usize,
    /// The steps after the encoder.
    pub pooling: Pooling,
    /// Longest text in tokens.
    pub max_seq_length: usize,
    /// Put before queries; empty for none.
    pub query_prompt: String,
    /// Put before passages; empty for none.
    pub passage_prompt: String,
    /// Settings of the training, in the order shown.
    pub settings: Vec<(String, String)>,
    /// What a reader must know: leaks, rows left out.
    pub notes: Vec<String>,
    /// The base model's metrics; empty where it was not measured.
    pub before: Metrics,
    /// The tuned model's metrics; empty where it was not measured.
    pub after: Metrics,
}

/// The card as Markdown with YAML front matter.
pub fn render(facts: &CardFacts) -> String {
    let mut card = front_matter(facts);
    card.push_str(&introduction(facts));
    card.push_str(&usage(facts));
    card.push_str(&measurements(facts));
    card.push_str(&training(facts));
    card
}

fn front_matter(facts: &CardFacts) -> String {
    let mut yaml = String::from("---\nlibrary_name: sentence-transformers\npipeline_tag: sentence-similarity\n");
    if let Some(id) = &facts.base_model_id {
        line(&mut yaml, format_args!("base_model: {}", quoted(id)));
    }
    yaml.push_str(
        "tags:\n- sentence-transformers\n- sentence-similarity\n- feature-extraction\n- dense\n- generated_from_trainer\n",
    );
    line(&mut yaml, format_args!("- dataset_size:{}", facts.num_train_pairs));
    for loss in &facts.losses {
        line(&mut yaml, format_args!("- {}", quoted(&format!("loss:{loss}"))));
    }
    if !facts.after.is_empty() {
        yaml.push_str("metrics:\n");
        for (key, _) in metrics_at(&facts.after, dims(facts).first().copied().unwrap_or(0)) {
            line(&mut yaml, format_args!("- {key}"));
        }
        line(&mut yaml, format_args!("model-index:\n- name: {}\n  results:", quoted(&facts.name)));
        for dim in dims(facts) {
            yaml.push_str("  - task:\n      type: information-retrieval\n      name: Information Retrieval\n");
            line(&mut yaml, format_args!("    dataset:\n      name: dim {dim}\n      type: dim_{dim}\n    metrics:"));
            for (key, value) in metrics_at(&facts.after, dim) {
                line(&mut yaml, format_args!("    - type: {key}\n      value: {value}\n      name: {}", metric_title(key)));
            }
        }
    }
    yaml.push_str("---\n\n");
    yaml
}

fn introduction(facts: &CardFacts) -> String {
    let base = match &facts.base_model_id {
        Some(id) => format!("[{id}](https://huggingface.co/{id})"),
        None => format!("`{}`", plain(&facts.base_model)),
    };
    let mut text = format!("# {}\n\n", plain(&facts.name));
    let data = plain(&facts.data);
    line(
        &mut text,
        format_args!(
            "An embedding model for retrieval: {base}, fine-tuned by Artel on {} pairs of {data}. It turns a text into a vector of \
             {} numbers; a query's vector lies close (by cosine) to those of the passages that answer it.\n",
            facts.num_train_pairs, facts.hidden_size
        ),
    );
    line(&mut text, format_args!("- Longest text: {} tokens; what follows is cut off", facts.max_seq_length));
    let normalized = if facts.pooling.normalize { ", then normalised" } else { ", not normalised" };
    line(&mut text, format_args!("- Pooling: {}{normalized}", facts.pooling.mode.name()));
    if !facts.matryoshka_dims.is_empty() {
        let dims: Vec<String> = facts.matryoshka_dims.iter().map(usize::to_string).collect();
        line(&mut text, format_args!("- Vectors may be cut to their first {} numbers (Matryoshka)", dims.join(", ")));
    }
    for (kind, prompt) in [("queries", &facts.query_prompt), ("passages", &facts.passage_prompt)] {
        if !prompt.is_empty() {
            line(&mut text, format_args!("- Put before {kind}: `{}`", plain(prompt)));
        }
    }
    for note in &facts.notes {
        line(&mut text, format_args!("- Note: {}", plain(note)));
    }
    text.push('\n');
    text
}

fn usage(facts: &CardFacts) -> String {
    let cut = facts.matryoshka_dims.iter().filter(|&&dim| dim < facts.hidden_size).max();
    let cut = cut.map_or(String::new(), |dim| format!("  # shorter vectors: SentenceTransformer(..., truncate_dim={dim})"));
    format!(
        "## Usage\n\n```python\nfrom sentence_transformers import SentenceTransformer\n\n\
         model = SentenceTransformer(\"path/to/this/folder\"){cut}\n\
         queries = model.encode_query([\"a question\"])\n\
         passages = model.encode_document([\"a passage\", \"another passage\"])\n\
         print(model.similarity(queries, passages))\n```\n\n\
         `encode_query` and `encode_document` apply the prompts above. text-embeddings-inference and vLLM serve this folder as it stands.\n\n"
    )
}

fn measurements(facts: &CardFacts) -> String {
    let mut text = String::from("## Measured\n\n");
    let Some(test) = facts.test_data.as_ref().filter(|_| !facts.after.is_empty()) else {
        text.push_str("This model was not measured.\n\n");
        return text;
    };
    let test = plain(test);
    line(
        &mut text,
        format_args!(
            "Information retrieval on {test}: {} queries against {} documents, by cosine. Before is the base model, after is this one.",
            facts.num_queries, facts.corpus_size
        ),
    );
    for dim in dims(facts) {
        line(&mut text, format_args!("\n### {dim} dimensions\n\n| metric | before | after | difference |\n|---|---|---|---|"));
        for (key, title) in SHOWN {
            let key = format!("dim_{dim}_{key}");
            let Some(after) = facts.after.get(&key) else { continue };
            match facts.before.get(&key) {
                Some(before) => line(&mut text, format_args!("| {title} | {before:.4} | {after:.4} | {:+.4} |", after - before)),
                None => line(&mut text, format_args!("| {title} | | {after:.4} | |")),
            }
        }
    }
    text.push('\n');
    text
}

fn training(facts: &CardFacts) -> String {
    let mut text = String::from("## Training\n\n");
    line(&mut text, format_args!("- Data: {} pairs of {}", facts.num_train_pairs, plain(&facts.data)));
    line(&mut text, format_args!("- Loss: {}", facts.losses.join(" over ")));
    if !facts.settings.is_empty() {
        text.push_str("\n| setting | value |\n|---|---|\n");
        for (key, value) in &facts.settings {
            line(&mut text, format_args!("| {} | {} |", plain(key), plain(value)));
        }
    }
    text
}

/// The dimensions that the metrics name, widest first.
fn dims(facts: &CardFacts) -> Vec<usize> {
    let parse = |key: &String| key.strip_prefix("dim_")?.split_once('_')?.0.parse().ok();
    let mut dims: Vec<usize> = facts.after.keys().filter_map(parse).collect();
    dims.sort_unstable_by(|a, b| b.cmp(a));
    dims.dedup();
    dims
}

/// The metrics of one dimension by their keys without `dim_N_`, in the order of their names.
fn metrics_at(metrics: &Metrics, dim: usize) -> Vec<(&str, f64)> {
    let prefix = format!("dim_{dim}_");
    metrics.iter().filter_map(|(key, value)| Some((key.strip_prefix(&prefix)?, *value))).collect()
}

/// `cosine_ndcg@10` as `Cosine Ndcg@10`, the way sentence-transformers titles them.
fn metric_title(key: &str) -> String {
    let words = key.split('_').map(|word| {
        let mut letters = word.chars();
        letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
    });
    words.collect::<Vec<String>>().join(" ")
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    writeln!(text, "{content}").expect("writing to a string cannot fail");
}

/// A YAML scalar: JSON's double-quoted strings are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Free text inside a line, a table cell or backticks.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().replace('|', "\\|").replace('`', "'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::pooling::PoolingMode;

    fn facts() -> CardFacts {
        let metrics =
            |ndcg: f64| [("dim_12_cosine_ndcg@10".to_owned(), ndcg), ("dim_6_cosine_ndcg@10".to_owned(), ndcg / 2.0)].into();
        CardFacts {
            name: "my: run".to_owned(),
            base_model: "BAAI/bge-base-en-v1.5".to_owned(),
            base_model_id: Some("BAAI/bge-base-en-v1.5".to_owned()),
            data: "a|b.jsonl".to_owned(),
            num_train_pairs: 2048,
            test_data: Some("test.jsonl".to_owned()),
            num_queries: 20,
            corpus_size: 30,
            losses: vec!["MatryoshkaLoss".to_owned(), "MultipleNegativesRankingLoss".to_owned()],
            matryoshka_dims: vec![12, 6],
            hidden_size: 12,
            pooling: Pooling { mode: PoolingMode::Cls, normalize: true, include_prompt: true },
            max_seq_length: 10,
            query_prompt: "Represent this: ".to_owned(),
            passage_prompt: String::new(),
            settings: vec![("learning_rate".to_owned(), "2e-5".to_owned())],
            notes: vec!["3 questions are in both files".to_owned()],
            before: metrics(0.5),
            after: metrics(0.75),
        }
    }

    /// Goal: the card carries what PARITY asks for. Method: render and look for each part.
    #[test]
    fn card_has_its_parts() {
        let card = render(&facts());
        for part in [
            "library_name: sentence-transformers\n",
            "pipeline_tag: sentence-similarity\n",
            "base_model: \"BAAI/bge-base-en-v1.5\"\n",
            "- dense\n- generated_from_trainer\n- dataset_size:2048\n- \"loss:MatryoshkaLoss\"\n",
            "- name: \"my: run\"\n",
            "      type: dim_6\n",
            "    - type: cosine_ndcg@10\n      value: 0.375\n      name: Cosine Ndcg@10\n",
            "| NDCG@10 | 0.5000 | 0.7500 | +0.2500 |",
            "truncate_dim=6",
            "a\\|b.jsonl",
            "Represent this",
            "3 questions",
            "| learning_rate | 2e-5 |",
        ] {
            assert!(card.contains(part), "{part}\n{card}");
        }
        assert!(card.find("### 12 dimensions") < card.find("### 6 dimensions"));
        assert_eq!(card.matches("---\n").count(), 2);
    }

    /// Goal: an unmeasured model has no index and says so. Method: leave the metrics out.
    #[test]
    fn unmeasured_models_say_so() {
        let card = render(&CardFacts { after: Metrics::new(), test_data: None, base_model_id: None, ..facts() });
        assert!(!card.contains("model-index") && !card.contains("base_model:") && card.contains("not measured"));
    }
}
