"""The arithmetic of gpu.sh: SEED=report.json ... against what the CPU came to (bench/results/README.md). Only the standard library."""
import json
import sys

from medquad import BASE, row, show

# after training, by seed
CPU = {
    "42": (0.8344, 0.8364, 0.8303, 0.8224),
    "43": (0.8428, 0.8469, 0.8371, 0.8317),
    "44": (0.8477, 0.8493, 0.8422, 0.8335),
}


def main(arguments):
    failures = []
    for argument in arguments:
        seed, file = argument.split("=", 1)
        report = json.load(open(file))
        show(f"seed {seed}, before", row(report["before"]))
        show(f"seed {seed}, after", row(report["after"]))
        show("on the CPU", CPU[seed])
        print(f"pairs per second: {report['pairs_per_second']:.0f}")
        for when, found, expected, near in (("before", report["before"], BASE, 2e-3), ("after", report["after"], CPU[seed], 4e-3)):
            worst = max(abs(x - y) for x, y in zip(row(found), expected))
            if worst > near:
                failures.append(f"{file}: {when} training off by {worst:.4f}, more than {near}")
    for failure in failures:
        print("FAILED:", failure)
    print("failed" if failures else "passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
