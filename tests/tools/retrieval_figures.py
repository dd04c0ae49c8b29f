"""Makes trainer/fixtures/retrieval.json with sentence-transformers' InformationRetrievalEvaluator: python retrieval_figures.py OUT.json"""
import json
import sys

import torch
from sentence_transformers.evaluation import InformationRetrievalEvaluator as E
Q, N, H = 70, 700, 12
def vec(i, salt):
    return [((i * 7919 + k * 104729 + salt * 31337 + i * k * 613) % 2003) - 1001 for k in range(H)]
docs = [vec(i % 400, 1) for i in range(N)]           # rows 400.. repeat rows 0..: ties
queries = []
for q in range(Q):
    d, n = docs[(q * 13) % N], vec(q, 2)
    queries.append([a + b for a, b in zip(d, n)])
rel = {str(q): {f"d{(q * 13 + j * 400 + (j // 2) * 17) % N}" for j in range(q % 4 + 1)} for q in range(Q)}
out = {}
for dim in (12, 8, 4):
    e = E({str(q): "x" for q in range(Q)}, {f"d{i}": "y" for i in range(N)}, rel)
    qv = torch.nn.functional.normalize(torch.tensor(queries, dtype=torch.float64)[:, :dim])
    dv = torch.nn.functional.normalize(torch.tensor(docs, dtype=torch.float64)[:, :dim])
    s = (qv[:, None, :] * dv[None]).sum(-1)
    res = []
    for q in range(Q):
        hits = [{"corpus_id": f"d{i}", "score": round(float(s[q, i]), 12)} for i in range(N)]
        hits.sort(key=lambda x: (-x["score"], x["corpus_id"]))
        res.append(hits[:100])
    m = e.compute_metrics(res)
    for kind, byk in m.items():
        for k, v in byk.items(): out[f"dim_{dim}_cosine_{kind.replace('@k','')}@{k}"] = float(v)
    out[f"top5_{dim}"] = [[int(h["corpus_id"][1:]) for h in r[:5]] for r in res[:8]]
json.dump(out, open(sys.argv[1], "w"), indent=0)
