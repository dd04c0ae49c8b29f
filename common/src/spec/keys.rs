//! Which keys a spec has, what to write for each, and what Artel has in place of keys that other trainers have.

/// A key of a section, with a value that could be written.
pub struct Key {
    /// `train`, or `data.columns` for the inline table.
    pub section: &'static str,
    /// `learning_rate`.
    pub name: &'static str,
    /// `2e-5`.
    pub example: &'static str,
}

const fn key(section: &'static str, name: &'static str, example: &'static str) -> Key {
    Key { section, name, example }
}

/// The sections, in the order of a spec.
pub const SECTIONS: [&str; 10] =
    ["run", "documents", "chunks", "questions", "cleaning", "data", "model", "train", "evaluate", "workers"];

/// Every key there is.
pub const KEYS: &[Key] = &[
    key("run", "name", "\"medquad\""),
    key("run", "store", "\"file:./artel-store\""),
    key("documents", "sources", "[\"docs/**/*.pdf\", \"s3://bucket/reports/\"]"),
    key("documents", "strategy", "\"auto\""),
    key("documents", "languages", "[\"eng\"]"),
    key("documents", "max_pages", "2000"),
    key("documents", "max_memory", "\"2GB\""),
    key("documents", "max_seconds", "600"),
    key("chunks", "chunk_size", "2048"),
    key("chunks", "overlap", "0"),
    key("chunks", "unit", "\"characters\""),
    key("chunks", "by_title", "false"),
    key("questions", "provider", "\"gemini\""),
    key("questions", "model", "\"gemini-1.5-flash\""),
    key("questions", "base_url", "\"http://127.0.0.1:8000/v1\""),
    key("questions", "api_key_env", "\"GEMINI_API_KEY\""),
    key("questions", "api_key_file", "\"/run/secrets/gemini\""),
    key("questions", "temperature", "0.7"),
    key("questions", "pairs_per_chunk", "1"),
    key("questions", "styles", "[\"natural\", \"keyword\"]"),
    key("questions", "prompt", "\"Write {count} questions and answers about: {text}\""),
    key("questions", "json", "true"),
    key("questions", "max_output_tokens", "1024"),
    key("questions", "timeout", "60"),
    key("questions", "max_in_flight", "32"),
    key("questions", "requests_per_minute", "600"),
    key("questions", "tokens_per_minute", "1000000"),
    key("questions", "max_cost", "5.0"),
    key("questions", "max_requests", "10000"),
    key("questions", "price_in", "0.1"),
    key("questions", "price_out", "0.4"),
    key("questions", "judge_threshold", "4"),
    key("questions", "judge_model", "\"my-large-model\""),
    key("questions", "judge_prompt", "\"Score from 1 to 5 how well {answer} answers {question} by {text}\""),
    key("questions", "answers_from", "\"file:./other-store\""),
    key("cleaning", "round_trip", "20"),
    key("cleaning", "num_negatives", "2"),
    key("cleaning", "range_min", "0"),
    key("cleaning", "range_max", "50"),
    key("cleaning", "relative_margin", "0.05"),
    key("data", "pairs", "[\"pairs.jsonl\"]"),
    key("data", "columns", "{ anchor = \"question\", positive = \"answer\" }"),
    key("data.columns", "anchor", "\"question\""),
    key("data.columns", "positive", "\"answer\""),
    key("data.columns", "negatives", "[\"negative\"]"),
    key("data.columns", "group", "\"document\""),
    key("data.columns", "id", "\"id\""),
    key("data", "limit", "2048"),
    key("data", "test", "\"test.jsonl\""),
    key("data", "test_fraction", "0.1"),
    key("data", "drop_leaks", "true"),
    key("data", "near_duplicate_threshold", "0.8"),
    key("data", "positive", "\"answer\""),
    key("model", "base", "\"BAAI/bge-base-en-v1.5\""),
    key("model", "revision", "\"main\""),
    key("model", "max_seq_length", "256"),
    key("model", "query_prompt", "\"Represent this sentence for searching relevant passages: \""),
    key("model", "passage_prompt", "\"passage: \""),
    key("train", "global_batch_size", "64"),
    key("train", "gradient_accumulation_steps", "1"),
    key("train", "num_train_epochs", "1"),
    key("train", "max_steps", "500"),
    key("train", "learning_rate", "2e-5"),
    key("train", "lr_scheduler_type", "\"linear\""),
    key("train", "warmup_ratio", "0.1"),
    key("train", "weight_decay", "0.01"),
    key("train", "adam_beta1", "0.9"),
    key("train", "adam_beta2", "0.999"),
    key("train", "adam_epsilon", "1e-8"),
    key("train", "max_grad_norm", "1.0"),
    key("train", "loss", "\"multiple_negatives_ranking\""),
    key("train", "scale", "20.0"),
    key("train", "matryoshka_dims", "[384, 256, 128, 64]"),
    key("train", "matryoshka_weights", "[1.0, 1.0, 1.0, 1.0]"),
    key("train", "dropout", "0.1"),
    key("train", "seed", "42"),
    key("train", "drop_last", "false"),
    key("train", "eval_strategy", "\"epoch\""),
    key("train", "eval_steps", "100"),
    key("train", "save_strategy", "\"epoch\""),
    key("train", "save_steps", "100"),
    key("train", "save_total_limit", "2"),
    key("train", "load_best_model_at_end", "true"),
    key("train", "logging_steps", "10"),
    key("train", "precision", "\"f32\""),
    key("train", "micro_batch_tokens", "1024"),
    key("train", "gradient_leaves", "8"),
    key("evaluate", "metric_for_best_model", "\"dim_128_cosine_ndcg@10\""),
    key("evaluate", "dims", "[384, 128]"),
    key("workers", "count", "2"),
    key("workers", "communication_data_type", "\"f32\""),
    key("workers", "device", "\"auto\""),
    key("workers", "threads", "1"),
    key("workers", "memory_limit", "\"2GB\""),
    key("workers", "allow_insecure", "true"),
];

/// What could be written for a key.
pub fn example(section: &str, name: &str) -> &'static str {
    KEYS.iter().find(|key| key.section == section && key.name == name).map_or("...", |key| key.example)
}

/// What Artel has in place of a key that sentence-transformers or transformers has.
pub fn instead_of(name: &str) -> Option<&'static str> {
    let text = match name {
        "per_device_train_batch_size" | "per_gpu_train_batch_size" | "train_batch_size" | "batch_size" => {
            "a batch here is global: write global_batch_size, the number of rows that share negatives over all workers, \
             whatever their count; gradient_accumulation_steps averages the gradients of independent batches and adds no negatives. \
             4 rows a device with 16 accumulation steps give each anchor 3 negatives; global_batch_size = 64 with \
             gradient_accumulation_steps = 1 gives it 63 at the same cost"
        }
        "per_device_eval_batch_size" | "per_gpu_eval_batch_size" | "eval_accumulation_steps" => {
            "evaluation cuts its texts by tokens, as training does, and its result does not depend on it: leave it out"
        }
        "bf16" | "fp16" | "tf32" | "bf16_full_eval" | "fp16_full_eval" | "half_precision_backend" => {
            "the number format goes with the device: f32 on the CPU, bf16 with device = \"cuda\" in [workers], where precision = \"tf32\" or \"f32\" in [train] is another; leave it out"
        }
        "batch_sampler" => {
            "no text ever occurs twice in a global batch (what no_duplicates does, over all workers): leave it out"
        }
        "multi_dataset_batch_sampler" => "a run has one data set: list its files in data.pairs",
        "optim" | "optim_args" => "the optimizer is AdamW: set adam_beta1, adam_beta2, adam_epsilon, weight_decay",
        "output_dir" | "overwrite_output_dir" | "logging_dir" => {
            "everything of a run lies in its store: write store = \"file:PATH\" in [run]; `artel export` copies the model out"
        }
        "warmup_steps" => "the warm-up is a share of the steps: write warmup_ratio = 0.1",
        "evaluation_strategy" => "write eval_strategy",
        "run_name" => "write name in [run]",
        "report_to" | "disable_tqdm" | "log_level" | "log_level_replica" => {
            "progress goes to the terminal and metrics to the store; `artel run --json` gives them to other programs: leave it out"
        }
        "logging_strategy" | "logging_first_step" => "write logging_steps = 1 to log every step",
        "gradient_checkpointing" | "gradient_checkpointing_kwargs" | "mini_batch_size" | "auto_find_batch_size" => {
            "Artel chooses one pass or two (GradCache) by the memory there is: leave it out, or bound memory_limit in [workers]"
        }
        "use_cpu" | "no_cuda" | "use_mps_device" => "write device = \"cpu\" in [workers]",
        "local_rank" | "deepspeed" | "fsdp" | "fsdp_config" | "ddp_backend" | "ddp_find_unused_parameters" | "parallel_mode" => {
            "Artel forms its own world: write count in [workers]"
        }
        "dataloader_num_workers" | "dataloader_drop_last" | "dataloader_pin_memory" | "group_by_length" => {
            "batches are planned before the first step and packed without padding: leave it out (drop_last is a key of its own)"
        }
        "api_key" | "api_token" => {
            "a key never stands in a spec: put it in an environment variable and name that in api_key_env; and change the key, since it stands in a file now"
        }
        "temperature" => "write scale, which is 1 / temperature: 20.0 is a temperature of 0.05",
        "similarity_fct" | "similarity_fn_name" => "similarity is the cosine: leave it out",
        "n_dims_per_step" => "every step trains every dimension: leave it out",
        "greater_is_better" => "every metric here is better when greater: leave it out",
        "data_seed" => "one seed decides order and dropout: write seed",
        "resume_from_checkpoint" => "the same command carries on from its store: leave it out",
        "push_to_hub" | "hub_model_id" | "hub_token" | "hub_strategy" => {
            "`artel export` writes a folder that the hub's own tools upload"
        }
        "train_file" | "train_dataset" | "files" => "write pairs in [data]",
        "test_file" | "eval_dataset" | "validation_file" => "write test in [data]",
        "model_name_or_path" | "model_name" => "write base in [model]",
        "max_length" | "max_seq_len" | "model_max_length" => "write max_seq_length in [model]",
        "epochs" => "write num_train_epochs",
        "lr" => "write learning_rate",
        "prompts" | "query_instruction" | "query_instruction_for_retrieval" => "write query_prompt and passage_prompt in [model]",
        "torch_compile" | "torch_compile_backend" | "neftune_noise_alpha" | "label_smoothing_factor" | "lr_scheduler_kwargs" => {
            "Artel has nothing like it: leave it out"
        }
        _ => return None,
    };
    Some(text)
}

/// The one of `known` that `name` was probably meant to be.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase().replace('-', "_");
    let distance = |candidate: &str| strsim::damerau_levenshtein(&lower, candidate);
    let likeness = |candidate: &str| strsim::jaro_winkler(&lower, candidate);
    known
        .into_iter()
        .filter(|candidate| distance(candidate) <= 1 + candidate.len() / 4 || likeness(candidate) > 0.88)
        .min_by_key(|candidate| distance(candidate))
}
