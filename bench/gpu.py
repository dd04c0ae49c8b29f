"""The table of bench/gpu.sh: gpu.py LINES OUT COMMAND

LINES has a JSON object a line: row, who, result (null where it failed). Writes OUT.json and OUT.md, and prints the latter.
"""

import collections
import datetime
import json
import statistics
import sys

# a row's figure, and whether more is better
FIGURES = {"train": ("pairs_per_s", True), "encode": ("texts_per_s", True), "loss": ("seconds", False), "optimizer": ("ms", False)}


def median(results, key):
    """The median and the spread of a figure over the rounds."""
    values = [result[key] for result in results]
    text = f"{statistics.median(values):.4g}"
    return text if len(values) == 1 else f"{text} ({min(values):.4g} to {max(values):.4g})"


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
    for result in by_row["profile"]["artel"]:
        total = sum(line["ms_per_step"] for line in result["profile"])
        text += ["", f"Where a step's time goes at batch {result['batch']}, each kernel waited for: {total:.2f} ms in all.", ""]
        text += ["| kernel or product | times | ms a step | share |", "|---|---|---|---|"]
        for line in result["profile"][:25]:
            text.append(f"| {line['name']} | {line['times']} | {line['ms_per_step']:.3f} | {line['ms_per_step'] / total:.1%} |")
    if failed:
        text += ["", "Failed: " + ", ".join(failed)]
    with open(out + ".md", "w") as file:
        file.write("\n".join(text) + "\n")
    print("\n".join(text))


main()
