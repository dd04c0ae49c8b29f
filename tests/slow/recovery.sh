#!/usr/bin/env bash
# Shows that nothing is lost, the whole of it (the gate has a shortened set): 20 random kills on a folder and on a bucket, every fail point
# on both, a store that is gone for 60 s, a resume at step 10 and at step 10,000; then moto, from PyPI, as a second S3 server: the store's own
# tests, and a run that is killed and goes on to the weights of a folder's run. Takes 15 to 30 minutes on two cores.
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,${/^#/!q;s/^# \{0,1\}//p}' "$0"; exit 0 ;; esac
cd "$(dirname "$0")/../.."
export ARTEL_SLOW=1 ARTEL_RECOVERY_KILLS=${ARTEL_RECOVERY_KILLS:-20} ARTEL_VANISH_S=${ARTEL_VANISH_S:-60}
if cargo nextest --version > /dev/null 2>&1; then
  cargo nextest run --workspace --no-capture -E 'binary(deaths) + binary(recovery) + binary(store_faults)'
else
  for suite in deaths recovery store_faults; do cargo test --workspace --test $suite -- --nocapture; done
fi
tests/tools/s3_store.sh
tests/tools/moto_run.sh
