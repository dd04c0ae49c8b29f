"""The peer's half of parity.sh; runs in the venv of sentence-transformers.

  texts DATA OUT                 200 texts, one a line: long, empty, CJK, emoji, accents, odd spaces, ...
  cosine MODEL TEXTS VECTORS     sentence-transformers' vectors of the texts against `artel encode`'s
  evaluate EVAL_ST MODEL DATA DIMS PREFIX   runs eval_st.py: PREFIX.peer.json, PREFIX.queries.npy, PREFIX.corpus.npy
  compare ARTEL PEER TOLERANCE WHAT         two sets of metrics
"""
import json
import os
import runpy
import sys

import numpy as np

os.environ.setdefault("HF_HUB_OFFLINE", "1")
MAX_LENGTH = 256
ODD = [
    "", " ", "a", ".", "?!", "\t", "\u00a0", "\u200b", "什么是糖尿病", "糖尿病の治療法は何ですか。", "당뇨병의 증상은 무엇입니까?",
    "ما هي أعراض مرض السكري؟", "Что такое диабет?", "Naïve café résumé, Zürich, Ångström, İstanbul", "e\u0301 combined, ﬁ ligature, ½ ² ③ ℃",
    "😀", "Is it 😀 or 👩‍👩‍👧‍👦 or 🇫🇷? ❤️", "[CLS] [SEP] [MASK] [PAD] [UNK]", "<html> &amp; tags </html>", "x" * 300, "1234567890" * 30,
    "supercalifragilisticexpialidocious " * 40, "word " * 600, "糖" * 600, "ALL CAPS AND   many    spaces  ", "don't, e-mail: a.b@c.org; $1,234.56",
    "\u0000 a control \u0007 character", "\ufffd replacement", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟙𝟚𝟛", "ß ẞ ſ", "‘quotes’ “and” – dashes — …", "end",
]


def texts(data, out):
    rows = [json.loads(line) for line in open(data)]
    picked = [row["anchor"] for row in rows[:60]] + [row["positive"] for row in rows[60:150]]
    longest = [" ".join(row["positive"] for row in rows[i:i + 4]) for i in range(200, 272, 4)]
    lines = ODD + picked + longest
    assert len(lines) == 200 and not any("\n" in line or "\r" in line for line in lines), len(lines)
    with open(out, "w", newline="") as file:
        file.write("".join(line + "\n" for line in lines))


def load(folder):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device="cpu")
    model.max_seq_length = MAX_LENGTH
    return model


def cosine(folder, text_file, vector_file):
    lines = open(text_file, newline="").read().split("\n")[:-1]
    theirs = load(folder).encode(lines, batch_size=32).astype(np.float64)
    ours = np.load(vector_file).astype(np.float64)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    cosines = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    worst = int(cosines.argmin())
    print(f"cosine over {len(lines)} texts: least {cosines[worst]:.9f} (line {worst + 1}: {lines[worst][:40]!r}); "
          f"largest difference {np.abs(ours - theirs).max():.2e}")
    return 0 if cosines[worst] > 0.9999 else fail("a cosine of 0.9999 or less")


def evaluate(script, folder, data, dims, prefix):
    from sentence_transformers import SentenceTransformer

    rows = [json.loads(line) for line in open(data)]
    model = load(folder)
    vectors = {}
    for column, name in (("anchor", "queries"), ("positive", "corpus")):
        matrix = model.encode([row[column] for row in rows], batch_size=32)
        np.save(f"{prefix}.{name}.npy", matrix.astype(np.float32))
        vectors.update({row[column]: vector for row, vector in zip(rows, matrix)})

    def given(self, sentences, **_):
        import torch

        return torch.from_numpy(np.stack([vectors[text] for text in sentences]))

    # eval_st.py gets those very vectors, so that both sides' metrics speak of the same ones
    SentenceTransformer.encode = given
    sys.path.insert(0, os.path.dirname(script))
    sys.argv = [script, "--model", folder, "--data", data, "--dims", dims, "--max-len", str(MAX_LENGTH), "--fast", "--out", f"{prefix}.peer.json"]
    runpy.run_path(script, run_name="__main__")
    return 0


def compare(artel_file, peer_file, tolerance, what):
    ours, theirs = json.load(open(artel_file)), json.load(open(peer_file))["dims"]
    worst = (0.0, "none")
    count = 0
    for dim, metrics in theirs.items():
        for name, value in metrics.items():
            count += 1
            worst = max(worst, (abs(ours[f"dim_{dim}_cosine_{name}"] - value), f"dim_{dim}_cosine_{name}"))
    print(f"metrics on {what}: {count} compared, largest difference {worst[0]:.6f} ({worst[1]}), allowed {tolerance}")
    return 0 if count and worst[0] <= float(tolerance) else fail("the metrics differ")


def fail(why):
    print("FAILED:", why)
    return 1


if __name__ == "__main__":
    verbs = {verb.__name__: verb for verb in (texts, cosine, evaluate, compare)}
    sys.exit(verbs[sys.argv[1]](*sys.argv[2:]))
