"""The figures of bench/cpu.sh as JSON and Markdown. Only the standard library.

  cpu.py WORK ROUNDS COMMAND OUT
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


def losses_of(events_file):
    events = [json.loads(line) for line in open(events_file)]
    return [event["loss"] for event in events if event.get("event") == "step"]


def side(speeds, memories):
    return {"pairs_per_second": statistics.median(speeds), "pairs_per_second_all": speeds, "peak_memory_mb": max(memories)}


def main(work, rounds, command, out):
    names = range(1, int(rounds) + 1)
    artel = [json.load(open(f"{work}/artel-{i}.json")) for i in names]
    peer = [json.load(open(f"{work}/peer-{i}.json")) for i in names]
    result = {
        "date": datetime.date.today().isoformat(),
        "command": command,
        "machine": machine(),
        "what": f"MiniLM-L6, MedQuAD pairs, batch 32, length 256, dims 384/256/128/64, f32, 2 threads, {peer[0]['steps']} steps",
        "artel": side([r["pairs_per_second"] for r in artel], [r["peak_memory_mb"] for r in artel]),
        "sentence_transformers": side([r["pairs_per_s"] for r in peer], [r["peak_rss_mb"] for r in peer]),
        "torch": peer[0]["torch"],
        "loss": {
            "artel": losses_of(f"{work}/1.events.jsonl"),
            "sentence_transformers": [json.loads(line)["loss"] for line in open(f"{work}/peer-1.loss.jsonl")],
        },
    }
    ratio = result["artel"]["pairs_per_second"] / result["sentence_transformers"]["pairs_per_second"]
    result["speed_ratio"] = round(ratio, 3)
    base = os.path.join(out, f"cpu-{result['date']}")
    with open(base + ".json", "w") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    text = markdown(result)
    with open(base + ".md", "w") as file:
        file.write(text)
    print(text, end="")


def markdown(result):
    box = result["machine"]
    lines = [
        f"# Training on the CPU, {result['date']}",
        "",
        f"{result['what']}. {box['cpu']}, {box['cores']} cores, {box['path']}, {box['memory_gib']} GiB; torch {result['torch']}.",
        f"Command: `{result['command']}`; the two took turns. Load at the end: {box['load']:.1f}.",
        "",
        "| | pairs/s, median | each round | peak memory, MB |",
        "|---|---|---|---|",
    ]
    for key, label in (("artel", "Artel"), ("sentence_transformers", "sentence-transformers")):
        figures = result[key]
        each = ", ".join(f"{speed:.2f}" for speed in figures["pairs_per_second_all"])
        lines.append(f"| {label} | {figures['pairs_per_second']:.2f} | {each} | {figures['peak_memory_mb']:.0f} |")
    lines += ["", f"Artel / sentence-transformers: {result['speed_ratio']:.2f}.", "", "Loss of the first round (each shuffles for itself):", ""]
    for key, label in (("artel", "Artel"), ("sentence_transformers", "sentence-transformers")):
        curve = result["loss"][key]
        lines.append(f"- {label}: " + ", ".join(f"{value:.3f}" for value in curve))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
