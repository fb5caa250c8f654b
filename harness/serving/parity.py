"""The comparison of another engine with the built-in one, before the other one answers for a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from benchmarks.records import Answer, Question
from harness.models.base import IGNORE_INDEX, Batch, LanguageVisionModel
from harness.models.batched_generation import answer, dialogue_of
from harness.models.greedy import penalise_repetition
from harness.models.vision import PictureOptions
from harness.serving.generator import VllmGenerator
from harness.serving.prompts import image_token

EXACT = 0.01
"""Largest difference of a token's log-probability in float32, in nats."""
NEAR_TIE = 0.25
"""In half precision, how far below the best token one may be that the other engine takes, in nats."""
DIFFERING = 0.05
"""Largest share of answers that may differ in half precision."""
Asked = Sequence[tuple[PictureOptions | None, Sequence[Question]]]
"""Questions by how their pictures are prepared."""


@dataclass(frozen=True)
class Parity:
    """What the comparison found.

    Attributes:
        asked: Questions that both engines answered.
        differing: Those whose answers differ.
        problem: Why the other engine may not answer for the row; empty if it may.
    """

    asked: int
    differing: int
    problem: str = ""


def compare_engines(
    model: LanguageVisionModel,
    generator: VllmGenerator,
    asked: Asked,
    batch_size: int,
    *,
    exact: bool,
) -> Parity:
    """Ask both engines.

    Args:
        model: With the row's adapter attached.
        generator: The other engine, with the same adapter.
        asked: The questions.
        batch_size: Questions at once.
        exact: Whether all texts must be equal, as in float32; otherwise they may differ in near-ties.
    """
    differing = total = 0
    repeats, scores = True, _Scores()
    refused: list[str] = []
    for pictures, questions in asked:
        ours, theirs, again = (
            {each.question_id: each for each in _answers(model, questions, batch_size, pictures, engine)}
            for engine in (None, generator, generator)
        )
        total += len(questions)
        differing += sum(ours[question.id] != theirs[question.id] for question in questions)
        repeats &= theirs == again
        refused += [theirs[each.id].error for each in questions if theirs[each.id].error and not ours[each.id].error]
        rated = [each for each in questions if not theirs[each.id].error and not ours[each.id].error]
        with model.pictures_as(pictures):
            for start in range(0, len(rated), batch_size):
                scores.add(model, generator, rated[start : start + batch_size])
    problems = (
        (bool(refused), f"it fails over {len(refused)} of {total} questions ({''.join(refused[:1])})"),
        (differing > (0 if exact else DIFFERING * total), f"{differing} of {total} answers differ from the built-in's"),
        (not repeats, "asked twice, it answers differently"),
        (exact and scores.difference > EXACT, f"log-probabilities differ by up to {scores.difference:.3g} nat"),
        (scores.gap > NEAR_TIE, f"it takes tokens that are {scores.gap:.3g} nat below the best"),
        (generator.has_adapter and not scores.adapter_matters, "the adapter changes nothing in it"),
    )
    return Parity(total, differing, "; ".join(text for found, text in problems if found))


class _Scores:
    """How the built-in engine rates the tokens that the other one gives at first turns."""

    def __init__(self) -> None:
        self.difference = 0.0
        """Largest difference of a token's log-probability."""
        self.gap = 0.0
        """Farthest that a token is below the best one."""
        self.adapter_matters = False
        """Whether the other engine gives any first token, or its log-probability, otherwise without the adapter."""

    @torch.inference_mode()
    def add(self, model: LanguageVisionModel, generator: VllmGenerator, questions: Sequence[Question]) -> None:
        """Rate the answers to these questions."""
        cache = model.vision_cache()
        dialogues, templates = [dialogue_of(each, ()) for each in questions], [each.template for each in questions]
        limits, penalties = [each.max_new_tokens for each in questions], [each.repetition_penalty for each in questions]
        given = generator.complete(dialogues, cache, templates, limits, penalties)
        ones = [1] * len(questions)
        base = generator.complete(dialogues, cache, templates, ones, penalties, adapter=False)
        for dialogue, template, penalty, found, without in zip(
            dialogues, templates, model.penalties(penalties), given, base, strict=True
        ):
            first = (found.ids[0], found.logprobs[0])
            self.adapter_matters |= first != (without.ids[0], without.logprobs[0])
            prompt = model.generation_batch([dialogue], cache, [template])
            logits = continuation_logits(model, prompt, found.ids)
            rated = len(logits)
            ids = torch.tensor(found.ids[:rated], device=logits.device)[:, None]
            ours = logits.log_softmax(-1).gather(1, ids)[:, 0].cpu()
            self.difference = max(self.difference, float((ours - torch.tensor(found.logprobs[:rated])).abs().max()))
            if penalty != 1.0:
                before = prompt["input_ids"][0].tolist()
                used = [{*before, *found.ids[:place]} for place in range(rated)]
                penalise_repetition(logits, [penalty] * len(used), used)
            self.gap = max(self.gap, float((logits.amax(-1) - logits.gather(1, ids)[:, 0]).max()))


def continuation_logits(model: LanguageVisionModel, prompt: Batch, ids: Sequence[int]) -> torch.Tensor:
    """The logits (n, vocabulary) from which each of ``ids`` is chosen after a prompt, given those before it.

    n is their number, unless a model writes the token of a picture: after it ``forward`` would look for a picture, so
    it is the last that is rated.

    Args:
        model: Any.
        prompt: From ``generation_batch``, of one dialogue.
        ids: What follows it.
    """
    image, length = image_token(model), prompt["input_ids"].shape[1]
    rated = ids[: ids.index(image) + 1] if image in ids else ids
    new = torch.tensor([list(rated)], device=prompt["input_ids"].device)
    read = new.masked_fill(new == image, int(prompt["input_ids"][0, -1]))  # any text: nothing is chosen after the last
    batch = Batch(prompt)
    for name, tensor in prompt.items():
        if name == "position_ids":
            steps = torch.arange(1, len(rated) + 1, device=tensor.device)
            batch[name] = torch.cat([tensor, tensor.amax() + steps.expand(*tensor.shape[:-1], -1)], dim=-1)
        elif tensor.shape == (1, length):  # of what else a processor says of tokens, 0 stands for text
            more = read if name == "input_ids" else torch.full_like(new, int(name == "attention_mask"))
            batch[name] = torch.cat([tensor, more.to(tensor.dtype)], dim=1)
    batch["labels"] = torch.cat([torch.full_like(prompt["input_ids"], IGNORE_INDEX), new], dim=1)
    return model.supervised(batch)[0]


def _answers(
    model: LanguageVisionModel,
    questions: Sequence[Question],
    batch_size: int,
    pictures: PictureOptions | None,
    generator: VllmGenerator | None,
) -> Iterator[Answer]:
    for answers in answer(model, questions, batch_size=batch_size, pictures=pictures, generator=generator):
        yield from answers
