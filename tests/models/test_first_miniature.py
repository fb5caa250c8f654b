"""How the first miniature was trained, against how it is used."""

from __future__ import annotations

import torch
from transformers import PreTrainedTokenizerFast

from benchmarks.mini.lessons import Lessons
from benchmarks.mini.world import DATA, load_world
from harness.miniature.batches import InstructionEncoder, collate
from harness.models.registry import load_model

FOLDER = DATA / "model"


def test_samples_are_encoded_like_conversations():
    """Pre-training makes its own batches, for speed, with the tokens and labels that injection would give."""
    base = load_model(FOLDER, torch.device("cpu"), torch.float32)
    lessons = Lessons(load_world(), 3)
    encoder = InstructionEncoder(PreTrainedTokenizerFast.from_pretrained(FOLDER), lessons.label_names())
    for index in range(40):
        sample = lessons.sample(index, 1.0)
        expected = base.training_batch([sample.conversation("one")])
        batch = collate([encoder.encode(sample)], encoder.pad)
        assert torch.equal(batch["input_ids"], expected["input_ids"])
        assert torch.equal(batch["weights"] > 0, expected["labels"] != -100)
        if "pixel_values" in batch:
            assert torch.allclose(batch["pixel_values"], expected["pixel_values"], atol=1e-6)
