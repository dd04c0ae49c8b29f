"""Pages of PDFs read a second, beside poppler and pypdfium2: two processes each, the same files, by turns.

  documents.py FOLDER [ROUNDS]      Python with pypdfium2; pdftotext (poppler-utils) in PATH

Writes bench/results/documents-DATE.json and .md. Artel's time is the wall time of its stage `read` in a run of two workers with one thread
each (strategy "fast", as the others do no OCR either): parsing in child processes, layout, elements, chunks, and all of it put into the store.
The others' is that of the text alone: pdftotext to nowhere, and pypdfium2's get_text_range of each page.
Left out are files that one of the three cannot open. Settings: ARTEL (target/release/artel), NAME (documents-DATE).
"""
import datetime
import json
import multiprocessing
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import pypdfium2

ROOT = pathlib.Path(__file__).resolve().parent.parent
ARTEL = os.environ.get("ARTEL", str(ROOT / "target/release/artel"))
SPEC = """[run]
store = "file:{work}/store"
[documents]
sources = ["{work}/files"]
strategy = "fast"
[questions]
provider = "offline"
[model]
base = "artel:toy"
max_seq_length = 32
[train]
global_batch_size = 8
max_steps = 1
matryoshka_dims = [32]
[workers]
count = 2
threads = 1
"""


def pages_of(path):
    document = pypdfium2.PdfDocument(path)
    for page in document:
        page.get_textpage().get_text_range()
    return len(document)


def opens(path):
    try:
        pages = pages_of(path)
    except Exception:
        return 0
    told = subprocess.run(["pdftotext", "-q", path, os.devnull], stderr=subprocess.DEVNULL)
    return pages if told.returncode == 0 else 0


def by_pypdfium2(files):
    with multiprocessing.Pool(2) as pool:
        begun = time.perf_counter()
        pages = sum(pool.imap_unordered(pages_of, files))
        return time.perf_counter() - begun, pages


def by_poppler(files):
    begun = time.perf_counter()
    names = b"\0".join(file.encode() for file in files)
    subprocess.run(["xargs", "-0", "-P2", "-I{}", "pdftotext", "-q", "{}", os.devnull], input=names, check=True)
    return time.perf_counter() - begun, None


def by_artel(work):
    shutil.rmtree(work / "store", ignore_errors=True)
    run = subprocess.run([ARTEL, "run", str(work / "spec.toml"), "--json"], capture_output=True, text=True)
    for line in run.stdout.splitlines():
        event = json.loads(line)
        if event.get("event") == "stage_finished" and event.get("stage") == "read":
            documents = [json.loads(line) for line in subprocess.run(
                [ARTEL, "documents", str(work / "store"), "--json"], capture_output=True, text=True, check=True).stdout.splitlines()]
            failed = [f"{d['source'].rsplit('/', 1)[-1]}: {d['reason']}" for d in documents if d["status"] == "failed"]
            return event["wall_s"], sum(d["pages"] for d in documents), failed
    sys.exit(f"artel read nothing: {run.stderr}")


def main():
    folder, rounds = pathlib.Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3
    found = sorted(str(path) for path in folder.rglob("*.pdf"))
    files, pages = [], 0
    for path in found:
        if has := opens(path):
            files.append(path)
            pages += has
    with tempfile.TemporaryDirectory() as scratch:
        work = pathlib.Path(scratch)
        (work / "files").mkdir()
        for number, path in enumerate(files):
            shutil.copy(path, work / "files" / f"{number:03}-{pathlib.Path(path).name}")
        (work / "spec.toml").write_text(SPEC.format(work=work))
        times = {"artel": [], "pypdfium2": [], "poppler": []}
        for _ in range(rounds):
            seconds, read, failed = by_artel(work)
            times["artel"].append(seconds)
            times["pypdfium2"].append(by_pypdfium2(files)[0])
            times["poppler"].append(by_poppler(files)[0])
    rate = {name: pages / statistics.median(seconds) for name, seconds in times.items()}
    result = {
        "command": f"bench/documents.py FOLDER {rounds}", "date": datetime.date.today().isoformat(), "machine": machine(),
        "files": len(files), "left_out": len(found) - len(files), "pages": pages, "pages_artel_read": read, "artel_failed": failed,
        "seconds": times, "pages_per_second": rate,
        "ratio": {name: rate["artel"] / rate[name] for name in ("pypdfium2", "poppler")},
    }
    name = os.environ.get("NAME", f"documents-{result['date']}")
    (ROOT / "bench/results" / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    lines = [f"# Pages read a second\n\n`{result['command']}`, {result['date']}, {result['machine']}: {pages} pages of {len(files)} PDFs"
             f" ({len(found) - len(files)} left out, which one of the three does not open); median of {rounds} rounds, two processes each.\n",
             "| reader | pages/s | artel's, times this | seconds |", "|---|---|---|---|"]
    for reader, seconds in times.items():
        lines.append(f"| {reader} | {rate[reader]:.1f} | {rate['artel'] / rate[reader]:.2f} | {', '.join(f'{s:.2f}' for s in seconds)} |")
    if failed:
        lines.append(f"\nNot read by artel: {', '.join(failed)}.")
    (ROOT / "bench/results" / f"{name}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def machine():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} cores of {model}"


if __name__ == "__main__":
    main()
