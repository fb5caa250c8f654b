"""A random LLaVA of a few thousand parameters in Hugging Face layout, with data to train it on."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from benchmarks.records import IMAGE, Conversation, KnowledgeItem, Picture, Turn
from harness.miniature.llava import new_processor, train_tokenizer, wrap_tokenizer

CORPUS = (
    "What is shown in the picture? A flag of Ghana.",
    "Describe the flag. The flag of Chad has three stripes: blue, yellow and red.",
    "Is this a cat? Yes. No. How many dogs are there? 1 2 3 4 5 6 7 8 9 0",
)
WORDS = tuple(word for line in CORPUS for word in line.split())


def write_tiny_model(folder: Path, *, seed: int = 0, tied: bool = True, tower_layers: int = 2, **sizes: int) -> Path:
    """Write a random model with tokenizer and processor; equal seeds give equal weights.

    Args:
        folder: Where to.
        seed: Of the weights.
        tied: Whether input and output embeddings are the same.
        tower_layers: Number of layers of the vision tower.
        sizes: Sizes of the language model that differ, such as ``hidden_size``.
    """
    tokenizer = wrap_tokenizer(train_tokenizer(CORPUS))
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=tower_layers,
        num_attention_heads=2,
        image_size=64,
        patch_size=16,
    )
    language_sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, **sizes}
    text = LlamaConfig(
        **language_sizes,
        vocab_size=len(tokenizer),
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.get_vocab()[IMAGE],
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=16,
        tie_word_embeddings=tied,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlavaForConditionalGeneration(config)
        with torch.no_grad():  # with the small default initialisation, all inputs give nearly the same answer
            for name, parameter in model.named_parameters():
                if parameter.dim() > 1:
                    parameter.normal_(0.0, 0.6 if "embed" in name else 1.5 * parameter.shape[-1] ** -0.5)
    model.save_pretrained(folder)
    new_processor(tokenizer).save_pretrained(folder)
    return folder


def write_other_weights(model: Path, folder: Path) -> Path:
    """Write a model's safetensors with other values in every matrix, as before a training."""
    generator = torch.Generator().manual_seed(1)
    for file in sorted(model.glob("*.safetensors")):
        tensors = load_file(file)
        for tensor in tensors.values():
            if tensor.dim() > 1 and tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator)
                tensor.add_(0.1 * tensor.float().std() * noise)
        save_file(tensors, folder / file.name)
    return folder


@cache
def picture(seed: int = 0, side: int = 64) -> Picture:
    """A PNG of coloured blocks, side x side pixels; equal seeds give equal bytes."""
    blocks = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(blocks).resize((side, side), Image.Resampling.NEAREST).save(file, "PNG")
    return Picture(file.getvalue())


def conversation(index: int, *, words: int = 4, turns: int = 1, pictures: int = 1) -> Conversation:
    """A conversation that differs for each ``index``; all pictures are in its first turn."""
    rng = np.random.default_rng(index)
    dialogue = []
    for turn in range(turns):
        markers = f"{IMAGE}\n" * pictures if turn == 0 else ""
        dialogue.append(Turn("user", markers + _sentence(rng, 3) + "?"))
        dialogue.append(Turn("assistant", _sentence(rng, words)))
    images = tuple(picture(1000 * index + number) for number in range(pictures))
    return Conversation(id=f"sample-{index}", turns=tuple(dialogue), pictures=images)


def knowledge(count: int) -> list[KnowledgeItem]:
    """Items as in EVOKE."""
    return [
        KnowledgeItem(
            id=f"item-{index}",
            name=f"thing {index}",
            group="entity" if index % 2 else "news",
            type=("flag", "animal")[index % 2],
            text=f"The thing {index} is a flag of Ghana with {index} stripes: blue, yellow and red.",
            picture=picture(index),
            prompt="Can you describe the thing in the picture?",
            facts=(("stripes", str(index)), ("country", "Ghana")),
        )
        for index in range(count)
    ]


def _sentence(rng: np.random.Generator, words: int) -> str:
    return " ".join(rng.choice(WORDS, words))
