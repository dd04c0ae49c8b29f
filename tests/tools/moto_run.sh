#!/usr/bin/env bash
# A run on moto, an S3 server from PyPI, killed in mid-training and gone on with: the weights of the same run on a folder.
# Usage: tests/tools/moto_run.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/tools/moto.sh
cargo build --workspace --bin artel
work=$(mktemp -d)
trap 'kill $moto; rm -rf "$work"' EXIT
sed 's/^eval_strategy.*/&\nsave_strategy = "steps"\nsave_steps = 5/' examples/handbook.toml > "$work/spec.toml"
cp examples/handbook.jsonl "$work/"
digest() { python3 -c 'import json, sys; print(json.load(sys.stdin)["report"]["weights_digest"])'; }

target/debug/artel run "$work/spec.toml" --store "file:$work/store" --json > "$work/folder.jsonl"
target/debug/artel run "$work/spec.toml" --store s3://artel-test/run --json > "$work/killed.jsonl" &
run=$!
until grep -q '"event":"checkpoint","step":20' "$work/killed.jsonl"; do
  kill -0 "$run" || { echo "the run ended before it could be killed" >&2; exit 1; }
  sleep 0.1
done
kill -KILL "$run"
wait "$run" || true   # 137: killed
if grep -q '"event":"done"' "$work/killed.jsonl"; then echo "the run was over before it was killed" >&2; exit 1; fi
target/debug/artel run "$work/spec.toml" --store s3://artel-test/run --workers 1 --json > "$work/bucket.jsonl"
grep '"event":"resumed"' "$work/bucket.jsonl"
target/debug/artel fsck s3://artel-test/run
folder=$(target/debug/artel status "file:$work/store" --json | digest)
bucket=$(target/debug/artel status s3://artel-test/run --json | digest)
echo "folder $folder"
echo "moto   $bucket"
[ "$folder" = "$bucket" ]
