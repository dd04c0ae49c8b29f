#!/usr/bin/env bash
# How long a checkpoint stops the training, and how fast it is put, beside plain copies of as many bytes: a state of 440 MB (a BERT of 36.7 M
# parameters) and one of 1.3 GB (BGE-base's 109 M), on a folder and on an S3 server of the tests on loopback.
#   tests/slow/checkpoints.sh            some minutes, 8 GB of disk, 12 GB of memory
# Settings: ARTEL (target/release/artel), ARTEL_PEER (a venv with torch and transformers, which makes the models), SIZES="small base".
set -euo pipefail
source "$(dirname "$0")/lib.sh"
cd "$root"
cargo build --workspace --bin s3-for-tests
[ -x target/moto/bin/python ] || { python3 -m venv target/moto; target/moto/bin/pip -q install 'moto[server]==5.*'; }
target/debug/s3-for-tests 0 "$work/bucket" > "$work/server" &
server=$!
trap 'kill $server; rm -rf "$work"' EXIT
until grep -q export "$work/server"; do sleep 0.1; done
sleep 0.2
source "$work/server"
"$python" tests/slow/checkpoints.py "$artel" "$work" "$shared/data/medquad_train.jsonl" target/moto/bin/python ${SIZES:-small base}
