"""A model's sizes and the lengths of its inputs, from its folder without any weights."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from benchmarks.errors import UserError
from harness.models.base import LanguageVisionModel
from methods.memory import DecoderShapes
from methods.targets import LinearShapes


@dataclass(frozen=True)
class ModelSizes:
    """What a forecast of memory needs to know of a model.

    Attributes:
        shapes: Of the linear layers, and numbers of parameters.
        tower: Parameters of the vision tower.
        hidden: Width of the hidden states.
        query: Width of all query heads together.
        key: Width of all key heads together.
        inner: Width inside the feed-forward part.
        vocabulary: Number of tokens that the model knows.
        encoded: Values of an image token between tower and projector.
        head: Width of one head.
    """

    shapes: DecoderShapes
    tower: int
    hidden: int
    query: int
    key: int
    inner: int
    vocabulary: int
    encoded: int
    head: int


def model_sizes(model: LanguageVisionModel) -> ModelSizes:
    """The sizes of a model, with or without weights.

    Raises:
        UserError: Its layers have names that the forecast does not know.
    """
    module, config = model.inner, model.inner.config.get_text_config()
    linears = {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, torch.nn.Linear) and re.fullmatch(model.linear_targets, name)
    }
    widths: dict[str, int] = {}
    for name, layer in linears.items():
        widths.setdefault(name.rpartition(".")[2], layer.out_features)
    missing = {"q_proj", "k_proj", "up_proj"} - widths.keys()
    if missing:
        raise UserError(
            f"its layers have no {sorted(missing)[0]}, so that its memory cannot be forecast",
            location=str(model.folder),
            hint="run a limited comparison and look at the peak memory that it reports",
        )
    matrices = {f"{name}.weight" for name in linears}
    counts = {"projector": 0, "tower": 0, "others": 0}
    for name, parameter in module.named_parameters():
        path = set(name.split("."))
        part = "projector" if model.projector in path else "tower" if model.towers & path else "others"
        if name not in matrices:
            counts[part] += parameter.numel()
    pairs = LinearShapes({name: (layer.in_features, layer.out_features) for name, layer in linears.items()})
    shapes = DecoderShapes(pairs, int(config.num_hidden_layers), counts["others"], counts["projector"])
    first = next(
        layer
        for name, layer in module.named_modules()
        if isinstance(layer, torch.nn.Linear) and model.projector in name.split(".")
    )
    return ModelSizes(
        shapes=shapes,
        tower=counts["tower"],
        hidden=int(config.hidden_size),
        query=widths["q_proj"],
        key=widths["k_proj"],
        inner=widths["up_proj"],
        vocabulary=int(config.vocab_size),
        encoded=first.in_features,
        head=widths["q_proj"] // int(config.num_attention_heads),
    )
