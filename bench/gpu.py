"""The table of bench/gpu.sh: gpu.py LINES OUT COMMAND

LINES has a JSON object a line: row, who, result (null where it failed). Writes OUT.json and OUT.md, and prints the latter.
"""

import collections
import datetime
import json
import re
import statistics
import sys

# the model's own widths, in names of products
WIDTHS = ("1536", "2048", "2304", "3072")
# a row's figure, and whether more is better
FIGURES = {"train": ("pairs_per_s", True), "encode": ("texts_per_s", True), "loss": ("seconds", False), "optimizer": ("ms", False)}


def median(results, key):
    """The median and the spread of a figure over the rounds."""
    values = [result[key] for result in results]
    text = f"{statistics.median(values):.4g}"
    return text if len(values) == 1 else f"{text} ({min(values):.4g} to {max(values):.4g})"


def profile(result):
    """Where a step's time goes: products of one shape together, whatever the number of tokens."""
    shapes = collections.defaultdict(lambda: [0, 0.0])
    for line in result["profile"]:
        name = re.sub(r"\b\d{4,}\b", lambda number: number[0] if number[0] in WIDTHS else "tokens", line["name"])
        shapes[name][0] += line["times"]
        shapes[name][1] += line["ms_per_step"]
    total = sum(ms for _, ms in shapes.values())
    text = ["", f"Where a step's time goes at batch {result['batch']}, each kernel waited for (which adds some microseconds to each): {total:.2f} ms in all.", ""]
    text += ["| kernel or product | times | ms a step | share |", "|---|---|---|---|"]
    for name, (times, ms) in sorted(shapes.items(), key=lambda shape: -shape[1][1])[:25]:
        text.append(f"| {name} | {times} | {ms:.3f} | {ms / total:.1%} |")
    return text


def main():
    lines, out, command = sys.argv[1:]
    records = [json.loads(line) for line in open(lines)]
    with open(out + ".json", "w") as file:
        json.dump({"command": command, "date": str(datetime.date.today()), "records": records}, file, indent=1)
        file.write("\n")
    by_row = collections.defaultdict(lambda: collections.defaultdict(list))
    failed = []
    for record in records:
        if record["result"] is None:
            failed.append(f"{record['row']} ({record['who']})")
        else:
            by_row[record["row"]][record["who"]].append(record["result"])
    devices = {result["device"] for row in by_row.values() for results in row.values() for result in results}
    text = [f"`{command}`, {datetime.date.today()}, {', '.join(sorted(devices)) or 'no device'}", ""]
    text += ["| row | who | figure | tokens/s | model FLOPs utilisation | artel against it |", "|---|---|---|---|---|---|"]
    for row, sides in by_row.items():
        kind = row.split("-")[0]
        if kind not in FIGURES:
            continue
        key, more_is_better = FIGURES[kind]
        own = statistics.median(result[key] for result in sides["artel"]) if "artel" in sides else None
        for who, results in sides.items():
            theirs = statistics.median(result[key] for result in results)
            ratio = (own / theirs if more_is_better else theirs / own) if own and who != "artel" else None
            share = [median(results, name) if name in results[0] else "" for name in ("real_tokens_per_s", "model_flops_utilisation")]
            text.append(f"| {row} | {who} | {median(results, key)} {key} | {share[0]} | {share[1]} | {f'{ratio:.2f}x' if ratio else ''} |")
    for row in ("profile-64", "profile-1024"):
        for result in by_row[row]["artel"]:
            text += profile(result)
    if failed:
        text += ["", "Failed: " + ", ".join(failed)]
    with open(out + ".md", "w") as file:
        file.write("\n".join(text) + "\n")
    print("\n".join(text))


main()
