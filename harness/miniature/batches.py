"""Old-world lessons as tensors, made on the fly for the pre-training of the miniature."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.records import IMAGE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from benchmarks.mini.lessons import Lessons, Sample
    from harness.models.base import Batch

IMAGE_SIDE, PATCH_SIDE = 64, 16
"""Pixels of a picture, and of what one token stands for."""
PATCHES = (IMAGE_SIDE // PATCH_SIDE) ** 2
CHUNK = 8
"""Optimiser steps whose samples are drawn together and sorted by length, to waste little on padding."""


@dataclass(frozen=True)
class Encoded:
    """One lesson: token ids, the weight of each token in the loss (0 for questions), pictures and what they show."""

    ids: list[int]
    weights: list[float]
    pictures: tuple[np.ndarray, ...]
    patches: list[list[int]]


@dataclass(frozen=True)
class ChatFormat:
    """The tokens that a miniature's chat template puts round what is said."""

    opening: str = "<s>"
    user: str = "<|user|>"
    assistant: str = "<|assistant|>"
    ending: str = "</s>"
    patch: str = IMAGE
    """The token that stands in the place of one patch."""
    shown: Callable[[str], str] = str
    """A question as the template writes it: each picture's mark with one ``patch``."""


class InstructionEncoder:
    """Turns samples into token ids exactly as the model's own chat template does.

    Args:
        tokenizer: The miniature's tokenizer.
        labels: Everything that a patch of a picture can show; the index of a label is its class.
        frame: What stands round what is said.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, labels: Sequence[str], frame: ChatFormat = ChatFormat()
    ) -> None:
        self.classes = {label: index for index, label in enumerate(labels)}
        self.pad = int(tokenizer.pad_token_id)
        self._bos, self._user, self._assistant, self._eos, self._image = (
            tokenizer.get_vocab()[token]
            for token in (frame.opening, frame.user, frame.assistant, frame.ending, frame.patch)
        )
        self._tokenizer, self._shown = tokenizer, frame.shown
        self.segment = lru_cache(maxsize=200_000)(self._segment)

    def _segment(self, text: str) -> tuple[int, ...]:
        ids = self._tokenizer(self._shown(text), add_special_tokens=False)["input_ids"]
        return tuple(token for token_id in ids for token in [token_id] * (PATCHES if token_id == self._image else 1))

    def encode(self, sample: Sample) -> Encoded:
        """One sample; an answer of n tokens weighs sqrt(n), so that long texts do not drown short answers."""
        ids, weights = [self._bos], [0.0]
        for question, answer in sample.turns:
            asked = [self._user, *self.segment(question), self._assistant]
            said = [*self.segment(answer), self._eos]
            ids += asked + said
            weights += [0.0] * len(asked) + [len(said) ** -0.5] * len(said)
        return Encoded(ids, weights, sample.pictures, [self.classify(patches) for patches in sample.patches])

    def classify(self, patches: Sequence[str | None]) -> list[int]:
        """Class of each patch, -100 where it shows nothing nameable."""
        return [-100 if label is None else self.classes.get(label, -100) for label in patches]


def pixel_values(pictures: Sequence[np.ndarray]) -> torch.Tensor:
    """(n, 64, 64, 3) uint8 pictures -> (n, 3, 64, 64) float32 in [-1, 1], as the processor gives them."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float().div(127.5).sub(1.0)


def collate(samples: Sequence[Encoded], pad: int) -> Batch:
    """Right-padded ``input_ids``, ``attention_mask``, ``weights`` and, if any, ``pixel_values`` with ``patches``."""
    length = max(len(sample.ids) for sample in samples)
    ids = torch.full((len(samples), length), pad)
    mask, weights = torch.zeros_like(ids), torch.zeros(ids.shape)
    for row, sample in enumerate(samples):
        ids[row, : len(sample.ids)] = torch.tensor(sample.ids)
        mask[row, : len(sample.ids)] = 1
        weights[row, : len(sample.weights)] = torch.tensor(sample.weights)
    batch = {"input_ids": ids, "attention_mask": mask, "weights": weights}
    pictures = [picture for sample in samples for picture in sample.pictures]
    if pictures:
        batch["pixel_values"] = pixel_values(pictures)
        batch["patches"] = torch.tensor([patches for sample in samples for patches in sample.patches])
    return batch


class AlignmentBatches:
    """Stage 1: single pictures with the names of what each patch shows."""

    def __init__(self, lessons: Lessons, encoder: InstructionEncoder, steps: int, batch_size: int) -> None:
        self.steps, self._batch_size = steps, batch_size
        self._lessons, self._encoder = lessons, encoder

    def micro_batches(self, step: int, limit: int) -> Iterable[Batch]:
        """The pictures of one optimiser step, at most ``limit`` at a time."""
        first = step * self._batch_size
        for start in range(first, first + self._batch_size, limit):
            looks = [self._lessons.look(i) for i in range(start, min(start + limit, first + self._batch_size))]
            yield {
                "pixel_values": pixel_values([picture for picture, _ in looks]),
                "patches": torch.tensor([self._encoder.classify(patches) for _, patches in looks]),
            }


class InstructionBatches:
    """Stages 2 and 3: conversations over pictures, length-grouped within chunks of a few steps.

    Args:
        draw: (index, progress) -> one lesson.
        encoder: Makes it tensors.
        steps: Optimiser steps.
        batch_size: Lessons in one step.
        advanced: Draw what comes at the end from the beginning.
    """

    def __init__(
        self,
        draw: Callable[[int, float], Sample],
        encoder: InstructionEncoder,
        steps: int,
        batch_size: int,
        *,
        advanced: bool = False,
    ) -> None:
        self.steps, self._batch_size, self._advanced = steps, batch_size, advanced
        self._draw, self._encoder = draw, encoder
        self._chunk: tuple[int, list[list[Encoded]]] = (-1, [])

    def micro_batches(self, step: int, limit: int) -> Iterable[Batch]:
        """The lessons of one optimiser step, at most ``limit`` at a time."""
        rows = self._steps_of(step // CHUNK)[step % CHUNK]
        for start in range(0, len(rows), limit):
            yield collate(rows[start : start + limit], self._encoder.pad)

    def _steps_of(self, chunk: int) -> list[list[Encoded]]:
        if self._chunk[0] != chunk:
            size = CHUNK * self._batch_size
            progress = 1.0 if self._advanced else min(1.0, chunk * CHUNK / self.steps)
            samples = [self._draw(i, progress) for i in range(chunk * size, (chunk + 1) * size)]
            rows = sorted((self._encoder.encode(sample) for sample in samples), key=lambda row: len(row.ids))
            steps = [rows[i : i + self._batch_size] for i in range(0, size, self._batch_size)]
            random.Random(chunk).shuffle(steps)
            self._chunk = (chunk, steps)
        return self._chunk[1]
