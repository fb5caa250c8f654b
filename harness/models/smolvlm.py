"""SmolVLM, which puts pictures into texts in the type of its first weight."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch

from harness.models.base import Batch
from harness.models.processor_model import ProcessorModel


class SmolVLMModel(ProcessorModel):
    """A ``SmolVLMForConditionalGeneration`` with its processor; made by ``load``.

    Its ``forward`` converts the features of pictures to the type of the tower, and puts them among the embeddings. If
    those are trained, in float32 beside a frozen tower in half precision, torch refuses that. So they are read in the
    tower's type.
    """

    architecture: ClassVar[str] = "SmolVLMForConditionalGeneration"

    def supervised(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """As in ``LanguageVisionModel``."""
        with _outputs_in(self.inner.get_input_embeddings(), self.inner.dtype):
            return super().supervised(batch)


@contextmanager
def _outputs_in(module: torch.nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Within the block, what the module returns is converted to this type."""

    def convert(_: torch.nn.Module, __: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        return output.to(dtype)

    handle = module.register_forward_hook(convert)
    try:
        yield
    finally:
        handle.remove()
