"""The same products by numpy's library (OpenBLAS) and by torch's (MKL, oneDNN), one thread: GFLOP/s, the fastest of several runs.

  other.py [TOKENS=900] [LENGTH=190]
"""
import os
import sys
import time

os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy
import torch

torch.set_num_threads(1)
tokens, length = (int(sys.argv[i]) if len(sys.argv) > i else default for i, default in ((1, 900), (2, 190)))
shapes = [
    ("projection, forward", tokens, 384, 384, False, True), ("feed-forward in, forward", tokens, 384, 1536, False, True),
    ("feed-forward out, forward", tokens, 1536, 384, False, True), ("feed-forward in, to the input", tokens, 1536, 384, False, False),
    ("feed-forward out, to the input", tokens, 384, 1536, False, False), ("feed-forward in, to the weight", 1536, tokens, 384, True, False),
    ("projection, to the weight", 384, tokens, 384, True, False), ("scores of a head", length, 32, length, False, True),
    ("context of a head", length, length, 32, False, False), ("values' gradient of a head", length, length, 32, True, False),
]


def best(run, flop):
    begun, fastest = time.perf_counter(), float("inf")
    repeats = max(1, 40_000_000 // flop)
    while time.perf_counter() - begun < 0.6:
        start = time.perf_counter()
        for _ in range(repeats):
            run()
        fastest = min(fastest, time.perf_counter() - start)
    return flop * repeats / fastest / 1e9


print("| product | m x k x n | numpy | torch |\n|---|---|---|---|")
for name, m, k, n, lhs_t, rhs_t in shapes:
    lhs = numpy.random.rand(*((k, m) if lhs_t else (m, k))).astype("f")
    rhs = numpy.random.rand(*((n, k) if rhs_t else (k, n))).astype("f")
    lhs, rhs = (lhs.T if lhs_t else lhs), (rhs.T if rhs_t else rhs)
    out, t_lhs, t_rhs = numpy.empty((m, n), "f"), torch.from_numpy(lhs), torch.from_numpy(rhs)
    t_out = torch.from_numpy(out)
    flop = 2 * m * k * n
    print(f"| {name} | {m} x {k} x {n} | {best(lambda: numpy.matmul(lhs, rhs, out=out), flop):.0f} | "
          f"{best(lambda: torch.matmul(t_lhs, t_rhs, out=t_out), flop):.0f} |")
