"""The arithmetic of medquad.sh: BASE.json and the runs' report.json against the bars. Only the standard library."""
import json
import statistics
import sys

DIMS = (384, 256, 128, 64)
BASE = (0.7734, 0.7724, 0.7456, 0.7045)
BARS = (0.836, 0.835, 0.831, 0.824)


def row(metrics):
    return [metrics[f"dim_{d}_cosine_ndcg@10"] for d in DIMS]


def show(label, values):
    print(f"{label:24}" + "".join(f"{value:9.4f}" for value in values))


def main(base_file, report_files):
    base = row(json.load(open(base_file)))
    reports = [json.load(open(name)) for name in report_files]
    failures = []
    print(f"{'nDCG@10':24}" + "".join(f"{d:9d}" for d in DIMS))
    show("base, artel evaluate", base)
    show("base, expected", BASE)
    for report in reports:
        show("before", row(report["before"]))
        show("after", row(report["after"]))
        if report["steps"] != 64:
            failures.append(f"{report['steps']} steps, not 64")
        if max(abs(x - y) for x, y in zip(row(report["before"]), base)) > 1e-6:
            failures.append("a run's metrics before training are not artel evaluate's")
    means = [statistics.mean(column) for column in zip(*(row(r["after"]) for r in reports))]
    show(f"mean of {len(reports)} seeds", means)
    show("bar", BARS)
    failures += [f"base at {d}: {x:.4f}, not {y}" for d, x, y in zip(DIMS, base, BASE) if abs(x - y) > 5e-4]
    failures += [f"mean at {d}: {x:.4f} < {y}" for d, x, y in zip(DIMS, means, BARS) if x < y]
    print("pairs per second:", ", ".join(f"{r['pairs_per_second']:.2f}" for r in reports),
          " peak memory MB:", ", ".join(f"{r['peak_memory_mb']:.0f}" for r in reports))
    for failure in failures:
        print("FAILED:", failure)
    print("failed" if failures else "passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
