#!/usr/bin/env bash
# A CUDA 13.0 toolchain on a machine that has neither GPU nor driver nor toolkit, made of NVIDIA's Python wheels (100 MB):
#   deploy/cuda-toolchain.sh [DIR]        DIR is ~/.cache/artel-cuda unless told
#   . DIR/env && cargo build --release --features cuda
# Programs built with it look for the CUDA libraries when they first call one: one binary starts on every machine, and says
# where there is no GPU. Needs python3 with pip, a C compiler and cargo; x86-64 Linux. Running it again changes nothing.
# A machine with a CUDA toolkit (12.0 or newer) does not need it: docs/guides/gpu.md.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-$HOME/.cache/artel-cuda}
if [ "$(uname -s) $(uname -m)" != "Linux x86_64" ]; then
  echo "cuda-toolchain.sh: these wheels are for x86-64 Linux; install NVIDIA's toolkit for this machine and set CUDA_PATH" >&2
  exit 1
fi
for tool in python3 cc c++ ar cargo; do
  command -v "$tool" > /dev/null || { echo "cuda-toolchain.sh: $tool is missing; install it and run this again" >&2; exit 1; }
done
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

# the version of cudarc that the lock file names: the stand-ins' functions are those that it calls
cudarc=$(awk '$1 == "name" && $3 == "\"cudarc\"" { getline; gsub("\"", "", $3); print $3; exit }' "$here/../Cargo.lock")
stamp="$(cat "$0" "$here/cuda_lazy.py" | sha256sum | cut -c1-16) cudarc $cudarc"
if [ "$(cat "$folder/stamp" 2> /dev/null)" = "$stamp" ]; then
  echo "$folder is up to date"
  exit
fi

work=$(mktemp -d "$folder/work.XXXXXX")
trap 'rm -rf "$work"' EXIT

cat > "$work/wheels.txt" <<'WHEELS'
nvidia-cuda-nvcc==13.0.88 --hash=sha256:56fe502eb77625a12f25172caa3cdddb4e4c8ba2c8c17dba44b164761b380f03
nvidia-nvvm==13.0.88 --hash=sha256:c5f41ffeb6466944a026dfa5317d7d85355c119bbec279205d22f1869d1054e0
nvidia-cuda-crt==13.0.88 --hash=sha256:2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4
nvidia-cuda-runtime==13.0.96 --hash=sha256:7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548
nvidia-cuda-cccl==13.0.85 --hash=sha256:e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649
WHEELS
python3 -m pip download --quiet --no-deps --only-binary=:all: --require-hashes --dest "$work/wheels" --requirement "$work/wheels.txt"
for wheel in "$work"/wheels/*.whl; do
  python3 -m zipfile --extract "$wheel" "$work/unpacked"
done
cp -r "$work"/unpacked/nvidia/cu13/. "$folder/"
# zip files carry no permissions
find "$folder/bin" "$folder/nvvm/bin" -type f -exec chmod +x {} +
ln -sfn lib "$folder/lib64"
# the runtime is linked in: it looks for the driver by itself
ln -sf libcudart_static.a "$folder/lib/libcudart.a"

sources=$(cd "$here/.." && cargo metadata --quiet --format-version 1 --filter-platform x86_64-unknown-linux-gnu --features artel-trainer/cuda | python3 -c '
import json, os, sys
packages = json.load(sys.stdin)["packages"]
print(next(os.path.dirname(p["manifest_path"]) for p in packages if p["name"] == "cudarc"))')
python3 "$here/cuda_lazy.py" "$sources" "$folder/lib" "$work"

cat > "$folder/env" <<ENV
export CUDA_PATH="$folder" CUDA_HOME="$folder" CUDARC_CUDA_VERSION=13000
# candle's own kernels are compiled for one kind of device: 80 serves every newer one too, through the driver
export CUDA_COMPUTE_CAP=\${CUDA_COMPUTE_CAP:-80} CUDAFORGE_THREADS=\${CUDAFORGE_THREADS:-$(nproc)}
export PATH="$folder/bin:\$PATH"
ENV
echo "$stamp" > "$folder/stamp"
echo "CUDA $("$folder/bin/nvcc" --version | sed -n 's/.*release \([0-9.]*\),.*/\1/p') is in $folder: . $folder/env"
