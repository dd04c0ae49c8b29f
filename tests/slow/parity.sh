#!/usr/bin/env bash
# Shows that the exported folder is a sentence-transformers model and that both programs agree on it (OUT-1, EVAL-1):
#   - cosine > 0.9999 between `artel encode` and sentence-transformers 6.2 on 200 texts (long, empty, CJK, emoji, ...),
#     for the base model and for the folder exported after a short training;
#   - its evaluator's metrics (peer/eval_st.py) equal `artel evaluate`'s to 4 decimals on the same vectors, and
#     within .0005 where each encodes for itself, before and after.
# Takes about 10 minutes on two cores. Settings: TUNED=DIR (an exported folder: no training then), TRAIN_ROWS=256, and those of lib.sh.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
test_file=$shared/data/medquad_test.jsonl
dims=384,256,128,64
helper=("$python" "$root/tests/slow/parity.py")

if [ -z "${TUNED:-}" ]; then
  echo "training on ${TRAIN_ROWS:-256} pairs" >&2
  head -n 64 "$test_file" > "$work/few.jsonl"
  TEST_FILE=$work/few.jsonl spec parity "$work/store" "${TRAIN_ROWS:-256}" 42 > "$work/spec.toml"
  "$artel" run "$work/spec.toml" --json > "$work/events.jsonl"
  TUNED=$work/tuned
  "$artel" export "$work/store" --to "$TUNED"
fi

"${helper[@]}" texts "$shared/data/medquad_train.jsonl" "$work/texts.txt"
for name in base tuned; do
  model=$minilm
  [ $name = tuned ] && model=$TUNED
  echo "== $name: $model"
  "$artel" encode --model "$model" --input "$work/texts.txt" --output "$work/$name.npy" --max-seq-length 256
  "${helper[@]}" cosine "$model" "$work/texts.txt" "$work/$name.npy"

  "$artel" evaluate --model "$model" --pairs "$test_file" --dims $dims --max-seq-length 256 --json > "$work/$name.artel.json"
  # sentence-transformers' metrics by eval_st.py, its own vectors kept, then Artel's metrics on those very vectors
  "${helper[@]}" evaluate "$shared/peer/eval_st.py" "$model" "$test_file" $dims "$work/$name"
  "$artel" evaluate --query-vectors "$work/$name.queries.npy" --corpus-vectors "$work/$name.corpus.npy" \
    --pairs "$test_file" --dims $dims --json > "$work/$name.same.json"
  "${helper[@]}" compare "$work/$name.same.json" "$work/$name.peer.json" 0.00005 "the same vectors"
  "${helper[@]}" compare "$work/$name.artel.json" "$work/$name.peer.json" 0.0005 "each its own vectors"
done
echo passed
