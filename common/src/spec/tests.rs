use std::path::Path;

use super::keys::{KEYS, SECTIONS};
use super::*;
use crate::digest::Digest;

const LEAST: &str = "[data]\npairs = \"pairs.jsonl\"\n[model]\nbase = \"artel:toy\"\n";

fn ok(text: &str) -> RunSpec {
    match RunSpec::parse(text, "s.toml") {
        Ok((spec, _)) => spec,
        Err(e) => panic!("refused: {e}\n{text}"),
    }
}

fn problems(text: &str) -> Vec<String> {
    let error = RunSpec::parse(text, "s.toml").expect_err("the spec is wrong");
    error.to_string().lines().map(str::to_owned).collect()
}

/// The least spec with these lines under `[train]`.
fn train(lines: &str) -> String {
    format!("{LEAST}[train]\n{lines}\n")
}

/// Goal: the vocabulary of the README's example is taken as it stands. Method: read it and look at each value.
#[test]
fn example() {
    let text = r#"
[run]
name = "medquad"
store = "file:./artel-store"
[data]
pairs = ["medquad_train.jsonl"]
columns = { anchor = "anchor", positive = "positive", negatives = ["n1", "n2"], group = "doc" }
limit = 2048
test = "medquad_test.jsonl"
[model]
base = "BAAI/bge-base-en-v1.5"
max_seq_length = 256
[train]
global_batch_size = 32
gradient_accumulation_steps = 1
num_train_epochs = 1
learning_rate = 2e-5
lr_scheduler_type = "cosine"
warmup_ratio = 0.1
matryoshka_dims = [64, 384, 256, 128]
matryoshka_weights = [1, 4, 3, 2]
seed = 42
eval_strategy = "epoch"
save_strategy = "epoch"
[evaluate]
metric_for_best_model = "eval_dim_128_cosine_ndcg@10"
[workers]
count = 2
communication_data_type = "f32"
device = "cpu"
memory_limit = "2GB"
"#;
    let (spec, warnings) = RunSpec::parse(text, "s.toml").expect("the example is right");
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(spec.data.columns.negatives, ["n1", "n2"]);
    assert_eq!(spec.data.columns.group.as_deref(), Some("doc"));
    assert_eq!(spec.train.matryoshka_dims, [384, 256, 128, 64]);
    assert_eq!(spec.train.matryoshka_weights, [4.0, 3.0, 2.0, 1.0]);
    assert_eq!(spec.evaluate.metric_for_best_model, "dim_128_cosine_ndcg@10");
    assert_eq!((spec.workers.count, spec.workers.memory_limit), (2, Some(2_000_000_000)));
    assert_eq!(spec.data.limit, Some(2048));
}

/// Goal: what is not said has the documented default. Method: the least spec.
#[test]
fn defaults() {
    let spec = ok(LEAST);
    assert_eq!(spec.run, RunSection { name: "run".into(), store: "file:./artel-store".into() });
    assert_eq!((spec.train.global_batch_size, spec.train.num_train_epochs, spec.train.logging_steps), (64, 3, 10));
    assert_eq!((spec.train.learning_rate, spec.train.warmup_ratio, spec.train.max_grad_norm), (5e-5, 0.0, 1.0));
    assert!(spec.train.load_best_model_at_end);
    assert_eq!(spec.evaluate.metric_for_best_model, "cosine_ndcg@10");
    assert_eq!(spec.best_metric(384), "dim_384_cosine_ndcg@10");
    assert_eq!(spec.train_dims(384), [Width { dim: 384, weight: 1.0 }]);
    assert!(!ok(&train("eval_strategy = \"no\"")).train.load_best_model_at_end);
}

/// Goal: every problem is told at once, in order, with its line and what to write. Method: a spec with one of each kind.
#[test]
fn all_problems_at_once() {
    let text = "[run]\nnmae = \"x\"\n[dta]\n[data]\npairs = []\ntest_fraction = 2\n[model]\n[train]\nper_device_train_batch_size = 4\nlearning_rte = 1\nlearning_rate = \"2e-5\"\nglobal_batch_size = 1\nmatryoshka_dims = [64, 64]\nmetric_for_best_model = \"x\"\nbf16 = true\n";
    let found = problems(text);
    let expected = [
        "s.toml:2: run.nmae: there is no such key; did you mean name",
        "s.toml:3: [dta]: there is no such section; did you mean [data]",
        "s.toml:5: data.pairs: names no file",
        "s.toml:6: data.test_fraction: is 2, but a number above 0 and below 1 is wanted; write test_fraction = 0.1",
        "s.toml:7: model.base: is missing",
        "s.toml:9: train.per_device_train_batch_size: Artel has no such key; a batch here is global",
        "s.toml:10: train.learning_rte: there is no such key; did you mean learning_rate",
        "s.toml:11: train.learning_rate: is \"2e-5\", but a number above 0",
        "s.toml:12: train.global_batch_size: is 1, but a whole number from 2",
        "s.toml:13: train.matryoshka_dims: is [64, 64], but a list of positive whole numbers, each there once,",
        "s.toml:14: train.metric_for_best_model: it belongs in [evaluate]",
        "s.toml:15: train.bf16: Artel has no such key",
    ];
    for (line, begin) in found.iter().zip(expected) {
        assert!(line.starts_with(begin), "{line}\nwanted: {begin}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

/// Goal: each wrong value is refused with words that name the remedy. Method: one spec each, and a piece of its message.
#[test]
fn wrong_values() {
    let cases = [
        ("learning_rate = 0", "above 0"),
        ("learning_rate = nan", "above 0"),
        ("learning_rate = -1e-5", "above 0"),
        ("warmup_ratio = 1", "from 0 to below 1"),
        ("dropout = 1.0", "from 0 to below 1"),
        ("dropout = inf", "from 0 to below 1"),
        ("num_train_epochs = 0", "from 1"),
        ("num_train_epochs = 1.5", "whole number"),
        ("max_steps = -1", "whole number"),
        ("seed = 99999999999999999999", "whole number"),
        ("gradient_leaves = 65", "from 1 to 64"),
        ("adam_epsilon = 0", "above 0"),
        ("matryoshka_dims = [0]", "positive"),
        ("matryoshka_dims = 64", "list"),
        ("matryoshka_dims = [64]\nmatryoshka_weights = [1, 2]", "2 weights"),
        ("matryoshka_weights = [1]", "1 weights"),
        ("eval_strategy = \"steps\"", "train.eval_steps: is missing"),
        ("save_strategy = \"steps\"", "train.save_steps: is missing"),
        ("eval_strategy = \"best\"", "one of \"no\", \"steps\", \"epoch\""),
        ("eval_strategy = \"no\"\nload_best_model_at_end = true", "eval_strategy = \"epoch\""),
        ("lr_scheduler_type = \"polynomial\"", "\"linear\", \"cosine\", \"constant\", \"constant_with_warmup\""),
        ("precision = \"bf16\"", "the CPU trains in f32"),
        ("loss = \"TripletLoss\"", "does not train with"),
        ("loss = \"MatryoshkaLoss\"", "matryoshka_dims"),
        ("loss = \"CachedMultipleNegativesRankingLoss\"", "by memory"),
        ("loss = \"banana\"", "no loss is called that"),
        ("loss = 3", "is 3"),
        ("drop_last = 1", "true or false"),
        ("drop_last = 1979-05-27", "the date 1979-05-27"),
        ("[evaluate]\nmetric_for_best_model = \"dim_128_cosine_ndgc@10\"", "did you mean dim_128_cosine_ndcg@10"),
        ("[evaluate]\nmetric_for_best_model = \"dim_x_cosine_ndcg@10\"", "no width"),
        ("matryoshka_dims = [64]\n[evaluate]\nmetric_for_best_model = \"dim_128_cosine_ndcg@10\"", "not measured"),
        ("[workers]\ncount = 9", "gradient_leaves = 9"),
        ("[workers]\ndevice = \"gpu\"", "write device = \"cuda\" for NVIDIA GPUs, \"cpu\", or \"auto\""),
        ("[workers]\ndevice = \"mps\"", "or \"auto\" for the GPUs where there are some"),
        ("[workers]\ndevice = \"gpus\"", "one of \"auto\", \"cpu\", \"cuda\" is wanted"),
        ("[workers]\ndevice = 3", "is 3"),
        ("[workers]\ndevice = \"cuda:1\"", "name the GPU in CUDA_VISIBLE_DEVICES"),
        ("[workers]\ncommunication_data_type = \"bf16\"", "sum gradients exactly"),
        ("precision = \"fp16\"", "a GPU in bf16, tf32 or f32"),
        ("precision = \"tf32\"", "a format of GPUs"),
        ("[workers]\nmemory_limit = \"2 apples\"", "\"2GB\""),
        ("[workers]\nmemory_limit = 2", "at least 1 MB"),
    ];
    for (lines, piece) in cases {
        let found = problems(&train(lines));
        assert!(
            found.len() == 1 && found[0].contains(piece) && found[0].starts_with("s.toml:"),
            "{lines}\n{found:#?}\nwanted: {piece}"
        );
    }
}

/// Goal: a GPU trains in bf16 whether that is written or not, and in tf32 or f32 where that is; a run's identity tells precisions apart, and not how gradients go between GPUs.
/// Method: a spec each.
#[test]
fn devices() {
    let on_gpu = ok(&format!("{LEAST}[workers]\ndevice = \"cuda\"\n"));
    assert_eq!((on_gpu.workers.device, on_gpu.train.precision), (DeviceKind::Cuda, Precision::Bf16));
    let counted = ok(&format!("{LEAST}[workers]\ndevice = \"cuda\"\ncount = 128\n"));
    assert_eq!((counted.workers.count, counted.workers.every_gpu, on_gpu.workers.every_gpu), (128, false, true));
    let written = ok(&format!("{LEAST}[train]\nprecision = \"bf16\"\n[workers]\ndevice = \"cuda\"\n"));
    assert_eq!(written, on_gpu);
    let on_cpu = ok(LEAST);
    assert_eq!((on_cpu.workers.device, on_cpu.train.precision), (DeviceKind::Cpu, Precision::F32));
    let digest = |spec: &RunSpec| spec.identity(&Digest::of(b"data"), &Digest::of(b"model")).expect("it was loaded");
    assert_ne!(digest(&on_gpu), digest(&on_cpu));
    for (name, precision) in [("tf32", Precision::Tf32), ("f32", Precision::F32)] {
        let other = ok(&format!("{LEAST}[train]\nprecision = \"{name}\"\n[workers]\ndevice = \"cuda\"\n"));
        assert_eq!(other.train.precision, precision);
        assert_ne!(digest(&other), digest(&on_gpu));
    }
    let halved = ok(&format!("{LEAST}[workers]\ndevice = \"cuda\"\ncommunication_data_type = \"bf16\"\n"));
    assert_eq!((halved.workers.communication_data_type, digest(&halved)), (CommunicationType::Bf16, digest(&on_gpu)));
}

/// Goal: what the spec leaves open is found by the machine's GPUs, and travels as that; what it says is not. Method: nothing, `auto` and each device, on machines
/// with and without; the spec of a store of before.
#[test]
fn the_device_is_found() {
    let on = |workers: &str, gpus: fn() -> usize| {
        let (spec, _) = super::load::parse(&format!("{LEAST}[workers]\n{workers}"), "s.toml", "run", gpus).expect("a spec");
        spec
    };
    let facts = |spec: &RunSpec| {
        let WorkersSection { device, device_found, every_gpu, count, .. } = spec.workers;
        (device, device_found, every_gpu, count, spec.train.precision)
    };
    for open in ["", "device = \"auto\"", "device = \"Auto\""] {
        assert_eq!(facts(&on(open, || 8)), (DeviceKind::Cuda, true, true, 1, Precision::Bf16), "{open}");
        assert_eq!(facts(&on(open, || 0)), (DeviceKind::Cpu, true, false, 1, Precision::F32), "{open}");
    }
    assert_eq!(facts(&on("count = 2", || 8)), (DeviceKind::Cuda, true, false, 2, Precision::Bf16));
    let unasked: fn() -> usize = || panic!("the spec says it");
    let (on_cpu, on_gpu) = (on("device = \"cpu\"", unasked), on("device = \"CUDA\"", unasked));
    assert_eq!(facts(&on_cpu), (DeviceKind::Cpu, false, false, 1, Precision::F32));
    assert_eq!(facts(&on_gpu), (DeviceKind::Cuda, false, true, 1, Precision::Bf16));

    let digest = |spec: &RunSpec| spec.identity(&Digest::of(b"data"), &Digest::of(b"model")).expect("it was loaded");
    assert_eq!((digest(&on("", || 8)), digest(&on("", || 0))), (digest(&on_gpu), digest(&on_cpu)));
    let found = on("", || 8);
    let travelled: RunSpec = serde_json::from_value(found.to_json().expect("loaded")).expect("it reads back");
    assert!(travelled.workers.device_found && !on_gpu.to_json().expect("loaded").to_string().contains("found"));
    let before: RunSpec = serde_json::from_value(on_cpu.to_json().expect("loaded")).expect("a record without the field reads");
    assert_eq!(before, on_cpu);
    assert!(found.effective_toml().expect("loaded").contains("device = \"cuda\""));
}

/// Goal: `[data]` contradictions are told. Method: one spec each.
#[test]
fn wrong_data() {
    let cases = [
        ("test = \"t.jsonl\"\ntest_fraction = 0.1", "leave out test or test_fraction"),
        ("limit = 10", "do not fill one batch"),
        ("limit = 0", "1 or more"),
        ("columns = \"anchor\"", "a table"),
        ("columns = { ancor = \"a\" }", "did you mean anchor"),
        ("columns = { anchor = \"a\", positive = \"a\" }", "already"),
        ("near_duplicate_threshold = 0", "at most 1"),
    ];
    for (lines, piece) in cases {
        let found = problems(&format!("[data]\npairs = \"p\"\n{lines}\n[model]\nbase = \"b\"\n"));
        assert!(found.len() == 1 && found[0].contains(piece), "{lines}\n{found:#?}");
    }
}

/// Goal: what is allowed but hardly meant is warned of. Method: the seed's batches, and keys without effect.
#[test]
fn warnings() {
    let cases = [
        (
            "global_batch_size = 4\ngradient_accumulation_steps = 16",
            "global_batch_size = 64 with gradient_accumulation_steps = 1",
        ),
        ("eval_steps = 5", "has no effect without eval_strategy"),
        ("lr_scheduler_type = \"constant\"\nwarmup_ratio = 0.1", "constant_with_warmup"),
        ("learning_rate = 0.01", "far above"),
    ];
    for (lines, piece) in cases {
        let (_, found) = RunSpec::parse(&train(lines).replace("artel:toy", "model"), "s.toml").expect(lines);
        assert!(found.len() == 1 && found[0].contains(piece) && found[0].starts_with("s.toml:"), "{lines}\n{found:#?}");
    }
}

/// A spec of documents whose `[questions]` has these lines.
fn asking(lines: &str) -> String {
    format!("[documents]\nsources = \"d\"\n[questions]\n{lines}\n[model]\nbase = \"b\"\n")
}

/// Goal: contradictions of `[questions]` and `[documents]` are told, each once. Method: one spec each, and a piece of its message.
#[test]
fn wrong_questions() {
    let server = "provider = \"openai\"\nmodel = \"m\"\nbase_url = \"http://h/v1\"\n";
    let cases = [
        (format!("{server}styles = [\"funny\"]"), "\"funny\" is no style"),
        (format!("{server}styles = []"), "names none; there are natural"),
        ("provider = \"openai\"\nbase_url = \"http://h/v1\"".to_owned(), "BASE_URL/models lists them"),
        ("provider = \"gemini\"".to_owned(), "gemini-1.5-flash"),
        ("provider = \"gemini\"\nmodel = 3".to_owned(), "model: is 3"),
        (format!("{server}judge_threshold = 6"), "from 1 to 5"),
        (format!("{server}judge_threshold = 3\njudge_prompt = \"{{text}} {{answer}}\""), "has no {question}: question"),
        (format!("{server}judge_threshold = 3\njudge_prompt = \"{{text}}\""), "has no {question} and no {answer}"),
        (format!("{server}answers_from = \"ftp://h/p\""), "questions.answers_from: ftp://h/p: not a store"),
        (format!("{server}answers_from = \"http://h/p\""), "is a server and no store"),
    ];
    for (lines, piece) in cases {
        let found = problems(&asking(&lines));
        assert!(found.len() == 1 && found[0].contains(piece), "{lines}\n{found:#?}\nwanted: {piece}");
    }
    let found =
        problems("[documents]\nsources = \"d\"\nlanguages = []\n[questions]\nprovider = \"offline\"\n[model]\nbase = \"b\"");
    assert!(found.len() == 1 && found[0].contains("languages: names none"), "{found:#?}");
    let found = problems("[documents]\nsources = []\n[questions]\nprovider = \"offline\"\n[model]\nbase = \"b\"");
    assert!(found.len() == 1 && found[0].contains("sources: names none"), "{found:#?}");
}

/// Goal: keys that do nothing are warned of. Method: offline with keys of a server, a judge's keys without a threshold.
#[test]
fn questions_without_effect() {
    let warnings = |lines: &str| RunSpec::parse(&asking(lines), "s.toml").expect(lines).1;
    assert_eq!(warnings("provider = \"offline\"\npairs_per_chunk = 2"), Vec::<String>::new());
    for line in [
        "model = \"m\"",
        "base_url = \"http://h/v1\"",
        "api_key_env = \"E\"",
        "api_key_file = \"f\"",
        "max_cost = 1",
        "judge_threshold = 3",
        "judge_model = \"m\"",
        "answers_from = \"other\"",
    ] {
        let found = warnings(&format!("provider = \"offline\"\n{line}"));
        assert!(found.len() == 1 && found[0].contains("has no effect offline"), "{line}\n{found:#?}");
    }
    let server = "provider = \"openai\"\nmodel = \"m\"\nbase_url = \"http://h/v1\"\n";
    let found = warnings(&format!("{server}judge_model = \"j\""));
    assert!(found.len() == 1 && found[0].contains("without judge_threshold"), "{found:#?}");
    assert_eq!(warnings(&format!("{server}judge_threshold = 3\njudge_model = \"j\"")), Vec::<String>::new());
    let found = warnings(&format!("{server}api_key_env = \"E\"\napi_key_file = \"f\""));
    assert!(found.len() == 1 && found[0].contains("has no effect beside api_key_env"), "{found:#?}");
    let found = warnings(&format!("{server}prompt = \"about {{text}} in {{language}}, {{}} {{count}}\""));
    assert!(found.len() == 1 && found[0].contains("has {language} in it, which stays as it is"), "{found:#?}");
    let names = "{question} {answer} {text} {score}";
    let found = warnings(&format!("{server}judge_threshold = 3\njudge_prompt = \"{names}\""));
    assert!(found.len() == 1 && found[0].contains("has {score} in it"), "{found:#?}");
}

/// Goal: a judge changes what the pairs are known by, where it changes which there are, and answers of another run do not. Method: one key each.
#[test]
fn making_digests() {
    let server = "provider = \"openai\"\nmodel = \"m\"\nbase_url = \"http://h/v1\"\n";
    let of = |lines: &str| ok(&asking(&format!("{server}{lines}"))).making_digest().expect("it makes pairs");
    let judged = of("judge_threshold = 3");
    assert_ne!(judged, of(""));
    assert_eq!(judged, of("judge_threshold = 3\njudge_model = \"m\""));
    // all scores are kept, so another threshold reads and asks nothing anew; the data set is another one
    assert_eq!(of("judge_threshold = 4"), judged);
    let judged_from = |threshold: u32| ok(&asking(&format!("{server}judge_threshold = {threshold}"))).making_settings();
    assert_ne!(judged_from(3), judged_from(4));
    for other in ["judge_threshold = 3\njudge_model = \"j\"", "judge_threshold = 3\njudge_prompt = \"{text}{question}{answer}\""]
    {
        assert_ne!(of(other), judged, "{other}");
    }
    assert_eq!(of("answers_from = \"s3://b/p\""), of(""));
    assert_eq!(of("judge_model = \"j\""), of(""));
    let began = ok(&asking(server));
    let now = ok(&asking(&format!("{server}judge_threshold = 3")));
    let changes = now.changes_since(&began).expect("they were loaded");
    assert!(changes.contains(&"questions.judge_threshold was not set and is 3".to_owned()), "{changes:?}");
}

/// Goal: broken TOML names its lines and does not hide the other problems. Method: two syntax errors around an unknown key.
#[test]
fn broken_toml() {
    let found = problems("[data]\npairs = [\n[model]\nbase = \"x\"\nbse = 1\n");
    assert!(found.len() == 3 && found[0].starts_with("s.toml:3: not TOML"), "{found:#?}");
    let found = problems("[data]\npairs = \"p\"\nlimit = \n[model]\nbase = \"x\"\nbse = 1\nbase = \"y\"\n");
    assert!(found.iter().any(|line| line.starts_with("s.toml:3: not TOML")), "{found:#?}");
    assert!(found.iter().any(|line| line.starts_with("s.toml:6: model.bse")), "{found:#?}");
    assert!(found.iter().any(|line| line.starts_with("s.toml:7: not TOML")), "{found:#?}");
    for text in ["", "\0", "]]]", "x = 1", "[train]\n[train]", "train = 1", "a.b.c = 1", "[[train]]", "[data]\ncolumns = []"] {
        assert!(!problems(text).is_empty(), "{text}");
    }
}

/// Goal: keys at the top, in another section, or of other trainers are led home. Method: one of each.
#[test]
fn lost_keys() {
    let found = problems(&format!(
        "name = \"x\"\nlearning_rate = 1\n{LEAST}batch_size = 3\noutput_dir = \"x\"\n[workers]\nseed = 1\nqqqqq = 1\n"
    ));
    for (line, piece) in found.iter().zip([
        "belongs in [run]",
        "belongs in [train]",
        "global_batch_size",
        "store",
        "belongs in [train]",
        "[workers] has count",
    ]) {
        assert!(line.contains(piece), "{line}");
    }
    assert_eq!(found.len(), 6, "{found:#?}");
}

/// A spec in which every optional key has a value.
fn full() -> RunSpec {
    ok(
        "[run]\nname = \"n\"\nstore = \"s3://b/p\"\n[documents]\nsources = \"d\"\n[questions]\nprovider = \"openai\"\nmodel = \"m\"\nbase_url = \"http://h/v1\"\napi_key_env = \"E\"\napi_key_file = \"f\"\n\
        prompt = \"{text}\"\nrequests_per_minute = 1\ntokens_per_minute = 1\nmax_cost = 1\nmax_requests = 1\nprice_in = 1\nprice_out = 1\n\
        judge_threshold = 4\njudge_model = \"j\"\njudge_prompt = \"{question} {answer} {text}\"\nanswers_from = \"s3://b/other\"\n[cleaning]\nround_trip = 20\nnum_negatives = 2\nrange_max = 50\n[data]\npositive = \"chunk\"\npairs = \"p\"\ncolumns = { anchor = \"a\", positive = \"b\", negatives = \"c\", group = \"g\", id = \"i\" }\nlimit = 100\ntest = \"t\"\n\
        [model]\nbase = \"b\"\nrevision = \"r\"\nmax_seq_length = 9\nquery_prompt = \"q\"\npassage_prompt = \"\"\n\
        [train]\nmax_steps = 5\nmatryoshka_dims = [8, 4]\ndropout = 0\neval_strategy = \"steps\"\neval_steps = 3\nsave_strategy = \"steps\"\nsave_steps = 3\nsave_total_limit = 1\n\
        [evaluate]\ndims = [4]\n[workers]\ndevice = \"cpu\"\nthreads = 1\nmemory_limit = 99000000\n",
    )
}

/// Goal: the key table, the structs and the reference name the same keys. Method: serialise a full spec and compare all three.
#[test]
fn keys_are_documented() {
    let json = full().to_json().expect("it was loaded");
    let mut names = std::collections::BTreeSet::new();
    for section in SECTIONS {
        for (name, value) in json[section].as_object().expect("a section is a table") {
            assert!(!value.is_null(), "full() leaves {section}.{name} out");
            names.insert(format!("{section}.{name}"));
            for inner in value.as_object().into_iter().flatten() {
                names.insert(format!("{section}.{name}.{}", inner.0));
            }
        }
    }
    let table: std::collections::BTreeSet<String> = KEYS.iter().map(|key| format!("{}.{}", key.section, key.name)).collect();
    assert_eq!(names, table);
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/spec.md");
    let text = std::fs::read_to_string(&reference).expect("the reference lies in docs/reference/spec.md");
    for key in KEYS {
        let row = format!(
            "| `{}` |",
            if key.section == "data.columns" { format!("columns.{}", key.name) } else { key.name.to_owned() }
        );
        assert!(text.contains(&row), "docs/reference/spec.md has no row that begins {row}");
    }
}

/// Goal: what an error tells people to write is right. Method: read every example of the key table.
#[test]
fn examples_are_right() {
    for key in KEYS {
        let mut text = String::new();
        for section in SECTIONS {
            text.push_str(&format!("[{section}]\n"));
            for (name, needed) in [
                ("documents", "sources = \"d\""),
                ("questions", "provider = \"offline\""),
                ("questions", "model = \"m\""),
                ("data", "pairs = \"p\""),
                ("model", "base = \"b\""),
            ] {
                if section == name && (key.section, key.name) != (name, needed.split(' ').next().expect("a word")) {
                    text.push_str(&format!("{needed}\n"));
                }
            }
            if key.section == section {
                text.push_str(&format!("{} = {}\n", key.name, key.example));
            } else if key.section == "data.columns" && section == "data" {
                text.push_str(&format!("columns = {{ {} = {} }}\n", key.name, key.example));
            }
            if key.name == "matryoshka_weights" && section == "train" {
                text.push_str("matryoshka_dims = [4, 3, 2, 1]\n");
            }
        }
        ok(&text);
    }
}

/// Goal: the effective spec says everything. Method: write the full spec and the least one as TOML and read them back.
#[test]
fn effective_toml_round_trip() {
    for spec in [full(), ok(LEAST)] {
        let text = spec.effective_toml().expect("it was loaded");
        let mut again =
            ok(&text.replace("test_fraction = 0.1\n", if spec.data.test.is_some() { "" } else { "test_fraction = 0.1\n" }));
        again.data.test_fraction = spec.data.test_fraction;
        again.workers.device_found = spec.workers.device_found;
        assert_eq!(again, spec, "{text}");
    }
}

/// Goal: `[cleaning]` is refused where it cannot be, warned of where it has no effect, and known by what changes the data set. Method: one spec each.
#[test]
fn cleaning() {
    let with = |lines: &str, base: &str| {
        format!(
            "[documents]\nsources = \"d\"\n[questions]\nprovider = \"offline\"\n[cleaning]\n{lines}\n[model]\nbase = \"{base}\"\n"
        )
    };
    let refused = [
        ("round_trip = 0", "b", "cleaning.round_trip: is 0"),
        ("num_negatives = 3\nrange_min = 8\nrange_max = 10", "b", "write 11 or more"),
        ("relative_margin = -0.1", "b", "a number from 0 to 1"),
        ("round_trip = 5", "artel:toy", "the toy has no weights before"),
        ("num_negatives = 5", "artel:toy", "cleaning.num_negatives: needs the base model's embeddings"),
    ];
    for (lines, base, piece) in refused {
        let found = problems(&with(lines, base));
        assert!(found.len() == 1 && found[0].contains(piece), "{lines}\n{found:#?}");
    }
    assert_eq!(ok(&with("", "artel:toy")).mining(), None);
    let (_, found) = RunSpec::parse(&with("range_min = 3", "b"), "s.toml").expect("allowed");
    assert!(found[0].contains("cleaning.range_min: has no effect without num_negatives"), "{found:?}");
    let (spec, found) = RunSpec::parse(&format!("{LEAST}[cleaning]\nround_trip = 5"), "s.toml").expect("allowed");
    assert!(found[0].contains("[cleaning]: has no effect without [documents]") && spec.cleaning.is_none(), "{found:?}");
    let of = |lines: &str| ok(&with(lines, "b"));
    let (plain, mined) = (of(""), of("round_trip = 20\nnum_negatives = 2"));
    assert_eq!((plain.making_digest(), plain.mining_digest()), (mined.making_digest(), None), "answers are kept");
    assert_ne!(mined.mining_digest(), of("round_trip = 20\nnum_negatives = 3").mining_digest());
    assert_eq!(of("round_trip = 20").mining_digest(), of("round_trip = 20\nrange_min = 1").mining_digest());
    let changes = mined.changes_since(&plain).expect("loaded");
    assert!(changes.contains(&"cleaning.round_trip was not set and is 20".to_owned()), "{changes:?}");
    assert_eq!(plain.changes_since(&plain).expect("loaded"), Vec::<String>::new());
}

/// Goal: the identity is of what changes the weights, and of nothing else. Method: change one setting at a time.
#[test]
fn identity() {
    let (data, model) = (Digest::of(b"data"), Digest::of(b"model"));
    let of = |text: &str| ok(text).identity(&data, &model).expect("it was loaded");
    let base = of(LEAST);
    for same in [
        "[workers]\ncount = 2\nthreads = 1\nmemory_limit = \"1GB\"",
        "[run]\nname = \"other\"\nstore = \"s3://elsewhere\"",
        "[train]\nlogging_steps = 1\nsave_strategy = \"no\"\nsave_total_limit = 3",
        "[train]\nseed = 42\nlearning_rate = 5e-5",
    ] {
        assert_eq!(of(&format!("{LEAST}{same}")), base, "{same}");
    }
    for other in [
        "seed = 1",
        "learning_rate = 4e-5",
        "gradient_leaves = 4",
        "micro_batch_tokens = 512",
        "dropout = 0.1",
        "matryoshka_dims = [8]",
        "eval_strategy = \"no\"",
        "max_steps = 3",
    ] {
        assert_ne!(of(&train(other)), base, "{other}");
    }
    assert_ne!(of(&format!("{LEAST}max_seq_length = 9")), base);
    assert_ne!(ok(LEAST).identity(&model, &data).expect("loaded"), base);
    let quiet = "load_best_model_at_end = false\neval_strategy = ";
    assert_eq!(of(&train(&format!("{quiet}\"no\""))), of(&train(&format!("{quiet}\"epoch\""))));
}

/// Goal: widths beyond the model are refused, by key. Method: dims against a model of width 384.
#[test]
fn dims_against_the_model() {
    let spec = ok(&train("matryoshka_dims = [768, 384]\n[evaluate]\ndims = [512, 64]"));
    let long = ok(&format!("{LEAST}max_seq_length = 200"));
    assert_eq!(long.check_length(200).map_err(|e| e.to_string()), Ok(()));
    assert!(long.check_length(128).expect_err("200 > 128").to_string().contains("200 is more than the 128 positions of "));
    let error = spec.check_dims(384).expect_err("768 > 384").to_string();
    assert!(error.contains("train.matryoshka_dims: 768") && error.contains("evaluate.dims: 512"), "{error}");
    assert_eq!(spec.check_dims(768).map_err(|e| e.to_string()), Ok(()));
    let spec = ok(&train("[evaluate]\nmetric_for_best_model = \"dim_128_cosine_mrr@10\""));
    assert!(spec.check_dims(384).expect_err("only 384 is measured").to_string().contains("not measured"));
    assert_eq!(spec.check_dims(128).map_err(|e| e.to_string()), Ok(()));
}

/// Goal: a file that is no spec is refused in words, and paths are those of its folder. Method: files of each kind.
#[test]
fn files() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("medquad.toml");
    let error = |path: &Path| RunSpec::load(path).expect_err("no spec").to_string();
    assert!(error(&path).contains("cannot read the spec"));
    assert!(error(folder.path()).contains("is a folder"));
    std::fs::write(&path, b"[run]\nname = \"\xff\"\n").expect("writable");
    assert!(error(&path).contains(":2: is not UTF-8"));
    std::fs::write(&path, vec![b'#'; 2 << 20]).expect("writable");
    assert!(error(&path).contains("is no spec"));
    std::fs::write(&path, format!("\u{feff}[run]\r\nstore = \"file:./st\"\r\n{LEAST}")).expect("writable");
    let loaded = LoadedSpec::load(&path, || 0).expect("a spec with a byte order mark and other line ends");
    assert_eq!(loaded.spec.run.name, "medquad");
    let here = std::env::current_dir().expect("a current folder");
    assert_eq!(loaded.spec.run.store, format!("file:{}/st", here.display()));
    assert_eq!(loaded.folder, folder.path());
    std::fs::write(&path, asking("provider = \"offline\"\nanswers_from = \"../other\"")).expect("writable");
    let asked = LoadedSpec::load(&path, || 0).expect("a spec").spec.questions.expect("it asks questions");
    let beside = folder.path().parent().expect("a folder lies in one").join("other");
    assert_eq!(asked.answers_from, Some(format!("file:{}", beside.display())));
    let mut spec = loaded.spec;
    assert!(spec.override_workers(0).is_err() && spec.override_workers(9).is_err());
    spec.override_workers(8).expect("as many as leaves");
    spec.override_store("s3://b/p").expect("a bucket");
    assert_eq!((spec.workers.count, spec.run.store.as_str()), (8, "s3://b/p"));
    assert!(spec.override_store("ftp://b").is_err());
}
