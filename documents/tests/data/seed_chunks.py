"""Writes seed_chunks.json: chunks of the splitter that this project began from, over sentences that NLTK finds (pip install nltk).

Only sizes for which that splitter keeps within its own limit are kept: from the second chunk on it forgets the space that it
puts between the first two sentences, and may be one character over.
"""

import json
import pathlib
import random

from nltk.tokenize.punkt import PunktSentenceTokenizer


def nltk_based_splitter(sentences: list, chunk_size: int) -> list:
    chunks = []
    current_chunk = ""
    for sentence in sentences:
        if len(current_chunk) + len(sentence) <= chunk_size:
            current_chunk += " " + sentence
        else:
            chunks.append(current_chunk.strip())
            current_chunk = sentence
    if current_chunk:
        chunks.append(current_chunk.strip())
    return chunks


def text() -> str:
    subjects = ["The river", "A small engine", "Our neighbour", "The library", "Every winter", "The old bridge", "She", "Their council"]
    verbs = ["carries", "explains", "remembers", "repairs", "follows", "measures", "paints", "collects", "describes", "protects"]
    objects = ["the quiet town", "a long letter", "three wooden boats", "the report of last year", "many kinds of stone", "seven pages"]
    tails = ["", "", " in the morning", " without any help", " after the rain had stopped", " at 3.5 degrees below zero", " and leaves"]
    parts = (subjects, verbs, objects)
    chance = random.Random(7)
    sentence = lambda: " ".join(chance.choice(part) for part in parts) + chance.choice(tails) + chance.choice("...!?")
    return " ".join(sentence() for _ in range(220))


words = text()
sentences = PunktSentenceTokenizer().tokenize(words)
golden = {"text": words, "sentences": len(sentences), "chunks": {}}
for size in [100, 140, 180, 220, 260, 333, 400, 512, 700, 1000, 1500, 2048, 20000]:
    chunks = nltk_based_splitter(sentences, size)
    if max(map(len, chunks)) <= size:
        assert " ".join(chunks) == words
        golden["chunks"][size] = [len(chunk) for chunk in chunks]
pathlib.Path(__file__).with_suffix(".json").write_text(json.dumps(golden, indent=None) + "\n")
