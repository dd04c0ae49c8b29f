#!/usr/bin/env bash
# Speed and correctness on a GPU, beside sentence-transformers' step on the same card. Two halves, since programs are often built where no GPU is:
#   bench/gpu.sh build [FOLDER]        builds and packs artel and gpu_speed into FOLDER (target/gpu), with the toolchain of deploy/cuda-toolchain.sh
#                                      unless CUDA_PATH names one
#   bench/gpu.sh run [FOLDER] [OUT]    on the machine with the GPU: artel doctor --gpu, then every row, ours and theirs in turn; OUT (bench/results)
#                                      gets gpu-DATE.json and .md. Without torch and transformers there, theirs are left out, and that is said.
# Settings: ARTEL_SHARED (for peer/bench_gpu.py and the lengths), ROUNDS=1, STEPS=30, ROWS (names of the rows to run, all), NAME=gpu-DATE, PEER_SECONDS=300 (the
# longest that one of their figures may take: compiling takes minutes), COMPILED=yes (no: theirs is not compiled).
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,${/^#/!q;s/^# \{0,1\}//p}' "$0"; exit 0 ;; esac
root=$(cd "$(dirname "$0")/.." && pwd)
what=${1:-}
folder=${2:-$root/target/gpu}

build() {
  if [ -z "${CUDA_PATH:-}" ]; then
    "$root/deploy/cuda-toolchain.sh" "$root/target/cuda"
    # shellcheck source=/dev/null
    . "$root/target/cuda/env"
  fi
  export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target/cuda-build} PATH=$CUDA_PATH/bin:$PATH CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80}
  cd "$root"
  cargo build --release -p artel-cli -p artel-trainer --features cuda --bin artel --bin gpu_speed
  mkdir -p "$folder"
  for program in artel gpu_speed; do
    strip -o "$folder/$(basename "$program")" "$CARGO_TARGET_DIR/release/$program"
    gzip -f "$folder/$(basename "$program")"
  done
  ls -l "$folder"
}

run() {
  local out=${1:-$root/bench/results} name=${NAME:-gpu-$(date +%F)} shared=${ARTEL_SHARED:?name the folder that has peer/medquad_lengths.json} work site peer=yes failed=
  local lengths=$shared/peer/medquad_lengths.json
  [ -r "$lengths" ] || { echo "$lengths cannot be read: ARTEL_SHARED has to name the folder that has peer/medquad_lengths.json" >&2; exit 2; }
  work=$(mktemp -d)
  # shellcheck disable=SC2064
  trap "rm -rf '$work'" EXIT
  for program in artel gpu_speed; do
    gzip -dc "$folder/$program.gz" > "$work/$program"
    chmod +x "$work/$program"
  done
  # CUDA's libraries as PyTorch's packages bring them
  site=$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  LD_LIBRARY_PATH=$({ find "$site/nvidia" -maxdepth 2 -name lib -type d 2> /dev/null || true; } | paste -sd:)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  export LD_LIBRARY_PATH
  mkdir -p "$out"
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || echo "nvidia-smi tells nothing here" >&2
  "$work/artel" doctor --gpu --json > "$out/$name-doctor.json" || { echo "artel doctor --gpu failed: see $out/$name-doctor.json" >&2; exit 1; }
  python3 -c 'import torch, transformers' 2> /dev/null || { peer=no; echo "torch or transformers is missing here: no figures of theirs" >&2; }
  : > "$out/$name.lines"
  # questions of 32 tokens and answers of 224: nothing is padded
  python3 -c 'print([[32, 224]] * 4096)' > "$work/even.json"
  lengths() { case $1 in *-even) echo "$work/even.json" ;; *) echo "$lengths" ;; esac; }
  wanted() { [ -z "${ROWS:-}" ] || [[ " $ROWS " == *" $1 "* ]]; }
  record() { printf '{"row": "%s", "who": "%s", "result": %s}\n' "$1" "$2" "${3:-null}" >> "$out/$name.lines"; }
  ours() { # ROW ARGUMENTS
    wanted "$1" || return 0
    echo "$1: artel" >&2
    local line
    line=$("$work/gpu_speed" "${@:2}" --lengths "$(lengths "$1")") || { line=null; failed=yes; }
    record "$1" artel "$line"
  }
  theirs() { # ROW ARGUMENTS
    [ "$peer" = yes ] && wanted "$1" || return 0
    echo "$1: sentence-transformers' step, ${*:2}" >&2
    local line
    line=$(timeout "${PEER_SECONDS:-300}" python3 "$shared/peer/bench_gpu.py" --lengths "$(lengths "$1")" "${@:2}" | tail -n 1) || line=null
    record "$1" "peer ${*:2}" "$line"
  }
  local steps=${STEPS:-30}
  for _ in $(seq "${ROUNDS:-1}"); do
    ours train-64 train --batch 64 --steps "$steps"
    ours train-64-even train --batch 64 --steps "$steps"
    ours train-1024 train --batch 1024 --steps 8 --warmup 2
    ours train-4096 train --batch 4096 --steps 5 --warmup 2
    ours train-64-tf32 train --batch 64 --steps "$steps" --precision tf32
    ours train-64-f32 train --batch 64 --steps "$steps" --precision f32
    ours encode encode
    ours loss loss --rows 65536
    ours optimizer optimizer
    theirs train-64 --batch 64 --steps "$steps"
    theirs train-64-even --batch 64 --steps "$steps"
    theirs train-4096 --batch 4096 --cached 64 --steps 2 --warmup 1
    theirs train-1024 --batch 1024 --cached 64 --steps 4 --warmup 1
    [ "${COMPILED:-yes}" = yes ] || continue
    theirs train-64-even --batch 64 --steps "$steps" --compile
    theirs train-64 --batch 64 --steps "$steps" --compile
  done
  ours profile-64 train --batch 64 --steps 5 --warmup 3 --profile
  ours profile-1024 train --batch 1024 --steps 2 --warmup 1 --profile
  python3 "$root/bench/gpu.py" "$out/$name.lines" "$out/$name" "ROUNDS=${ROUNDS:-1} STEPS=$steps${COMPILED:+ COMPILED=$COMPILED} bench/gpu.sh run"
  [ -z "$failed" ] || { echo "some of artel's rows failed" >&2; exit 1; }
}

case $what in
  build) build ;;
  run) run "${3:-}" ;;
  *) sed -n 2,8p "$0"; exit 2 ;;
esac
