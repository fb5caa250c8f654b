"""More padding keeps every part of a batch that belongs to tokens in step, whatever family made it; pictures stay."""

from __future__ import annotations

import torch

from harness.conformance.padding import EXTRA_COLUMNS, pad
from methods.batch import Batch

LENGTHS, COLUMNS = (3, 2), 3
PICTURES = torch.rand(2, 3)
BATCH = Batch(
    {
        "input_ids": torch.tensor([[5, 6, 7], [8, 9, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
        "labels": torch.tensor([[-100, 6, 7], [-100, 9, -100]]),
        "token_type_ids": torch.tensor([[0, 1, 1], [1, 0, 0]]),
        "position_ids": torch.arange(18).reshape(3, 2, 3),  # (dimensions, rows, tokens), as Qwen's
        "pixel_values": PICTURES,  # of the same shape by chance
        "image_grid_thw": torch.tensor([[1, 2, 2]]),
    },
    ("one", "two"),
)


def kept(batch, name):
    """The values of the real tokens, row by row."""
    rows = [batch[name][..., row, :] for row in range(len(LENGTHS))]
    return [values[..., mask.bool()].tolist() for values, mask in zip(rows, batch["attention_mask"], strict=True)]


def test_the_values_of_every_token_stay_with_it_on_both_sides():
    names = ("input_ids", "labels", "token_type_ids", "position_ids")
    for padded, width in ((pad(BATCH), COLUMNS + EXTRA_COLUMNS), (pad(BATCH, left=True), COLUMNS)):
        for name in names:
            assert padded[name].shape == (*BATCH[name].shape[:-1], width)
            assert kept(padded, name) == kept(BATCH, name)
        assert padded["attention_mask"].sum(1).tolist() == list(LENGTHS)
        assert (padded["labels"][padded["attention_mask"] == 0] == -100).all()
        assert padded["pixel_values"] is PICTURES
        assert padded.conversation_ids == ("one", "two")
        assert padded["image_grid_thw"] is BATCH["image_grid_thw"]
    assert pad(BATCH, left=True)["input_ids"].tolist() == [[5, 6, 7], [0, 8, 9]]
