"""A model folder of BGE-base's shape with random weights and MiniLM's tokenizer. Needs sentence-transformers.

  bge_shape.py MINILM OUT
"""
import sys

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Normalize, Pooling, Transformer
from transformers import AutoTokenizer, BertConfig, BertModel


def main(minilm, out):
    torch.manual_seed(42)
    BertModel(BertConfig()).save_pretrained(f"{out}/plain")
    AutoTokenizer.from_pretrained(minilm).save_pretrained(f"{out}/plain")
    encoder = Transformer(f"{out}/plain", max_seq_length=512)
    pooling = Pooling(encoder.get_word_embedding_dimension(), pooling_mode="cls")
    SentenceTransformer(modules=[encoder, pooling, Normalize()], device="cpu").save(out)


main(*sys.argv[1:])
