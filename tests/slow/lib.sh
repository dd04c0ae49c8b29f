# Where the slow suites find things; sourced by them. Each path can be set from outside:
#   ARTEL         the binary              (target/release/artel)
#   ARTEL_SHARED  data, goldens, peer     (a folder named shared beside the clone)
#   ARTEL_PEER    sentence-transformers' venv, made by $ARTEL_SHARED/peer/setup.sh  (~/.cache/artel-peer)
#   ARTEL_MINILM  all-MiniLM-L6-v2        (the one in the venv)
#   WORK          scratch, kept when set  (a fresh folder, removed at the end)
# With --help a suite tells what stands at its head.
case ${1:-} in -h | --help) sed -n '2,${/^#/!q;s/^# \{0,1\}//p}' "$0"; exit 0 ;; esac
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
artel=${ARTEL:-$root/target/release/artel}
shared=${ARTEL_SHARED:-$(cd "$root/.." && pwd)/shared}
peer=${ARTEL_PEER:-$HOME/.cache/artel-peer}
python=$peer/bin/python

need() { [ -e "$1" ] || { echo "missing: $1 ($2)" >&2; exit 2; }; }
need "$artel" "cargo build --release, or set ARTEL"
need "$shared/data/medquad_test.jsonl" "set ARTEL_SHARED"
need "$python" "$shared/peer/setup.sh makes it, or set ARTEL_PEER"
minilm=${ARTEL_MINILM:-$("$python" "$shared/peer/minilm.py")}
need "$minilm/config.json" "set ARTEL_MINILM"

if [ -n "${WORK:-}" ]; then
  mkdir -p "$WORK"
  work=$(cd "$WORK" && pwd)
else
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
fi

# spec NAME STORE ROWS SEED: the recipe of the MedQuAD figures over the first ROWS training pairs.
# Settings: TRAIN_FILE, TEST_FILE, BASE, BATCH, LENGTH, DIMS, WORKERS, DEVICE.
spec() {
  cat <<SPEC
[run]
name = "$1"
store = "file:$2"
[data]
pairs = ["${TRAIN_FILE:-$shared/data/medquad_train.jsonl}"]
columns = { anchor = "anchor", positive = "positive", group = "doc" }
limit = $3
test = "${TEST_FILE:-$shared/data/medquad_test.jsonl}"
[model]
base = "${BASE:-$minilm}"
max_seq_length = ${LENGTH:-256}
[train]
global_batch_size = ${BATCH:-32}
num_train_epochs = 1
learning_rate = 2e-5
lr_scheduler_type = "cosine"
warmup_ratio = 0.1
max_grad_norm = 1.0
dropout = 0.1
matryoshka_dims = [${DIMS:-384, 256, 128, 64}]
seed = $4
logging_steps = 1
eval_strategy = "no"
save_strategy = "no"
[evaluate]
metric_for_best_model = "dim_128_cosine_ndcg@10"
[workers]
${WORKERS:+count = $WORKERS}
device = "${DEVICE:-cpu}"
SPEC
}
