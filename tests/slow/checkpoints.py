"""Makes models with random weights, trains some steps of each with a checkpoint after every second, and prints what the checkpoints cost."""

import json
import os
import subprocess
import sys
import time

artel, work, pairs, boto = sys.argv[1:5]
SHAPES = {"small": dict(hidden_size=512, num_hidden_layers=7, num_attention_heads=8, intermediate_size=2048), "base": {}}
STEPS = 6


def make(size):
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    base = subprocess.run([sys.executable, os.path.join(os.path.dirname(pairs), "..", "peer", "minilm.py")], capture_output=True, text=True)
    folder = f"{work}/{size}"
    torch.manual_seed(0)
    BertModel(BertConfig(**SHAPES[size])).save_pretrained(folder)
    BertTokenizerFast.from_pretrained(base.stdout.strip()).save_pretrained(folder)
    return folder


def plain(store, bytes_):
    """Seconds for a plain copy of as many bytes: a synced file, or boto3's upload."""
    source = f"{work}/plain"
    with open(source, "wb") as file:
        block = os.urandom(1 << 20)
        for _ in range(bytes_ >> 20):
            file.write(block)
    begun = time.time()
    if store.startswith("file:"):
        subprocess.run(["cp", source, f"{work}/plain.copy"], check=True)
        subprocess.run(["sync", f"{work}/plain.copy"], check=True)
    else:
        code = f"import boto3, os; boto3.client('s3', endpoint_url=os.environ['AWS_ENDPOINT']).upload_file({source!r}, 'artel', 'plain')"
        subprocess.run([boto, "-c", code], check=True)
    return time.time() - begun


def run(size, base, store):
    spec = f"{work}/{size}.toml"
    with open(spec, "w") as file:
        file.write(f"""[data]
pairs = ["{pairs}"]
columns = {{ anchor = "anchor", positive = "positive" }}
limit = 160
test_fraction = 0.1
[model]
base = "{base}"
max_seq_length = 128
[train]
global_batch_size = 16
max_steps = {STEPS}
num_train_epochs = 1
eval_strategy = "no"
load_best_model_at_end = false
save_strategy = "steps"
save_steps = 2
logging_steps = 1
""")
    command = [artel, "run", spec, "--store", store, "--workers", "2", "--json"]
    steps, saved, clock = {}, {}, {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "step":
                steps[event["step"]] = time.time()
            if event["event"] == "checkpoint":
                saved[event["step"]] = event
                clock[event["step"]] = time.time()
    assert process.returncode == 0 and saved, (process.returncode, saved)
    # steps that no checkpoint was copied before
    usual = sorted(steps[n] - steps[n - 1] for n in steps if n - 1 in steps and (n - 1) % 2)
    step = usual[len(usual) // 2]
    bytes_ = next(iter(saved.values()))["bytes"]
    seconds = sorted(clock[n] - steps[n] for n in saved)
    stalls = sorted(event["stall_s"] for event in saved.values())
    took, first = seconds[len(seconds) // 2], min(stalls)
    copied = plain(store, bytes_)
    kind = "folder" if store.startswith("file:") else "bucket"
    print(f"{size:6} {kind}: {bytes_ / 1e6:5.0f} MB, step {step:5.2f} s, stall {first * 1e3:4.0f} ms where none waits "
          f"({first / step:.1%} of a step; median {stalls[len(stalls) // 2] * 1e3:.0f} ms), "
          f"put beside training in {took:.1f} s = {bytes_ / took / 1e6:.0f} MB/s; plain copy {bytes_ / copied / 1e6:.0f} MB/s", flush=True)
    return first < max(0.05 * step, 0.1)


good = True
for size in sys.argv[5:]:
    base = make(size)
    good &= run(size, base, f"file:{work}/store-{size}")
    good &= run(size, base, f"s3://artel/{size}")
sys.exit(0 if good else "a checkpoint stops the training for longer than 5% of a step and 100 ms")
