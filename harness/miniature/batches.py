"""Samples of the old world as batches of tensors, generated during the pre-training of a miniature."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.records import IMAGE
from methods.batch import Batch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from benchmarks.mini.lessons import Lessons, Sample

IMAGE_SIDE = 64
"""Width and height of a picture, in pixels."""
PATCH_SIDE = 16
"""Width and height of the part of a picture that becomes one token."""
PATCHES = (IMAGE_SIDE // PATCH_SIDE) ** 2
SEGMENTS = 20_000
"""Texts whose tokens are kept, about 4 kB each: questions recur, but most articles are seen once."""
CHUNK = 8
"""Optimiser steps whose samples are drawn together and sorted by length, to save padding."""


@dataclass(frozen=True)
class EncodedSample:
    """One sample: token ids, each token's weight in the loss (0 for questions), pictures and their patches' classes."""

    ids: list[int]
    weights: list[float]
    pictures: tuple[np.ndarray, ...]
    patches: list[list[int]]


@dataclass(frozen=True)
class ChatFormat:
    """The tokens of a miniature's chat template."""

    bos: str = "<s>"
    user: str = "<|user|>"
    assistant: str = "<|assistant|>"
    eos: str = "</s>"
    patch: str = IMAGE
    """The token at the place of one patch."""
    format_question: Callable[[str], str] = str
    """From a question to its text in the template, with one ``patch`` for each picture's marker."""


class InstructionEncoder:
    """Turns samples into token ids exactly as the model's own chat template does.

    Args:
        tokenizer: The miniature's tokenizer.
        labels: Everything that a patch of a picture can show; the index of a label is its class.
        chat_format: The tokens around the texts.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, labels: Sequence[str], chat_format: ChatFormat = ChatFormat()
    ) -> None:
        self.classes = {label: index for index, label in enumerate(labels)}
        self.pad = int(tokenizer.pad_token_id)
        tokens = (chat_format.bos, chat_format.user, chat_format.assistant, chat_format.eos, chat_format.patch)
        self._bos, self._user, self._assistant, self._eos, self._image = map(tokenizer.get_vocab().__getitem__, tokens)
        self._tokenizer, self._format_question = tokenizer, chat_format.format_question
        self.segment = lru_cache(maxsize=SEGMENTS)(self._segment)

    def _segment(self, text: str) -> tuple[int, ...]:
        ids = self._tokenizer(self._format_question(text), add_special_tokens=False)["input_ids"]
        return tuple(token for token_id in ids for token in [token_id] * (PATCHES if token_id == self._image else 1))

    def encode(self, sample: Sample) -> EncodedSample:
        """Encode one sample; an answer of n tokens weighs sqrt(n), so that long answers do not outweigh short ones."""
        ids, weights = [self._bos], [0.0]
        for question, answer in sample.turns:
            question_ids = [self._user, *self.segment(question), self._assistant]
            answer_ids = [*self.segment(answer), self._eos]
            ids += question_ids + answer_ids
            weights += [0.0] * len(question_ids) + [len(answer_ids) ** -0.5] * len(answer_ids)
        return EncodedSample(ids, weights, sample.pictures, [self.classify(patches) for patches in sample.patches])

    def classify(self, patches: Sequence[str | None]) -> list[int]:
        """Class of each patch, -100 for one without a label."""
        return [-100 if label is None else self.classes.get(label, -100) for label in patches]


def pixel_values(pictures: Sequence[np.ndarray]) -> torch.Tensor:
    """(n, 64, 64, 3) uint8 pictures -> (n, 3, 64, 64) float32 in [-1, 1], as from the processor."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float().div(127.5).sub(1.0)


def collate(samples: Sequence[EncodedSample], pad: int) -> Batch:
    """Right-padded ``input_ids``, ``attention_mask``, ``weights`` and, if any, ``pixel_values`` with ``patches``."""
    length = max(len(sample.ids) for sample in samples)
    ids = torch.full((len(samples), length), pad)
    mask, weights = torch.zeros_like(ids), torch.zeros(ids.shape)
    for row, sample in enumerate(samples):
        ids[row, : len(sample.ids)] = torch.tensor(sample.ids)
        mask[row, : len(sample.ids)] = 1
        weights[row, : len(sample.weights)] = torch.tensor(sample.weights)
    batch = Batch({"input_ids": ids, "attention_mask": mask, "weights": weights})
    pictures = [picture for sample in samples for picture in sample.pictures]
    if pictures:
        batch["pixel_values"] = pixel_values(pictures)
        batch["patches"] = torch.tensor([patches for sample in samples for patches in sample.patches])
    return batch


class AlignmentBatches:
    """Stage 1: single pictures with a label for each patch."""

    def __init__(self, lessons: Lessons, encoder: InstructionEncoder, steps: int, batch_size: int) -> None:
        self.steps, self._batch_size = steps, batch_size
        self._lessons, self._encoder = lessons, encoder

    def micro_batches(self, step: int, limit: int) -> Iterable[Batch]:
        """The pictures of one optimiser step, at most ``limit`` at a time."""
        first = step * self._batch_size
        for start in range(first, first + self._batch_size, limit):
            indices = range(start, min(start + limit, first + self._batch_size))
            drawn = [self._lessons.labelled_picture(index) for index in indices]
            patches = torch.tensor([self._encoder.classify(patches) for _, patches in drawn])
            yield Batch({"pixel_values": pixel_values([picture for picture, _ in drawn]), "patches": patches})


class InstructionBatches:
    """Stages 2 and 3: conversations about pictures, length-grouped within chunks of a few steps.

    Args:
        draw: (index, progress) -> one sample.
        encoder: Turns samples into token ids.
        steps: Optimiser steps.
        batch_size: Samples in one step.
        advanced: Draw the most difficult samples from the start.
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
        self._chunk: tuple[int, list[list[EncodedSample]]] = (-1, [])

    def micro_batches(self, step: int, limit: int) -> Iterable[Batch]:
        """The samples of one optimiser step, at most ``limit`` at a time."""
        rows = self._steps_of(step // CHUNK)[step % CHUNK]
        for start in range(0, len(rows), limit):
            yield collate(rows[start : start + limit], self._encoder.pad)

    def _steps_of(self, chunk: int) -> list[list[EncodedSample]]:
        if self._chunk[0] != chunk:
            size = CHUNK * self._batch_size
            progress = 1.0 if self._advanced else min(1.0, chunk * CHUNK / self.steps)
            samples = [self._draw(i, progress) for i in range(chunk * size, (chunk + 1) * size)]
            rows = sorted((self._encoder.encode(sample) for sample in samples), key=lambda row: len(row.ids))
            steps = [rows[i : i + self._batch_size] for i in range(0, size, self._batch_size)]
            random.Random(chunk).shuffle(steps)
            self._chunk = (chunk, steps)
        return self._chunk[1]
