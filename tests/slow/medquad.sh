#!/usr/bin/env bash
# Shows that Artel trains as well as sentence-transformers does, on real questions and answers (MedQuAD, MiniLM-L6):
#   base nDCG@10 on the 2,000 test pairs      .7734 / .7724 / .7456 / .7045 (384/256/128/64), within .0005
#   mean of three seeds after one epoch over the first 2,048 training pairs at least  .836 / .835 / .831 / .824
#   (sentence-transformers, three seeds: mean .8436 / .8444 / .8394 / .8332, deviation .0047 / .0059 / .0053 / .0056)
# Takes 15 to 45 minutes on two cores. Settings: SEEDS="42 43 44", and those of lib.sh. Prints a table, fails if a bar is missed.
set -euo pipefail
source "$(dirname "$0")/lib.sh"
seeds=${SEEDS:-42 43 44}

echo "base model" >&2
"$artel" evaluate --model "$minilm" --pairs "$shared/data/medquad_test.jsonl" \
  --dims 384,256,128,64 --max-seq-length 256 --json > "$work/base.json"
reports=()
for seed in $seeds; do
  echo "seed $seed" >&2
  spec "medquad-$seed" "$work/store-$seed" 2048 "$seed" > "$work/$seed.toml"
  "$artel" run "$work/$seed.toml" --json > "$work/$seed.events.jsonl"
  reports+=("$work/store-$seed/report.json")
done
"$python" "$root/tests/slow/medquad.py" "$work/base.json" "${reports[@]}"
