"""Makes trainer/fixtures/adamw.json with torch.optim.AdamW: python adamw_figures.py OUT.json"""
import json
import sys

import torch

N, STEPS, SCALE = 69, 12, 0.37


def values(seed):
    return torch.tensor([((i * 7919 + seed * 104729 + i * seed * 613) % 2003 - 1001) / 1001 for i in range(N)], dtype=torch.float64).float()


out = {}
for name, decay in (("plain", 0.0), ("decay", 0.1)):
    p = torch.nn.Parameter(values(0))
    optimizer = torch.optim.AdamW([p], lr=1.0, betas=(0.9, 0.999), eps=1e-8, weight_decay=decay, foreach=False)
    for step in range(1, STEPS + 1):
        optimizer.param_groups[0]["lr"] = 0.01 * (step - 1) / 4
        p.grad = values(step) * 10.0 ** -(step % 5) * torch.tensor(SCALE)
        optimizer.step()
    state = optimizer.state[p]
    out[name] = {"params": p.tolist(), "m": state["exp_avg"].tolist(), "v": state["exp_avg_sq"].tolist()}
json.dump(out, open(sys.argv[1], "w"))
