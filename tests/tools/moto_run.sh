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
timeout --signal=KILL 8 target/debug/artel run "$work/spec.toml" --store s3://artel-test/run --json > "$work/killed.jsonl" || true
grep -q '"event":"checkpoint"' "$work/killed.jsonl" || echo "killed before the first checkpoint" >&2
target/debug/artel run "$work/spec.toml" --store s3://artel-test/run --workers 1 --json > "$work/bucket.jsonl"
target/debug/artel fsck s3://artel-test/run
folder=$(target/debug/artel status "file:$work/store" --json | digest)
bucket=$(target/debug/artel status s3://artel-test/run --json | digest)
echo "folder $folder"
echo "moto   $bucket"
[ "$folder" = "$bucket" ]
