"""A real llama.cpp server with a random model: `server.py FOLDER PORT`.

Needs the PyPI packages xllamacpp (llama.cpp's own HTTP server in a wheel) and gguf. Writes a llama of two layers with random weights
and one token per byte into FOLDER, serves it on 127.0.0.1:PORT until its standard input closes, and prints `ready` when it listens.
"""

import pathlib
import sys

import gguf
import numpy as np
import xllamacpp

LAYERS, WIDTH, HEADS, HIDDEN, CONTEXT = 2, 64, 4, 128, 8192


def byte_names():
    """GPT-2's printable name of each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    names, extra = {}, 0
    for byte in range(256):
        if byte in printable:
            names[byte] = chr(byte)
        else:
            names[byte] = chr(256 + extra)
            extra += 1
    return [names[byte] for byte in range(256)]


def write_model(path):
    # llama.cpp refuses an empty list of merges, so there is one
    tokens = byte_names() + ["<|begin|>", "<|end|>", "th"]
    normal, control = int(gguf.TokenType.NORMAL), int(gguf.TokenType.CONTROL)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("random")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([normal] * 256 + [control] * 2 + [normal])
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)

    random = np.random.default_rng(1)

    def add(name, *shape):
        writer.add_tensor(name, random.normal(0, 0.3, shape).astype(np.float32))

    add("token_embd.weight", len(tokens), WIDTH)
    add("output.weight", len(tokens), WIDTH)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for layer in range(LAYERS):
        at = f"blk.{layer}."
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{at}{name}.weight", np.ones(WIDTH, np.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"{at}{name}.weight", WIDTH, WIDTH)
        add(f"{at}ffn_gate.weight", HIDDEN, WIDTH)
        add(f"{at}ffn_up.weight", HIDDEN, WIDTH)
        add(f"{at}ffn_down.weight", WIDTH, HIDDEN)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    folder, port = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    path = folder / "random.gguf"
    write_model(path)
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_parallel = 4
    params.n_ctx = 4 * CONTEXT
    params.cpuparams.n_threads = 1
    params.warmup = False
    # else llama.cpp looks for thoughts in the noise, and does not hold it to the schema
    params.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
    server = xllamacpp.Server(params)
    print("ready", getattr(server, "listening_address", ""), flush=True)
    sys.stdin.read()


main()
