#!/usr/bin/env python3
"""Figures of three small BERTs of unusual widths, by PyTorch in f64: embeddings, loss, gradients.

Writes ../figures/odd_bert.json, which tests/tests/odd_bert.rs holds Artel's encoder and loss to. Run it with the
peer's Python (torch and transformers), only when a case changes; the weights are a formula (see `weights` in the
file), so that the figures stay small and the Rust test makes the same weights by itself.
"""
import json
import os

import numpy as np
import torch
from transformers import BertConfig, BertModel

MASK = (1 << 64) - 1
SCALE = 20.0
HEADER = {
    "made_by": "tests/tools/odd_bert.py",
    "weights": (
        "element i of the tensor called NAME (bare Hugging Face name, row-major): x = fnv1a64(NAME) + (i + 1) * "
        "0x9e3779b97f4a7c15 mod 2^64, mixed by splitmix64's finaliser; u = (x >> 48) / 32768 - 1; the value is 1 + u / 8 "
        "for LayerNorm.weight, u / 8 for *.bias, u for word embeddings, u / 2 for the two other embeddings, u / 4 for the "
        "rest: every one of them exact in f32"
    ),
    "loss": "sum over dims of weight * mean over anchors of logsumexp(20 cos) - 20 cos_own; candidates: positives, then negatives",
    "grad": "per parameter: [norm, elements 0, 1, n/2, n-1]",
}


def fnv1a64(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def mix(numbers):
    """splitmix64's finaliser over an array of uint64."""
    x = numbers
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def tensor_of(name, shape):
    count = int(np.prod(shape))
    index = np.arange(1, count + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        x = mix(np.uint64(fnv1a64(name)) + index * np.uint64(0x9E3779B97F4A7C15))
    u = (x >> np.uint64(48)).astype(np.float64) / 32768.0 - 1.0
    if name.endswith("LayerNorm.weight"):
        values = 1.0 + u / 8.0
    elif name.endswith(".bias"):
        values = u / 8.0
    elif name.endswith("word_embeddings.weight"):
        values = u
    elif "embeddings" in name:
        values = u / 2.0
    else:
        values = u / 4.0
    assert (values.astype(np.float32).astype(np.float64) == values).all()
    return torch.from_numpy(values.reshape(shape))


def texts_of(name, lengths, vocab, types):
    """Token and type ids of each column: [column][row] -> ids; the second part of a longer text has type 1.
    Id 0 is left out: PyTorch gives the padding row no gradient."""
    ids, kinds = [], []
    for column, row_lengths in enumerate(lengths):
        ids.append([])
        kinds.append([])
        for row, length in enumerate(row_lengths):
            seed = np.uint64(fnv1a64(f"{name}/{column}/{row}"))
            with np.errstate(over="ignore"):
                x = mix(seed + np.arange(length, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
            ids[-1].append([1 + int(v) % (vocab - 1) for v in x])
            kinds[-1].append([int(types > 1 and i >= (length + 1) // 2) for i in range(length)])
    return ids, kinds


def pooled(states, mask, mode):
    if mode == "cls":
        return states[:, 0]
    if mode == "mean":
        weight = mask.unsqueeze(-1).to(states.dtype)
        return (states * weight).sum(1) / weight.sum(1)
    return states.masked_fill(mask.unsqueeze(-1) == 0, -torch.inf).max(1).values


def embed(model, ids, kinds, case):
    width = max(map(len, ids))
    pad = [[0] * (width - len(row)) for row in ids]
    ids_SL = torch.tensor([row + p for row, p in zip(ids, pad)])
    kinds_SL = torch.tensor([row + p for row, p in zip(kinds, pad)])
    mask_SL = torch.tensor([[1] * len(row) + p for row, p in zip(ids, pad)])
    states = model(input_ids=ids_SL, token_type_ids=kinds_SL, attention_mask=mask_SL).last_hidden_state
    out = pooled(states, mask_SL, case["pooling"])
    return torch.nn.functional.normalize(out, dim=-1) if case["normalize"] else out


def loss_of(anchors, candidates, dims, weights):
    parts = []
    own = torch.arange(len(anchors))
    for d in dims:
        a = torch.nn.functional.normalize(anchors[:, :d], dim=-1)
        c = torch.nn.functional.normalize(candidates[:, :d], dim=-1)
        parts.append(torch.nn.functional.cross_entropy(SCALE * a @ c.T, own))
    return sum(w * p for w, p in zip(weights, parts)), [p.item() for p in parts]


def short(value, digits):
    return float(f"{value:.{digits}g}")


def figures_of(name, case):
    config = BertConfig(**case["config"])
    model = BertModel(config, add_pooling_layer=False).double().eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(tensor_of(key, tuple(parameter.shape)))
    ids, kinds = texts_of(name, case["lengths"], config.vocab_size, config.type_vocab_size)
    columns = [embed(model, i, k, case) for i, k in zip(ids, kinds)]
    loss, parts = loss_of(columns[0], torch.cat(columns[1:]), case["dims"], case["dim_weights"])
    loss.backward()
    grad = {}
    for key, parameter in model.named_parameters():
        flat = parameter.grad.flatten()
        picks = [flat[i].item() for i in (0, 1, len(flat) // 2, len(flat) - 1)]
        grad[key] = [short(flat.norm().item(), 13)] + [short(x, 11) for x in picks]
    total = sum(float((p.grad ** 2).sum()) for p in model.parameters()) ** 0.5
    return {
        **case,
        "config": {"model_type": "bert", **case["config"]},
        "ids": ids,
        "type_ids": kinds,
        "embeddings": [[[short(x, 11) for x in row] for row in column.tolist()] for column in columns],
        "loss": loss.item(),
        "loss_per_dim": parts,
        "grad_norm": total,
        "grad": grad,
    }


def config_of(vocab, hidden, layers, heads, ffn, act, eps, positions, types):
    return dict(vocab_size=vocab, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
                intermediate_size=ffn, hidden_act=act, layer_norm_eps=eps, max_position_embeddings=positions,
                type_vocab_size=types, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


CASES = {
    "cls_relu": dict(
        config=config_of(120, 96, 5, 3, 200, "relu", 1e-7, 40, 2), pooling="cls", normalize=True,
        dims=[96, 50, 17], dim_weights=[1.0, 1.0, 1.0], lengths=[[3, 9, 1, 17, 6], [11, 33, 2, 8, 40]]),
    "mean_tanh": dict(
        config=config_of(53, 56, 2, 7, 75, "gelu_new", 1e-5, 32, 2), pooling="mean", normalize=False,
        dims=[56, 24], dim_weights=[1.0, 0.5], lengths=[[5, 2, 12], [31, 4, 9], [7, 18, 3]]),
    "max_gelu": dict(
        config=config_of(61, 40, 3, 2, 88, "gelu", 1e-12, 30, 1), pooling="max", normalize=False,
        dims=[40], dim_weights=[1.0], lengths=[[4, 7, 15, 2], [22, 3, 10, 29]]),
}


def main():
    torch.set_num_threads(1)
    out = {"header": HEADER, "scale": SCALE, "cases": {name: figures_of(name, case) for name, case in CASES.items()}}
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../figures/odd_bert.json")
    with open(path, "w") as file:
        file.write(json.dumps(out, separators=(",", ":")).replace('"cases"', '\n"cases"').replace('"grad"', '\n"grad"').replace(',"embeddings"', ',\n"embeddings"') + "\n")
    print(os.path.getsize(path), "bytes", {name: (c["loss"], c["grad_norm"]) for name, c in out["cases"].items()})


if __name__ == "__main__":
    main()
