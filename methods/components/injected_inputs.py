"""Second moments of the inputs of what was injected in earlier stages, beside those of the calibration prompts.

Both are means over the tokens of as many prompts, so that each earlier stage counts as much as the calibration pool.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from methods.components.covariance import InputCovariance, covariances
from methods.components.input_moments import Norm

if TYPE_CHECKING:
    from benchmarks.records import Conversation
    from methods.interfaces import InjectableModel, Tensors

END = ".injected"
"""End of a covariance's name in the state of a stage, after that of the first layer that reads the input."""


def injected_covariances(
    model: InjectableModel, samples: Sequence[Conversation], norm: Norm, names: Container[str], earlier: Tensors
) -> Tensors:
    """The sum of the earlier stages' covariances and of this one's, measured on the model that the stage has made.

    Args:
        model: With the stage's adapter attached, as it answers.
        samples: Conversations of the stage; their first user turns are read.
        norm: How tokens are weighted.
        names: The linear layers whose inputs are measured.
        earlier: What this function returned at the end of the stage before.

    Returns:
        ``<first layer>.injected`` (d_in, d_in), float32 or wider, on the CPU.
    """
    return {
        f"{part.layers[0]}{END}": part.covariance
        for part in with_injected(covariances(model, samples, norm, names=names), earlier)
    }


def with_injected(inputs: Iterable[InputCovariance], injected: Tensors) -> Iterator[InputCovariance]:
    """Add what was injected in earlier stages to each covariance; unchanged if nothing was."""
    for part in inputs:
        added = injected.get(f"{part.layers[0]}{END}")
        yield part if added is None else dataclasses.replace(part, covariance=part.covariance + added)
