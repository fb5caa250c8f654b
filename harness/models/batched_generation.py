"""Answering questions: greedy, in batches, longest first; a bad question does not affect the others.

As long as memory suffices, only the questions decide which of them share a batch. So a run that was killed between two
batches answers the rest as it would have: in the same batches, with each picture encoded alike.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence

import torch

from benchmarks.errors import UserError, first_line
from benchmarks.records import IMAGE, Answer, Question
from harness.distributed.failures import is_allocation_failure
from harness.models.base import Dialogue, LanguageVisionModel
from harness.models.greedy import PrefixCache
from harness.models.vision import PictureOptions, TensorCache

Generated = list[tuple[str, int, bool]]
"""Of each row the text, the number of new tokens, and whether it was cut at the limit."""
Generator = Callable[[Sequence[Dialogue], TensorCache, Sequence[str], Sequence[int], Sequence[float | None]], Generated]
"""Another engine: dialogues, cache of pictures, templates, limits of new tokens and repetition penalties -> answers."""


class GeneratorEnded(UserError):
    """Another engine has ended: no further question can be asked of it."""


def answer(
    model: LanguageVisionModel,
    questions: Sequence[Question],
    *,
    batch_size: int,
    share: tuple[int, int] = (0, 1),
    pictures: PictureOptions | None = None,
    generator: Generator | None = None,
) -> Iterator[list[Answer]]:
    """Answer every question, batch by batch; the caller stores each batch before it takes the next.

    Each step takes the most probable token, of several with exactly equal logits the one with the smallest id. Padding
    and batch size change logits by rounding only: an answer can depend on them only if two tokens are that close.

    Args:
        model: With or without an adapter; its weights must not change until the last batch.
        questions: With distinct ids. Several turns are asked one after the other, with the model's own answers.
        batch_size: Questions at once; halved permanently if memory runs out.
        share: Rank of this process and number of processes, which take the batches of a single process in turn.
        pictures: How to prepare pictures; None as the model was loaded, which is as in training.
        generator: The engine that answers; None for the built-in one, which is the reference.

    Yields:
        The answers of one batch. A question that fails even on its own has an ``error``.

    Raises:
        GeneratorEnded: The other engine has.
    """
    training = model.module.training
    model.module.eval()
    try:
        with model.pictures_as(pictures):
            engine = _Engine(model, generator)
            waiting = _own_batches(answer_order(model, questions), batch_size, *share)
            while waiting:
                size = min(batch_size, engine.limit or batch_size)
                yield engine.answer(waiting[:size])
                waiting = waiting[size:]
    finally:
        model.module.train(training)


def answer_order(model: LanguageVisionModel, questions: Sequence[Question]) -> list[Question]:
    """Most turns first, then the longest prompts: little padding, and memory runs out early or never.

    Questions about the same pictures are adjacent, so that a batch can share their prefix. They are placed by the
    smallest of them, so the order of the rest does not change when answered questions are left out.
    """
    sizes = [(len(q.turns), model.prompt_length(q.turns[:1], q.pictures, q.template)) for q in questions]
    pictures = [tuple(picture.sha256 for picture in question.pictures) for question in questions]
    smallest: dict[tuple[str, ...], tuple[int, int]] = {}
    for size, key in zip(sizes, pictures, strict=True):
        smallest[key] = min(size, smallest.get(key, size))
    group_sizes = [smallest[key] if key else size for size, key in zip(sizes, pictures, strict=True)]
    order = sorted(range(len(questions)), key=lambda row: (group_sizes[row], pictures[row], sizes[row]), reverse=True)
    return [questions[row] for row in order]


def _own_batches(questions: Sequence[Question], batch_size: int, rank: int, world_size: int) -> list[Question]:
    """The questions in every ``world_size``-th batch, starting with batch number ``rank``."""
    return [question for index, question in enumerate(questions) if index // batch_size % world_size == rank]


class _Engine:
    """One pass over many questions with one state of the weights."""

    def __init__(self, model: LanguageVisionModel, generator: Generator | None) -> None:
        self._model, self._generator = model, generator
        self._vision_cache = model.vision_cache()
        self.limit = 0
        """Questions that fit into memory at once; 0 as long as every batch did."""

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer a batch, or its halves if it fails as a whole."""
        try:
            return self._ask(questions)
        except GeneratorEnded:
            raise
        except (UserError, RuntimeError, ValueError) as error:
            reason = first_line(error)
            out_of_memory = is_allocation_failure(error)
        # Outside the except block nothing refers to the failed batch any more, so its memory can be released.
        if out_of_memory:
            gc.collect()
            if self._model.device.type == "cuda":
                torch.cuda.empty_cache()
        if len(questions) == 1:
            return [Answer(questions[0].id, ("",) * len(questions[0].turns), error=reason)]
        half = (len(questions) + 1) // 2
        if out_of_memory:
            self.limit = min(half, self.limit or half)
        return self.answer(questions[:half]) + self.answer(questions[half:])

    def _ask(self, questions: Sequence[Question]) -> list[Answer]:
        for question in questions:
            _check(question)
        texts: list[list[str]] = [[] for _ in questions]
        tokens, cut = [0] * len(questions), [False] * len(questions)
        turns = max(len(question.turns) for question in questions)
        prefix, rows = PrefixCache() if turns > 1 else None, list(range(len(questions)))
        for turn in range(turns):
            going = [index for index, row in enumerate(rows) if turn < len(questions[row].turns)]
            if prefix is not None and len(going) < len(rows):
                prefix.select_rows(going)
            rows = [rows[index] for index in going]
            dialogues = [dialogue_of(questions[row], texts[row]) for row in rows]
            limits = [questions[row].max_new_tokens for row in rows]
            templates = [questions[row].template for row in rows]
            penalties = [questions[row].repetition_penalty for row in rows]
            if self._generator is None:
                batch = self._model.generation_batch(dialogues, self._vision_cache, templates)
                results = self._model.generate(batch, limits, prefix, penalties)
            else:
                results = self._generator(dialogues, self._vision_cache, templates, limits, penalties)
            for row, (text, new_tokens, truncated) in zip(rows, results, strict=True):
                texts[row].append(text)
                tokens[row] += new_tokens
                cut[row] |= truncated
        return [Answer(question.id, tuple(texts[row]), tokens[row], cut[row]) for row, question in enumerate(questions)]


def dialogue_of(question: Question, answers: Sequence[str]) -> Dialogue:
    """The turns so far with their answers, the next turn, and the pictures of these turns."""
    turns = question.turns[: len(answers) + 1]
    texts = [text for pair in zip(turns, answers, strict=False) for text in pair] + [turns[-1]]
    return texts, question.pictures[: sum(text.count(IMAGE) for text in turns)]


def _check(question: Question) -> None:
    markers = sum(text.count(IMAGE) for text in question.turns)
    if markers != len(question.pictures) or not question.turns or question.max_new_tokens < 1:
        raise UserError(
            f"{len(question.turns)} turns with {markers} {IMAGE} markers, {len(question.pictures)} pictures, "
            f"at most {question.max_new_tokens} tokens",
            location=f"question {question.id}",
            hint="give at least one turn, one marker for each picture, and at least one new token",
        )
