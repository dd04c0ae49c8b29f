#!/usr/bin/env bash
# Training speed and memory on the CPU beside sentence-transformers, in one go: MiniLM-L6, real MedQuAD pairs, batch 32,
# length 256, two cores; the two take turns, so that both see the same machine.
#   bench/cpu.sh [ROUNDS]            about 5 minutes a round (default 3)
# Writes bench/results/cpu-DATE.json and .md. Pairs per second: Artel's from report.json (trained pairs over the wall time
# of tokenise and train, saving included), sentence-transformers' over its steps alone, warm-up steps left out.
# Peak memory: Artel's summed over all processes (PSS), sentence-transformers' the one process' (RSS).
# Settings: ARTEL, ARTEL_SHARED, ARTEL_PEER, ARTEL_MINILM, WORK (tests/slow/lib.sh), STEPS=20, WORKERS=2.
set -euo pipefail
command="bench/cpu.sh $*"
source "$(dirname "$0")/../tests/slow/lib.sh"
rounds=${1:-3}
steps=${STEPS:-20}
pairs=$((steps * 32))
train_file=$shared/data/medquad_train.jsonl
pin=()
if command -v taskset > /dev/null; then pin=(taskset -c 0,1); fi

head -n 64 "$shared/data/medquad_test.jsonl" > "$work/few.jsonl"
for round in $(seq "$rounds"); do
  echo "round $round of $rounds: artel" >&2
  TEST_FILE=$work/few.jsonl spec "bench-$round" "$work/store-$round" "$pairs" 42 > "$work/$round.toml"
  "${pin[@]}" "$artel" run "$work/$round.toml" --json > "$work/$round.events.jsonl"
  cp "$work/store-$round/report.json" "$work/artel-$round.json"
  rm -rf "$work/store-$round"
  echo "round $round of $rounds: sentence-transformers" >&2
  "${pin[@]}" "$python" "$shared/peer/bench_st.py" --model "$minilm" --data "$train_file" --limit "$pairs" --steps "$steps" \
    --batch 32 --max-len 256 --threads 2 --loss-log "$work/peer-$round.loss.jsonl" 2> "$work/peer.err" | tail -n 1 > "$work/peer-$round.json" \
    || { cat "$work/peer.err" >&2; exit 1; }
done
"$python" "$root/bench/cpu.py" "$work" "$rounds" "$command" "$root/bench/results"
