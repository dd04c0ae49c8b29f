"""The figures of bench/cpu.sh as JSON and Markdown. Only the standard library.

  cpu.py WORK ROUNDS COMMAND OUT ROWS.tsv      writes OUT.json and OUT.md
"""
import datetime
import json
import os
import platform
import statistics
import sys


def machine():
    info = dict(line.split(":", 1) for line in open("/proc/cpuinfo") if ":" in line)
    info = {key.strip(): value.strip() for key, value in info.items()}
    flags = info.get("flags", "").split()
    path = next((name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in flags), "no AVX2")
    memory_kib = int(next(line for line in open("/proc/meminfo") if line.startswith("MemTotal")).split()[1])
    return {"cpu": info.get("model name", platform.machine()), "cores": os.cpu_count(), "path": path,
            "memory_gib": round(memory_kib / 2**20, 1), "system": platform.platform(), "load": os.getloadavg()[0]}


def lines_of(file):
    return [json.loads(line) for line in open(file)] if os.path.exists(file) else []


def rounds_of(work, row, rounds, which):
    files = [f"{work}/{row}-{i}.{which}.json" for i in range(1, rounds + 1)]
    return [json.load(open(file)) for file in files if os.path.exists(file)]


def side(speeds, memories):
    if not speeds:
        return None
    return {"per_second": statistics.median(speeds), "all": speeds, "peak_memory_mb": max(memories) if memories else None}


def train_row(work, name, rounds):
    artel, peer = (rounds_of(work, name, rounds, which) for which in ("artel", "peer"))
    events = lines_of(f"{work}/{name}-1.events.jsonl")
    row = {
        "unit": "pairs/s",
        "artel": side([r["pairs_per_second"] for r in artel], [r["peak_memory_mb"] for r in artel]),
        "peer": side([r["pairs_per_s"] for r in peer], [r["peak_rss_mb"] * 1.048576 for r in peer]),
        "loss": {
            "artel": [event["loss"] for event in events if event.get("event") == "step"],
            "peer": [line["loss"] for line in lines_of(f"{work}/{name}-1.peer-loss.jsonl")],
        },
    }
    if peer:
        row["padding"] = peer[0]["pad_share"]
        row["real_tokens_per_pair"] = round(peer[0]["tokens_per_s_nonpad"] / peer[0]["pairs_per_s"], 1)
    return row


def encode_row(work, name, rounds):
    artel, peer = (rounds_of(work, name, rounds, which) for which in ("artel", "peer"))
    texts = peer[0]["n"] if peer else 2000
    return {
        "unit": "texts/s",
        "artel": side([texts / r["seconds"] for r in artel], [r["peak_memory_mb"] for r in artel]),
        "peer": side([speed for r in peer for speed in r["texts_per_s"]], []),
        "note": "Artel's time is the whole command's, with loading the model; sentence-transformers' is of encode alone",
    }


def main(work, rounds, command, out, rows):
    rounds, table = int(rounds), {}
    for line in open(rows):
        name, kind, model, data, batch, length, steps, mini, _ = line.rstrip("\n").split("\t")
        if name.startswith("#") or not rounds_of(work, name, rounds, "artel"):
            continue
        row = train_row(work, name, rounds) if kind == "train" else encode_row(work, name, rounds)
        row["what"] = f"{model}, {data}, length {length}" + (f", batch {batch}, {steps} steps" if kind == "train" else "")
        if mini not in ("0", "none"):
            row["what"] += f", sentence-transformers cached by {mini}"
        if row["peer"]:
            row["ratio"] = row["artel"]["per_second"] / row["peer"]["per_second"]
        losses = row.get("loss", {})
        if losses.get("artel") and losses.get("peer"):
            row["mean_loss"] = {key: statistics.fmean(values) for key, values in losses.items()}
        table[name] = row
    torch = next((r["torch"] for name in table for r in rounds_of(work, name, rounds, "peer") if "torch" in r), None)
    result = {"date": datetime.date.today().isoformat(), "command": command, "machine": machine(), "torch": torch, "rows": table}
    with open(out + ".json", "w") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    text = markdown(result)
    with open(out + ".md", "w") as file:
        file.write(text)
    print(text, end="")


def spread(figures):
    return f"{figures['per_second']:.2f} ({min(figures['all']):.2f}-{max(figures['all']):.2f})" if figures else "-"


def memory(figures):
    return f"{figures['peak_memory_mb']:.0f}" if figures and figures["peak_memory_mb"] else "-"


def markdown(result):
    box = result["machine"]
    lines = [
        f"# Speed and memory on the CPU, {result['date']}",
        "",
        f"{box['cpu']}, {box['cores']} cores, {box['path']}, {box['memory_gib']} GiB; f32, 2 threads; torch {result['torch']}.",
        f"Command: `{result['command']}`; the two took turns. Median and range over the rounds.",
        "",
        "| row | what | padding | Artel | sentence-transformers | ratio | Artel MB | s-t MB | mean loss |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in result["rows"].items():
        padding = f"{row['padding']:.0%}" if "padding" in row else "-"
        ratio = f"**{row['ratio']:.2f}**" if "ratio" in row else "-"
        loss = row.get("mean_loss")
        loss = f"{loss['artel']:.3f} / {loss['peer']:.3f}" if loss else "-"
        lines.append(
            f"| {name} | {row['what']} | {padding} | {spread(row['artel'])} {row['unit']} | {spread(row['peer'])} | {ratio} | "
            f"{memory(row['artel'])} | {memory(row['peer'])} | {loss} |"
        )
    notes = sorted({row["note"] for row in result["rows"].values() if "note" in row})
    lines += ["", *(f"{note}." for note in notes), "", "Loss by step, first round (each shuffles for itself):", ""]
    for name, row in result["rows"].items():
        for key, label in (("artel", "Artel"), ("peer", "sentence-transformers")):
            if row.get("loss", {}).get(key):
                lines.append(f"- {name}, {label}: " + ", ".join(f"{value:.3f}" for value in row["loss"][key]))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
