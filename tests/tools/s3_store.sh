#!/usr/bin/env bash
# Runs the object store's bucket test against moto, an S3 server from PyPI, on loopback. Usage: tests/tools/s3_store.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
source tests/tools/moto.sh
ARTEL_TEST_S3=s3://artel-test cargo test --workspace --lib store::tests::bucket -- --exact --nocapture "$@"
