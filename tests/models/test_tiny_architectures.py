"""The tiny checkpoints are what they claim: the published classes and files, and models that look at their pictures."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
from PIL import ImageOps

from benchmarks.records import IMAGE, Picture
from helpers.plain_call import PlainCall
from helpers.published_models import SMALL, TALL, WIDE
from helpers.tiny_architectures import ARCHITECTURES, write

FAST = ("qwen3-vl", "gemma3")
"""The others are tested with the slow tests."""
QUESTION = "What is shown?"
ONE = ((f"{IMAGE}\n{QUESTION}",), (WIDE,))
TWO = ((f"{IMAGE}\n{IMAGE}\n{QUESTION}",), (TALL, SMALL))
NONE = ((QUESTION,), ())
NEW = 6


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in ARCHITECTURES],
)
def checkpoint(request, tmp_path_factory):
    folder = write(request.param, tmp_path_factory.mktemp("checkpoint"))
    return ARCHITECTURES[request.param], folder, PlainCall(folder)


def dialogues(architecture):
    return [ONE, TWO, NONE] if architecture.text_only else [ONE, TWO]


def test_it_is_small_and_of_the_published_class(checkpoint):
    architecture, folder, plain = checkpoint
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == [architecture.class_name] == [type(plain.model).__name__]
    assert config["dtype"] == "float16"
    assert sum(weight.numel() for weight in plain.model.parameters()) < 300_000
    weights = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(weights.values())) > 1, "shards"
    files = {"tokenizer.json", "tokenizer_config.json", "preprocessor_config.json", "generation_config.json"}
    assert files <= {file.name for file in folder.iterdir()}


def test_equal_names_give_equal_bytes(checkpoint, tmp_path):
    architecture, folder, _ = checkpoint
    name = next(name for name, each in ARCHITECTURES.items() if each is architecture)
    again = write(name, tmp_path / "again")
    assert contents(folder) == contents(again)
    (again / "config.json").write_text("{}")
    assert contents(folder) != contents(again), "positive control"


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_it_answers_with_one_picture_two_and_none(checkpoint):
    architecture, _, plain = checkpoint
    logits, answers = [], []
    for dialogue in dialogues(architecture):
        logits.append(plain.logits(dialogue))
        answers.append(plain.answer(dialogue, NEW))
        assert torch.isfinite(logits[-1]).all()
    assert len(set(answers)) == len(answers), "each prompt has its own answer"
    widths = [len(each) for each in logits]
    assert len(set(widths)) == len(widths)


def test_another_picture_changes_the_logits_of_the_positions_after_it(checkpoint):
    """The same size, so that the tokens are the same."""
    _, _, plain = checkpoint
    texts, (picture,) = ONE
    other = inverted(picture)
    ids = [plain.inputs((texts, (each,)))["input_ids"] for each in (picture, other)]
    assert torch.equal(*ids)
    first, second = plain.logits((texts, (picture,))), plain.logits((texts, (other,)))
    assert (first[-1] - second[-1]).abs().max() > 0.02
    assert torch.equal(plain.logits((texts, (picture,))), first), "the same picture gives the same logits"


def test_another_question_changes_the_answer(checkpoint):
    _, _, plain = checkpoint
    asked = [((f"{IMAGE}\n{text}",), (WIDE,)) for text in (QUESTION, "Is this a cat?", "Describe the flag.")]
    assert len({plain.answer(each, NEW) for each in asked}) == len(asked)


def inverted(picture: Picture) -> Picture:
    file = io.BytesIO()
    ImageOps.invert(picture.pixels()).save(file, "PNG")
    return Picture(file.getvalue())
