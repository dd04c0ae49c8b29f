#!/usr/bin/env bash
# Speed and memory on the CPU beside sentence-transformers, in one go: the two take turns, so that both see the same machine.
#   bench/cpu.sh [ROW...]       the rows of bench/cpu_rows.tsv by name; all of them if none is named (some hours)
# Writes bench/results/cpu-DATE.json and .md. Pairs per second: Artel's from report.json (trained pairs over the wall time
# of tokenise and train), sentence-transformers' over its steps alone, warm-up steps and imports left out.
# Peak memory: Artel's summed over all processes (PSS), sentence-transformers' the one process' (RSS).
# Settings: ROUNDS=3, WORKERS (what the spec's default is), NAME=cpu-DATE, and those of tests/slow/lib.sh: ARTEL, ARTEL_SHARED,
# ARTEL_PEER, ARTEL_MINILM, WORK.
set -euo pipefail
command="ROUNDS=${ROUNDS:-3}${WORKERS:+ WORKERS=$WORKERS} bench/cpu.sh $*"
source "$(dirname "$0")/../tests/slow/lib.sh"
rounds=${ROUNDS:-3}
rows=$root/bench/cpu_rows.tsv
pin=()
if command -v taskset > /dev/null; then pin=(taskset -c 0,1); fi
head -n 64 "$shared/data/medquad_test.jsonl" > "$work/few.jsonl"

# data NAME: the training pairs of a row, made where they are not MedQuAD's own
data() {
  case $1 in
    medquad) echo "$shared/data/medquad_train.jsonl" ;;
    short)
      [ -e "$work/short.jsonl" ] || "$python" "$root/bench/cut_answers.py" "$minilm" "$shared/data/medquad_train.jsonl" "$work/short.jsonl"
      echo "$work/short.jsonl"
      ;;
    *) echo "no data $1" >&2; exit 2 ;;
  esac
}

# model NAME: a model folder; bge has BGE-base's shape with random weights
model() {
  case $1 in
    minilm) echo "$minilm" ;;
    bge)
      [ -e "$work/bge/config.json" ] || "$python" "$root/bench/bge_shape.py" "$minilm" "$work/bge"
      echo "$work/bge"
      ;;
    *) echo "no model $1" >&2; exit 2 ;;
  esac
}

train() { # ROUND ROW MODEL DATA BATCH LENGTH STEPS MINI DIMS
  local tag=$2-$1 pairs=$(($5 * $7)) base file
  base=$(model "$3")
  file=$(data "$4")
  echo "round $1 of $rounds, $2: artel" >&2
  TEST_FILE=$work/few.jsonl TRAIN_FILE=$file BASE=$base BATCH=$5 LENGTH=$6 DIMS=$9 \
    spec "$tag" "$work/store-$tag" "$pairs" 42 > "$work/$tag.toml"
  "${pin[@]}" "$artel" run "$work/$tag.toml" --json > "$work/$tag.events.jsonl"
  cp "$work/store-$tag/report.json" "$work/$tag.artel.json"
  rm -rf "$work/store-$tag"
  if [ "$8" = none ]; then return; fi
  echo "round $1 of $rounds, $2: sentence-transformers" >&2
  # with few steps there are fewer to leave out
  "${pin[@]}" "$python" "$shared/peer/bench_st.py" --model "$base" --data "$file" --limit "$pairs" --steps "$7" --batch "$5" \
    --mini-batch "$8" --max-len "$6" --dims "$9" --threads 2 --warm-steps $(($7 > 5 ? 2 : 1)) --loss-log "$work/$tag.peer-loss.jsonl" \
    2> "$work/peer.err" | tail -n 1 > "$work/$tag.peer.json" || { cat "$work/peer.err" >&2; exit 1; }
}

encode() { # ROUND ROW
  local tag=$2-$1
  [ -e "$work/passages.txt" ] || "$python" - "$shared/data/medquad_train.jsonl" > "$work/passages.txt" <<'PY'
import json, sys
for line in list(open(sys.argv[1]))[:2000]:
    print(" ".join(json.loads(line)["positive"].split()))
PY
  echo "round $1 of $rounds, $2: artel" >&2
  "${pin[@]}" "$python" "$root/bench/timed.py" "$work/$tag.artel.json" \
    "$artel" encode --model "$minilm" --input "$work/passages.txt" --output "$work/passages.npy" --max-seq-length 256 --threads 2
  echo "round $1 of $rounds, $2: sentence-transformers" >&2
  "${pin[@]}" "$python" "$shared/peer/encode_bench.py" --n 2000 --reps 1 --threads 2 --max-len 256 2> "$work/peer.err" \
    | tail -n 1 > "$work/$tag.peer.json" || { cat "$work/peer.err" >&2; exit 1; }
}

wanted() { [ $# -eq 1 ] || [[ " ${*:2} " == *" $1 "* ]]; }

for round in $(seq "$rounds"); do
  while IFS=$'\t' read -r row kind model_name data_name batch length steps mini dims; do
    [[ $row != \#* ]] && wanted "$row" "$@" || continue
    case $kind in
      train) train "$round" "$row" "$model_name" "$data_name" "$batch" "$length" "$steps" "$mini" "$dims" < /dev/null ;;
      encode) encode "$round" "$row" < /dev/null ;;
    esac
  done < "$rows"
done
"$python" "$root/bench/cpu.py" "$work" "$rounds" "$command" "$root/bench/results/${NAME:-cpu-$(date +%F)}" "$rows"
