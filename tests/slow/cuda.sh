#!/usr/bin/env bash
# Builds for NVIDIA GPUs on a machine that has none, so that it cannot break unseen: the toolchain, every kernel for compute capability 8.0 and 9.0 with
# its registers and spills, lints and binary with the feature `cuda`, and that this binary starts here and says that there is no GPU.
#   tests/slow/cuda.sh            some minutes, 2 GB of disk
# Settings: CUDA_FOLDER (where the toolchain goes, target/cuda), CARGO_TARGET_DIR (target/cuda-build).
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,${/^#/!q;s/^# \{0,1\}//p}' "$0"; exit 0 ;; esac
cd "$(dirname "$0")/../.."
folder=${CUDA_FOLDER:-$PWD/target/cuda}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/cuda-build}
deploy/cuda-toolchain.sh "$folder"
# shellcheck source=/dev/null
. "$folder/env"

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
printf '%-4s %-5s %-40s %9s %12s %8s\n' arch type kernel registers "spilt bytes" shared
kernels() { # ARCH TYPE FILE
  local wide=()
  [ "$2" = bf16 ] || wide=(-DWIDE_VALUES)
  nvcc -cubin "-arch=sm_$1" -std=c++17 -O3 -Werror all-warnings -Xptxas -v "${wide[@]}" "$3" -o "$out/kernel.cubin" 2> "$out/log" || { cat "$out/log" >&2; exit 1; }
  awk -v arch="$1" -v type="$2" '
    /Compiling entry function/ { split($0, part, "\x27"); kernel = part[2] }
    /bytes spill stores/ { for (i = 1; i < NF; i++) if ($(i + 1) == "bytes" && $(i + 2) == "spill" && $(i + 3) ~ /^stores/) spilt = $i }
    /Used [0-9]+ registers/ {
      shared = 0
      for (i = 1; i < NF; i++) { if ($i == "Used") registers = $(i + 1); if ($(i + 1) == "bytes" && $(i + 2) ~ /^smem/) shared = $i }
      printf "%-4s %-5s %-40s %9s %12s %8s\n", arch, type, kernel, registers, spilt, shared
    }' "$out/log"
}
for arch in 80 90; do
  for file in rows activation pooling attention weights loss; do kernels $arch bf16 "trainer/kernels/$file.cu"; done
  for file in rows activation pooling attention_wide weights; do kernels $arch f32 "trainer/kernels/$file.cu"; done
done

cargo clippy --workspace --features cuda -- -D warnings
cargo build --release -p artel-cli --features cuda
# here there is no GPU: it starts, says so, and what needs none works
binary=$CARGO_TARGET_DIR/release/artel
"$binary" --version
status=0
"$binary" doctor --gpu > "$out/doctor" 2> "$out/errors" || status=$?
cat "$out/doctor"
if grep -q '^device ' "$out/doctor"; then
  echo "there is a GPU here: the comparison above is what counts" >&2
  exit "$status"
fi
grep -q 'CUDA device 0 cannot be opened' "$out/doctor" || { cat "$out/errors" >&2; echo "the binary does not say that there is no GPU" >&2; exit 1; }
[ "$status" -eq 4 ] || { echo "exit code $status, expected 4" >&2; exit 1; }
echo "built for GPUs; this machine has none, and the binary says so"
