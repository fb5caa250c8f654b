"""The checks of a model family: it must compute what the plain call of Hugging Face computes."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import torch

from benchmarks.records import Conversation, Turn
from harness.conformance.errors import NotApplicable
from harness.conformance.model_comparison import TOLERANCE, gap_of, kept_ids, require_close, require_same
from harness.conformance.model_samples import blocks
from harness.conformance.model_scenarios import ModelScenarios
from harness.conformance.plain_call import NEW_TOKENS
from harness.conformance.registry import model_check, require

STRONG = 5.0
"""A repetition penalty that changes answers."""


@model_check(
    reason="Every later check stands on the tokens.",
    hint="Encode with the folder's processor and chat template; see harness/models/processor_chat.py.",
)
def check_token_ids(scenarios: ModelScenarios) -> None:
    """A training batch and a prompt have the ids of the plain call."""
    for name, sample in scenarios.samples.items():
        batch = scenarios.batch(sample)
        rows = [kept_ids(*pair) for pair in zip(batch["input_ids"], batch["attention_mask"], strict=True)]
        require_same([row.ids for row in scenarios.plain.rows[name]], rows, f"training, {name}")
    for name, dialogue in scenarios.prompts.items():
        batch = scenarios.prompt_batch([dialogue])
        found = kept_ids(batch["input_ids"][0], batch["attention_mask"][0])
        require_same([scenarios.plain.prompt_ids[name]], [found], f"prompt, {name}")


@model_check(
    reason="A model that is called otherwise than its authors do is another model.",
    hint="Call the model's own forward: a decoder alone misses what the model adds, such as masks over pictures.",
)
def check_logits(scenarios: ModelScenarios) -> None:
    """The logits at the answers are those of the plain call."""
    for name, sample in scenarios.samples.items():
        labels = scenarios.batch(sample)["labels"].cpu()
        rows = scenarios.plain.rows[name]
        require(len(rows) == len(labels), f"{name}: {len(labels)} rows instead of {len(rows)}")
        expected = [row.logits[:-1][own[1 : len(row.ids)] != -100] for row, own in zip(rows, labels, strict=True)]
        require_close(scenarios.logits(sample), torch.cat(expected), name)


@model_check(
    reason="Only answers are learned, and a model that never learns where to end an answer does not stop.",
    hint="Label exactly the tokens of each answer and the token that ends it.",
)
def check_supervised_tokens(scenarios: ModelScenarios) -> None:
    """The supervised tokens are the answers, each with the token that ends it."""
    decode = _decoder(scenarios)
    for name, sample in scenarios.samples.items():
        batch = scenarios.batch(sample)
        labels, ids = batch["labels"].tolist(), batch["input_ids"].tolist()
        spans = [
            [label for _, label in group]
            for row in labels
            for supervised, group in groupby(enumerate(row), key=lambda item: item[1] != -100)
            if supervised
        ]
        changed = sum(
            a != b for row, own in zip(ids, labels, strict=True) for a, b in zip(row, own, strict=True) if b != -100
        )
        require(not changed, f"{name}: {changed} labels are not the token at their place")
        answers = [turn.text for turn in sample.turns[1::2]]
        texts = [decode(span[:-1] if span[-1] in scenarios.plain.stops else span) for span in spans]
        require(texts == answers, f"{name}: supervised is {texts}, the answers are {answers}")
        unended = [text for text, span in zip(texts, spans, strict=True) if span[-1] not in scenarios.plain.stops]
        require(not unended, f"{name}: the token that ends {unended[:1]} is not supervised")


def _decoder(scenarios: ModelScenarios) -> Any:
    from transformers import AutoTokenizer

    library: Any = AutoTokenizer
    tokenizer = library.from_pretrained(scenarios.folder, local_files_only=True)
    return lambda ids: tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False).strip()


@model_check(
    reason="A picture that the model does not see is answered by guessing.",
    hint="Pass the pixels of every picture to the model, in order.",
)
def check_every_picture_counts(scenarios: ModelScenarios) -> None:
    """Another picture in the place of any one changes the logits."""
    for name in ("several pictures", "one picture", "a picture in a later turn"):
        sample = scenarios.samples.get(name)
        if sample is None:
            continue
        before = scenarios.logits(sample)
        for place, picture in enumerate(sample.pictures):
            pictures = list(sample.pictures)
            pictures[place] = blocks(9, *picture.size)
            after = scenarios.logits(Conversation(sample.id, sample.turns, tuple(pictures)))
            require(gap_of(after, before) > 0, f"{name}: the model does not see picture {place + 1}")


@model_check(
    reason="An answer that is seen while it is learned teaches nothing.",
    hint="Mark the answer as such for the model (token types), or train each answer in a row of its own.",
)
def check_answers_are_not_seen(scenarios: ModelScenarios) -> None:
    """The logits of an answer do not depend on later answers, nor on its own later tokens."""
    sample = scenarios.samples.get("several turns")
    if sample is None:
        raise NotApplicable("the model takes no dialogue of several turns")
    before = scenarios.logits(sample)
    changed = Conversation(
        sample.id, (*sample.turns[:-1], Turn("assistant", "Many flags of Chad are here.")), sample.pictures
    )
    after = scenarios.logits(changed)
    last = _common(scenarios.batch(sample)["labels"], scenarios.batch(changed)["labels"])
    require(last > 1, "no supervised token comes before the one that was changed")
    gap = gap_of(after[:last], before[:last])
    require(gap <= TOLERANCE, f"with another last answer, logits before it differ by {gap:.2g} of the largest one")


def _common(one: torch.Tensor, other: torch.Tensor) -> int:
    """Number of supervised tokens that are the same at the beginning."""
    pair = zip(one[one != -100].tolist(), other[other != -100].tolist(), strict=False)
    return next((place for place, (a, b) in enumerate(pair) if a != b), 0)


@model_check(
    reason="Answers are compared between methods, so they must be the model's own.",
    hint="Decode greedily with the model's generate, its stop tokens and its generation_config.",
)
def check_text(scenarios: ModelScenarios) -> None:
    """The answer to each prompt is that of the plain call."""
    for name, dialogue in scenarios.prompts.items():
        text = scenarios.answers([dialogue], NEW_TOKENS)[0][0]
        expected = scenarios.plain.answers[name]
        require(text == expected, f"{name}: {text!r}, in the plain call {expected!r}")


@model_check(
    reason="Samples are trained in batches of different lengths.",
    hint="Pad on the right, with an attention mask, and keep each picture with its row.",
)
def check_training_batch(scenarios: ModelScenarios) -> None:
    """A padded batch has the logits of its samples alone."""
    alone = [scenarios.logits(sample) for sample in scenarios.samples.values()]
    require_close(scenarios.logits(*scenarios.samples.values()), torch.cat(alone), "a batch of all dialogues")


@model_check(
    reason="A method finds the item behind a row by the id of its conversation.",
    hint="Return what super().training_batch returns, changed with replace, or a methods.batch.Batch with the ids.",
)
def check_rows_are_named(scenarios: ModelScenarios) -> None:
    """A training batch says which conversation each of its rows comes from."""
    for chosen in (list(scenarios.samples.values()), list(scenarios.samples.values())[::-1]):
        named = list(getattr(scenarios.batch(*chosen), "conversation_ids", ()))
        expected = [sample.id for sample in chosen for _ in scenarios.batch(sample)["input_ids"]]
        require(named == expected, f"the rows are named {named} instead of {expected}")


@model_check(
    reason="Questions are asked in batches of different lengths.",
    hint="Pad prompts on the left, with an attention mask, and keep each picture with its row.",
)
def check_generation_batch(scenarios: ModelScenarios) -> None:
    """A batch of prompts gives the answers of the prompts alone."""
    dialogues = list(scenarios.prompts.values())
    together = scenarios.answers(dialogues, NEW_TOKENS)
    for name, found, dialogue in zip(scenarios.prompts, together, dialogues, strict=True):
        alone = scenarios.answers([dialogue], NEW_TOKENS)[0]
        require(found == alone, f"{name}: in a batch {found[0]!r}, alone {alone[0]!r}")
    batch = scenarios.prompt_batch(dialogues)
    require(bool(batch["attention_mask"][:, -1].all()), "prompts are padded on the right: some end with padding")


@model_check(
    reason="Each question has its own limit, and the share of cut answers is reported.",
    hint="Stop each row at its own limit, and report that it was cut if no stop token came.",
)
def check_limits(scenarios: ModelScenarios) -> None:
    """Each row ends at its own limit of new tokens and says whether it was cut."""
    dialogues = list(scenarios.prompts.values())[:3]
    whole = [scenarios.answers([dialogue], NEW_TOKENS)[0] for dialogue in dialogues]
    limits = [1 + 2 * row for row in range(len(dialogues))]
    for (text, tokens, cut), limit, (_, full, full_cut) in zip(
        scenarios.answers(dialogues, list(limits)), limits, whole, strict=True
    ):
        expected = min(full, limit)
        require(tokens == expected, f"{tokens} new tokens ({text!r}) at a limit of {limit}, expected {expected}")
        ended = not full_cut and full < limit
        require(
            cut != ended,
            f"an answer of {tokens} tokens at a limit of {limit} is reported as {'cut' if cut else 'whole'}",
        )


@model_check(
    reason="A protocol sets the repetition penalty of each question.",
    hint="Apply each row's own penalty to the tokens of its prompt and its answer, not to padding.",
)
def check_repetition_penalty(scenarios: ModelScenarios) -> None:
    """Each row has its own repetition penalty."""
    dialogues = list(scenarios.prompts.values())[:4]
    plain, strong = (
        [scenarios.answers([each], NEW_TOKENS, [penalty])[0] for each in dialogues] for penalty in (1.0, STRONG)
    )
    require(plain != strong, f"a penalty of {STRONG:g} changes no answer")
    penalties: list[float | None] = [STRONG if row % 2 else 1.0 for row in range(len(dialogues))]
    expected = [(strong if row % 2 else plain)[row] for row in range(len(dialogues))]
    found = scenarios.answers(dialogues, NEW_TOKENS, penalties)
    for row, (one, other) in enumerate(zip(found, expected, strict=True)):
        require(one == other, f"row {row} with its own penalty: {one[0]!r} in a batch, {other[0]!r} alone")
