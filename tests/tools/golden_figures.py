#!/usr/bin/env python3
"""The few golden figures of MiniLM-L6 that are committed, so that they hold without the shared folder.

  python3 golden_figures.py SHARED/golden     writes ../figures/minilm_golden.json

The goldens themselves come from PyTorch in f64 (max_seq_length 64, dropout 0, eight pairs). Only the standard library.
"""
import json
import os
import struct
import sys


def tensor(path, name):
    """An f64 tensor of a safetensors file as rows."""
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        entry = json.loads(file.read(size))[name]
        assert entry["dtype"] == "F64", entry
        begin, end = entry["data_offsets"]
        file.seek(8 + size + begin)
        values = struct.unpack(f"<{(end - begin) // 8}d", file.read(end - begin))
    width = entry["shape"][1]
    return [values[i:i + width] for i in range(0, len(values), width)]


def unpadded(features):
    return [[i for i, m in zip(ids, mask) if m] for ids, mask in zip(features["input_ids"], features["attention_mask"])]


def main(folder):
    golden = json.load(open(os.path.join(folder, "golden.json")))
    ddp = json.load(open(os.path.join(folder, "ddp_check.json")))
    tensors = os.path.join(folder, "tensors.safetensors")
    kinds = ("mnrl", "mat")
    figures = {
        "header": {
            "made_by": "tests/tools/golden_figures.py",
            "what": "all-MiniLM-L6-v2, max_seq_length 64, dropout 0, by PyTorch in f64; embeddings: the first four elements and the last of each row",
            "grad": "per parameter the norm of its gradient under the Matryoshka loss; key biases have none (mathematically zero)",
        },
        "model_sha256": golden["model_sha256"],
        "max_seq_length": golden["max_seq_length"],
        "scale": golden["scale"],
        "dims": golden["dims"],
        "pairs": golden["pairs"],
        "ids": {column: unpadded(f) for column, f in golden["features"].items()},
        "embeddings": {
            column: [[round(x, 12) for x in (*row[:4], row[-1])] for row in tensor(tensors, f"emb_{column}_f64")]
            for column in ("anchor", "positive")
        },
        "loss": {kind: golden["loss"][f"{kind}_f64"] for kind in kinds},
        "loss_per_dim": golden["loss_per_dim_formula_f64"],
        "grad_norm": {kind: golden["grad"][f"{kind}_f64"]["total_norm"] for kind in kinds},
        "grad": {
            name.removeprefix("0.model."): float(f"{stats['l2']:.10g}")
            for name, stats in golden["grad"]["mat_f64"]["params"].items()
            if "self.key.bias" not in name
        },
        "two_ranks": {"losses": ddp["gather"]["rank_losses"], "loss": ddp["gather"]["mean"], "grad_norm": ddp["gather"]["avg_grad_total_norm"]},
    }
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../figures/minilm_golden.json")
    with open(path, "w") as file:
        text = json.dumps(figures, ensure_ascii=False, separators=(",", ":"))
        for key in figures:
            text = text.replace(f',"{key}":', f',\n"{key}":')
        file.write(text + "\n")
    print(os.path.getsize(path), "bytes")


if __name__ == "__main__":
    main(sys.argv[1])
