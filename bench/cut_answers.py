"""Cuts every answer at random to 5-60 tokens, so that lengths in a batch differ widely. Needs tokenizers.

  cut_answers.py MODEL IN.jsonl OUT.jsonl
"""
import json
import random
import sys

from tokenizers import Tokenizer


def main(model, source, target):
    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    chance = random.Random(42)
    rows = [json.loads(line) for line in open(source)]
    encodings = tokenizer.encode_batch([row["positive"] for row in rows], add_special_tokens=False)
    with open(target, "w") as out:
        for row, encoding in zip(rows, encodings):
            ends = [end for _, end in encoding.offsets]
            if ends:
                row["positive"] = row["positive"][: ends[min(chance.randint(5, 60), len(ends)) - 1]]
            out.write(json.dumps(row) + "\n")


main(*sys.argv[1:])
