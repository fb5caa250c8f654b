"""The answering engine: greedy, batched, longest first; one bad question costs no other its answer.

As long as memory suffices, the questions alone decide which of them share a batch. So a run that was killed between two
batches and goes on with the rest answers the rest as it would have: the same batches, each picture encoded alike.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence

import torch

from benchmarks.errors import UserError, first_line
from benchmarks.records import IMAGE, Answer, Question
from harness.models.base import Dialogue, LanguageVisionModel
from harness.models.greedy import PrefixCache
from harness.training.memory import out_of_memory


def answer(
    model: LanguageVisionModel, questions: Sequence[Question], *, batch_size: int, share: tuple[int, int] = (0, 1)
) -> Iterator[list[Answer]]:
    """Answer every question, batch by batch; store each batch before asking for the next.

    The most probable token is taken at each step, the one with the smallest id where several are exactly equal. Padding
    and batch size change logits by rounding alone: an answer can depend on them only where two tokens are that close.

    Args:
        model: With or without an adapter; its weights must not change until the last answer is given.
        questions: With distinct ids. Those of several turns are asked turn by turn, with the model's own answers.
        batch_size: Questions at once; halved for good where memory does not suffice.
        share: Number of this process, from 0, and how many take the batches in turn: the same batches as in one.

    Yields:
        The answers to one batch. A question that fails even alone has an ``error``.
    """
    training = model.module.training
    model.module.eval()
    engine = _Engine(model)
    try:
        waiting = _share(planned(model, questions), batch_size, *share)
        while waiting:
            size = min(batch_size, engine.limit or batch_size)
            yield engine.answer(waiting[:size])
            waiting = waiting[size:]
    finally:
        model.module.train(training)


def planned(model: LanguageVisionModel, questions: Sequence[Question]) -> list[Question]:
    """Most turns first, then the longest prompts: little padding, and memory runs out early or never.

    Questions about the same pictures stand together, so that what they have in common is read once. Their place is that
    of the last of them: where a batch has been answered and left out, the rest keeps its order.
    """
    sizes = [(len(q.turns), model.prompt_length(q.turns[:1], q.pictures)) for q in questions]
    shown = [tuple(picture.sha256 for picture in question.pictures) for question in questions]
    last: dict[tuple[str, ...], tuple[int, int]] = {}
    for size, pictures in zip(sizes, shown, strict=True):
        last[pictures] = min(size, last.get(pictures, size))
    places = [last[pictures] if pictures else size for size, pictures in zip(sizes, shown, strict=True)]
    order = sorted(range(len(questions)), key=lambda row: (places[row], shown[row], sizes[row]), reverse=True)
    return [questions[row] for row in order]


def _share(questions: Sequence[Question], batch_size: int, place: int, count: int) -> list[Question]:
    """Every ``count``-th batch, from number ``place`` on."""
    return [question for number, question in enumerate(questions) if number // batch_size % count == place]


class _Engine:
    """One pass over many questions with one state of the weights."""

    def __init__(self, model: LanguageVisionModel) -> None:
        self._model = model
        self._memory = model.memory()
        self.limit = 0
        """Questions that fit into memory at once; 0 as long as all did."""

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer a batch, or its halves where it fails as a whole."""
        try:
            return self._ask(questions)
        except (UserError, RuntimeError, ValueError) as error:
            reason = first_line(error)
            starved = isinstance(error, RuntimeError) and out_of_memory(error)
        # Out here nothing holds the failed batch any more, so its memory can be given back.
        if starved:
            gc.collect()
            if self._model.device.type == "cuda":
                torch.cuda.empty_cache()
        if len(questions) == 1:
            return [Answer(questions[0].id, ("",) * len(questions[0].turns), error=reason)]
        half = (len(questions) + 1) // 2
        if starved:
            self.limit = min(half, self.limit or half)
        return self.answer(questions[:half]) + self.answer(questions[half:])

    def _ask(self, questions: Sequence[Question]) -> list[Answer]:
        for question in questions:
            _check(question)
        texts: list[list[str]] = [[] for _ in questions]
        tokens, cut = [0] * len(questions), [False] * len(questions)
        turns = max(len(question.turns) for question in questions)
        past, rows = PrefixCache() if turns > 1 else None, list(range(len(questions)))
        for turn in range(turns):
            going = [place for place, row in enumerate(rows) if turn < len(questions[row].turns)]
            if past is not None and len(going) < len(rows):
                past.keep(going)
            rows = [rows[place] for place in going]
            dialogues = [_dialogue(questions[row], texts[row]) for row in rows]
            limits = [questions[row].max_new_tokens for row in rows]
            said = self._model.generate(self._model.generation_batch(dialogues, self._memory), limits, past)
            for row, (text, new_tokens, truncated) in zip(rows, said, strict=True):
                texts[row].append(text)
                tokens[row] += new_tokens
                cut[row] |= truncated
        return [Answer(question.id, tuple(texts[row]), tokens[row], cut[row]) for row, question in enumerate(questions)]


def _dialogue(question: Question, said: Sequence[str]) -> Dialogue:
    """What was asked and answered so far, and the next turn, with the pictures shown by then."""
    asked = question.turns[: len(said) + 1]
    texts = [text for pair in zip(asked, said, strict=False) for text in pair] + [asked[-1]]
    return texts, question.pictures[: sum(text.count(IMAGE) for text in asked)]


def _check(question: Question) -> None:
    markers = sum(text.count(IMAGE) for text in question.turns)
    if markers != len(question.pictures) or not question.turns or question.max_new_tokens < 1:
        raise UserError(
            f"{len(question.turns)} turns with {markers} {IMAGE} markers, {len(question.pictures)} pictures, "
            f"at most {question.max_new_tokens} tokens",
            location=f"question {question.id}",
            hint="give a turn, one marker for each picture, and room for an answer",
        )
