"""Makes tests/figures/hard_negatives.json with sentence-transformers' mine_hard_negatives: python hard_negatives_figures.py OUT.json

The vectors are made by a formula that trainer/src/mine/tests.rs has too, so that no model is needed: a stand-in hands them out by text.
"""
import json
import sys

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers.util import mine_hard_negatives

H, QUESTIONS, PASSAGES = 12, 40, 60


def vector(number, salt):
    return [float((number * 7919 + k * 104729 + salt * 31337 + number * k * 613) % 2003 - 1001) for k in range(H)]


def normal(rows):
    rows = np.array(rows, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


passages = [vector(number, 1) for number in range(PASSAGES)]
# a question lies near its passage, some nearer than others
questions = [
    [a + b * (1 + number % 3) for a, b in zip(passages[number], vector(number, 2))] for number in range(QUESTIONS)
]


class StandIn:
    """What the function asks of a model: vectors by the number that a text ends with, and cosines."""

    device = torch.device("cpu")

    def encode_query(self, texts, **_):
        return normal([questions[int(text[1:])] for text in texts])

    def encode_document(self, texts, **_):
        return normal([passages[int(text[1:])] for text in texts])

    def similarity(self, a, b):
        return torch.as_tensor(a) @ torch.as_tensor(b).T

    def similarity_pairwise(self, a, b):
        return (torch.as_tensor(a) * torch.as_tensor(b)).sum(-1)


# every fourth question has a second positive, some a third
rows = [(number, number) for number in range(QUESTIONS)]
rows += [(number, 40 + number // 4) for number in range(0, QUESTIONS, 4)]
rows += [(number, 50 + number // 8) for number in range(0, QUESTIONS, 8)]
data = Dataset.from_dict({"anchor": [f"q{q}" for q, _ in rows], "positive": [f"p{p}" for _, p in rows]})
cases = []
for settings in [
    {"num_negatives": 3, "range_min": 0, "range_max": None, "relative_margin": 0.05},
    {"num_negatives": 2, "range_min": 4, "range_max": None, "relative_margin": 0.3},
    {"num_negatives": 4, "range_min": 1, "range_max": 8, "relative_margin": 0.0},
    {"num_negatives": 1, "range_min": 0, "range_max": 6, "relative_margin": 0.2},
]:
    # the corpus is the positives alone, in the order in which they come first
    mined = mine_hard_negatives(
        data, StandIn(), output_format="n-tuple", output_scores=True, verbose=False, sampling_strategy="top", **settings
    )
    found = []
    for row in mined:
        names = [row[f"negative_{n + 1}"] for n in range(settings["num_negatives"])]
        found.append(
            {
                "question": int(row["anchor"][1:]),
                "positive": int(row["positive"][1:]),
                "negatives": [int(name[1:]) for name in names],
                "scores": [round(score, 6) for score in row["scores"]],
            }
        )
    cases.append({**settings, "found": found})
json.dump({"rows": rows, "cases": cases}, open(sys.argv[1], "w"), separators=(",", ":"))
