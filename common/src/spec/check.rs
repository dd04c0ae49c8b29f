//! What no key can say for itself: keys that contradict, need or outdo one another.

use super::reader::Reader;
use super::{RunSpec, SchedulerKind, Strategy, cleaning, making};

/// Notes contradictions as problems, and what is allowed but hardly meant as warnings.
pub fn check(reader: &mut Reader<'_, '_>, spec: &RunSpec) {
    strategies(reader, spec);
    batches(reader, spec);
    data(reader, spec);
    making::check(reader, spec);
    cleaning::check(reader, spec);
    if spec.workers.count > spec.most_workers() {
        let (count, leaves) = (spec.workers.count, spec.train.gradient_leaves);
        let found = if spec.workers.device_found { "; or device = \"cuda\": this machine shows no GPU" } else { "" };
        let what = format!(
            "{count} workers share {leaves} gradient leaves, at least one each; write count = {leaves} or gradient_leaves = {count} in [train]{found}"
        );
        reader.problem("workers", "count", what);
    }
}

fn strategies(reader: &mut Reader<'_, '_>, spec: &RunSpec) {
    let train = &spec.train;
    let kinds = [
        ("eval_strategy", train.eval_strategy, "eval_steps", train.eval_steps),
        ("save_strategy", train.save_strategy, "save_steps", train.save_steps),
    ];
    for (strategy, value, steps, written) in kinds {
        // A value that was refused already must not be called missing too.
        let missing = written.is_none() && !reader.has("train", steps);
        if value == Strategy::Steps && missing {
            reader.problem("train", steps, format_args!("is missing, and {strategy} = \"steps\" needs it; write {steps} = 100"));
        }
        if value != Strategy::Steps && written.is_some() {
            reader.warn("train", steps, format_args!("has no effect without {strategy} = \"steps\""));
        }
    }
    if train.load_best_model_at_end && train.eval_strategy == Strategy::No {
        let what = "the best model is found by evaluating while training; write eval_strategy = \"epoch\" or load_best_model_at_end = false";
        reader.problem("train", "load_best_model_at_end", what);
    }
    if train.lr_scheduler_type == SchedulerKind::Constant && train.warmup_ratio > 0.0 {
        let what = "has no effect with lr_scheduler_type = \"constant\"; \"constant_with_warmup\" warms up";
        reader.warn("train", "warmup_ratio", what);
    }
    // The toy is made, not trained: it learns from nothing.
    if train.learning_rate > 1e-3 && spec.model.base != "artel:toy" {
        let what = format!("{} is far above what fine-tuning survives (1e-5 to 1e-4)", train.learning_rate);
        reader.warn("train", "learning_rate", what);
    }
}

fn batches(reader: &mut Reader<'_, '_>, spec: &RunSpec) {
    let (rows, times) = (spec.train.global_batch_size, spec.train.gradient_accumulation_steps);
    if times > 1 && rows < 64 {
        let what = format!(
            "{times} batches of {rows} rows give each anchor {} negatives; global_batch_size = {} with gradient_accumulation_steps = 1 gives it {} at the same cost",
            rows - 1,
            rows * times,
            rows * times - 1
        );
        reader.warn("train", "gradient_accumulation_steps", what);
    }
    if let Some(limit) = spec.data.limit.filter(|limit| *limit < rows as u64) {
        let what =
            format!("{limit} rows do not fill one batch of global_batch_size = {rows}; raise limit or lower global_batch_size");
        reader.problem("data", "limit", what);
    }
}

fn data(reader: &mut Reader<'_, '_>, spec: &RunSpec) {
    let data = &spec.data;
    if data.test.is_some() && reader.has("data", "test_fraction") {
        let what = "the test file makes a split needless; leave out test or test_fraction";
        reader.problem("data", "test_fraction", what);
    }
    if data.drop_leaks && data.test.as_deref().is_none_or(|test| test == "train") {
        let what = "has no effect without a test file: where Artel makes the split, train and test share nothing";
        reader.warn("data", "drop_leaks", what);
    }
    if reader.has("data", "pairs") && data.pairs.is_empty() && !reader.has("", "documents") {
        reader.problem("data", "pairs", "names no file; write pairs = [\"pairs.jsonl\"]");
    }
    let named = [("anchor", &data.columns.anchor), ("positive", &data.columns.positive)];
    let mut roles: Vec<(&str, &str)> = named.into_iter().filter_map(|(role, name)| Some((role, name.as_deref()?))).collect();
    roles.extend(data.columns.negatives.iter().map(|name| ("negatives", name.as_str())));
    for (i, (role, name)) in roles.iter().enumerate() {
        if let Some((first, _)) = roles[..i].iter().find(|(_, earlier)| earlier == name) {
            reader.problem("data.columns", role, format_args!("{name:?} is the column of {first} already; name another"));
        }
    }
    if spec.model.revision.is_some() && spec.model.base.contains(':') {
        reader.warn("model", "revision", "has no effect: only models of the hub have revisions");
    }
}
