"""A tiny random Llama with its tokenizer in a folder."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import LlamaConfig

from harness.miniature.llava import train_tokenizer, wrap_tokenizer

SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
CORPUS = ("What is shown? A flag of Ghana.", "Is this a dog? Yes. No.", "word")


def write_llama(folder: Path, kind: type, **more) -> Path:
    tokenizer = wrap_tokenizer(train_tokenizer(CORPUS))
    ids = {f"{name}_id": getattr(tokenizer, f"{name}_id") for name in ("bos_token", "eos_token", "pad_token")}
    config = LlamaConfig(**SIZES, **ids, vocab_size=len(tokenizer), max_position_embeddings=256, **more)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kind(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
