"""What a method needs in memory, as numbers: for the forecast of ``plan``, before any model is loaded.

Methods return their needs from ``InjectionMethod.memory_needs``; the harness adds what the model itself needs.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from methods.targets import LinearShapes, count_layers

FLOAT32 = 4
"""Bytes of a value that a method trains or keeps."""


@dataclass(frozen=True)
class DecoderShapes:
    """Sizes of a model.

    Attributes:
        linears: d_in and d_out of each linear layer of the decoder; for a method only those that it adapts.
        layers: Number of decoder layers that these are in.
        others: Parameters of the language model outside of these: embeddings, norms, head.
        projector: Parameters of the projector.
    """

    linears: LinearShapes
    layers: int
    others: int
    projector: int

    @property
    def matrices(self) -> int:
        """Parameters of the linear layers."""
        return sum(d_in * d_out for d_in, d_out in self.linears)

    def only(self, linears: LinearShapes) -> DecoderShapes:
        """The same model with these of its linear layers."""
        if len(linears) == len(self.linears):
            return self
        return dataclasses.replace(self, linears=linears, layers=count_layers(linears.names))


@dataclass(frozen=True)
class MemoryNeeds:
    """What a method adds to the model while it trains.

    Attributes:
        trained: Trained parameters, those of the projector included; float32, with gradients and moments.
        frozen: Parameters that it adds and does not train, float32.
        rank: Values that its adapters keep for each token and linear layer.
        keeps_inputs: Whether the inputs of the linear layers are kept for the backward pass, because A or the weights
            themselves are trained; with a frozen A they are not.
        dropout: Whether each linear layer has a masked copy of its input.
        trains_base: Whether the trained parameters are the model's own, so that the model itself is float32.
        statistics: Bytes that it keeps during the training.
        step: Bytes of its penalty's graph within a step.
        preparation: Bytes of its statistics at their largest, before the training.
        prompts: Prompts that pass through the decoder layer by layer for these statistics.
        vocabulary_copies: Tensors (supervised tokens, vocabulary) float32 beyond those of the cross-entropy.
        adapted: The model with the linear layers that are adapted; None if these are all, or none.
    """

    trained: int
    frozen: int = 0
    rank: int = 0
    keeps_inputs: bool = True
    dropout: bool = False
    trains_base: bool = False
    statistics: int = 0
    step: int = 0
    preparation: int = 0
    prompts: int = 0
    vocabulary_copies: int = 0
    adapted: DecoderShapes | None = None

    def plus(self, **changes: int) -> MemoryNeeds:
        """The same with these numbers added."""
        return dataclasses.replace(self, **{name: getattr(self, name) + value for name, value in changes.items()})


def covariance_bytes(shapes: DecoderShapes) -> int:
    """Covariances of one decoder layer in float32, and two float64 matrices of the largest while it is decomposed.

    The distinct inputs of a layer are those of (q, k, v), (o), (gate, up) and (down): all of them are summed in one
    pass. A linear layer that reads the input of the one before it adds none.
    """
    one_layer = shapes.linears[: len(shapes.linears) // max(1, shapes.layers)]
    widths = sorted(d_in for d_in, _ in one_layer)
    distinct = [*sorted(set(widths)), *([min(widths)] * 2 if len(set(widths)) < len(widths) else [])][:4]
    return FLOAT32 * sum(width**2 for width in distinct) + 2 * 8 * max(widths) ** 2


def decomposition_bytes(shapes: DecoderShapes) -> int:
    """The largest linear layer's weight and its singular vectors on both sides, in float64."""
    return 3 * 8 * max(d_in * d_out for d_in, d_out in shapes.linears)
