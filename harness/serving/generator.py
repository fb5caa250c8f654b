"""Questions answered by vLLM: the engine that stands in for the built-in one in ``batched_generation.answer``."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from benchmarks.errors import UserError
from harness.models.base import Dialogue, LanguageVisionModel
from harness.models.batched_generation import Generated
from harness.models.vision import TensorCache
from harness.serving.engine import Completion, Prompt, ServedEngine
from harness.serving.prompts import served_prompts


class VllmGenerator:
    """A ``Generator``: prompts and pictures from the model, answers from the engine.

    Args:
        model: With the adapter attached whose projector made, or did not make, a difference.
        engine: Serves the same base and the same adapter.
    """

    def __init__(self, model: LanguageVisionModel, engine: ServedEngine) -> None:
        self._model, self._engine = model, engine

    @property
    def has_adapter(self) -> bool:
        """Whether an adapter takes part."""
        return self._engine.has_adapter

    def __call__(
        self,
        dialogues: Sequence[Dialogue],
        cache: TensorCache,
        templates: Sequence[str],
        limits: Sequence[int],
        penalties: Sequence[float | None],
    ) -> Generated:
        """The answers to these dialogues.

        Raises:
            UserError: A prompt cannot be encoded, or a probability is not finite.
            RuntimeError: vLLM refuses a prompt.
            GeneratorEnded: Its process has ended.
        """
        found = self.complete(dialogues, cache, templates, limits, penalties)
        new = [each.ids[:-1] if each.ended else each.ids for each in found]
        texts = self._model.answer_texts(new)
        return [(text, len(ids), not each.ended) for text, ids, each in zip(texts, new, found, strict=True)]

    def complete(
        self,
        dialogues: Sequence[Dialogue],
        cache: TensorCache,
        templates: Sequence[str],
        limits: Sequence[int],
        penalties: Sequence[float | None],
        *,
        adapter: bool = True,
    ) -> list[Completion]:
        """The same as token ids with their log-probabilities, also of the base without the ``adapter``."""
        pictures: dict[str, torch.Tensor] = {}
        prompts = []
        encoded = served_prompts(self._model, dialogues, cache, templates)
        for prompt, limit, penalty in zip(encoded, limits, self._model.penalties(penalties), strict=True):
            names = [picture.name for picture in prompt.pictures]
            grids = [picture.grid for picture in prompt.pictures if picture.grid is not None]
            pictures |= {name: each.embeddings for name, each in zip(names, prompt.pictures, strict=True)}
            prompts.append(Prompt(prompt.ids, names, grids, limit, penalty))
        first = all(len(texts) == 1 for texts, _ in dialogues)
        found = self._engine.generate(prompts, pictures, adapter=adapter, fresh=first)
        if not all(math.isfinite(value) for each in found for value in each.logprobs):
            raise UserError(
                "the model's logits are not finite",
                location="answering",
                hint="check the weights, or answer in float32 (precision=float32)",
            )
        return found
