"""Answering questions in batches, on the tiny LLaVA in float32."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import pytest
import torch

from benchmarks.records import Picture, Question
from harness.models.batched_generation import answer, answer_order
from harness.models.greedy import PrefixCache
from harness.models.registry import load_model
from helpers.published_models import write_qwen
from helpers.tiny import picture, question, questions

QUESTIONS = questions(24)


def answers(model, asked, batch_size):
    return {one.question_id: one for batch in answer(model, asked, batch_size=batch_size) for one in batch}


def test_batches_give_the_answers_of_single_questions(tiny_model):
    alone = answers(tiny_model, QUESTIONS, 1)
    assert answers(tiny_model, QUESTIONS, 7) == alone
    assert alone.keys() == {asked.id for asked in QUESTIONS}
    assert not any(one.error for one in alone.values())
    assert len({one.texts for one in alone.values()}) > len(QUESTIONS) / 2, "the answers differ at all"


def test_later_turns_follow_the_models_own_answers(tiny_model):
    asked = question(9, turns=3)
    (found,) = answers(tiny_model, [asked], 4).values()
    assert len(found.texts) == 3
    texts = []
    for turn, answered in zip(asked.turns, found.texts, strict=True):
        texts.append(turn)
        batch = tiny_model.generation_batch([(texts, asked.pictures)])
        assert tiny_model.generate(batch, asked.max_new_tokens)[0][0] == answered
        texts.append(answered)
    wrong = [asked.turns[0], "something else", asked.turns[1]]
    other = tiny_model.generate(tiny_model.generation_batch([(wrong, asked.pictures)]), asked.max_new_tokens)[0][0]
    assert other != found.texts[1], "positive control: earlier turns matter"


def test_pictures_belong_to_their_turns(tiny_model):
    """A picture of the second turn is not part of the first."""
    first, second = "What is it?", "<image> And this?"
    asked = dataclasses.replace(question(1), turns=(first, second), pictures=(picture(5),))
    (found,) = answers(tiny_model, [asked], 1).values()
    assert found.texts[0] == tiny_model.generate(tiny_model.generation_batch([([first], ())]), 12)[0][0]
    assert not found.error


def test_many_turns_first_then_long_prompts(tiny_model):
    order = answer_order(tiny_model, QUESTIONS)
    sizes = [(len(q.turns), tiny_model.prompt_length(q.turns[:1], q.pictures)) for q in order]
    assert sizes == sorted(sizes, reverse=True)
    assert [one.question_id for batch in answer(tiny_model, QUESTIONS, batch_size=5) for one in batch] == [
        asked.id for asked in order
    ]


def about_few_pictures(count: int) -> list[Question]:
    """Short and long questions, each picture asked about several times."""
    asked = [dataclasses.replace(question(i), pictures=(picture(i % 4),)) for i in range(count)]
    longer = [dataclasses.replace(q, turns=(q.turns[0] + " Yes or no" * (i % 7),)) for i, q in enumerate(asked)]
    return [*longer, question(50, turns=3), question(51, turns=2), question(52, pictures=0)]


def test_questions_about_a_picture_are_adjacent(tiny_model):
    asked = about_few_pictures(20)
    order = answer_order(tiny_model, asked)
    shown = [q.pictures[0].sha256 for q in order if len(q.turns) == 1 and q.pictures]
    assert len([1 for a, b in itertools.pairwise(shown) if a != b]) == 3
    for done in range(len(order)):
        rest = {q.id for q in order[done:]}
        assert answer_order(tiny_model, [q for q in asked if q.id in rest]) == order[done:], "I9: it keeps its order"


def test_shared_prefixes_are_processed_once(tiny_model, monkeypatch):
    """And the answers are those of single questions, in one turn or several."""
    asked = about_few_pictures(24)
    alone = answers(tiny_model, asked, 1)
    widths: list[int] = []
    forward = type(tiny_model.module.model.language_model).forward

    @functools.wraps(forward)
    def counting(self, **inputs):
        rows, columns, _ = inputs["inputs_embeds"].shape
        widths.append(rows * columns if columns > 1 else 0)
        return forward(self, **inputs)

    monkeypatch.setattr(type(tiny_model.module.model.language_model), "forward", counting)
    assert answers(tiny_model, asked, 9) == alone
    shared = sum(widths)
    widths.clear()
    monkeypatch.setattr("harness.models.decoder_model.plan_prefixes", lambda rows: None)
    assert answers(tiny_model, asked, 9) == alone
    assert shared < 0.9 * sum(widths)


def test_the_prefix_of_another_dialogue_is_not_used(tiny_model):
    """Positive control for later turns: keys and values of other texts would give other answers."""
    first, other = question(3), question(4)
    batches = [tiny_model.generation_batch([(q.turns, q.pictures)]) for q in (first, other)]
    prefix = PrefixCache()
    tiny_model.generate(batches[0], 4, prefix)
    assert tiny_model.generate(batches[1], 6, prefix) == tiny_model.generate(batches[1], 6)
    assert prefix.ids == [batches[1]["input_ids"][0].tolist()]


def test_the_rest_of_a_killed_run_is_answered_in_the_same_batches(tiny_model, monkeypatch):
    """I9: after any number of complete batches the rest is cut as it would have been."""
    batches: list[torch.Tensor] = []
    generate = type(tiny_model).generate

    def recorded(self, batch, *arguments):
        batches.append(batch)
        return generate(self, batch, *arguments)

    monkeypatch.setattr(type(tiny_model), "generate", recorded)
    whole = list(answer(tiny_model, QUESTIONS, batch_size=5))
    seen, batches = batches, []
    done = {one.question_id for batch in whole[:2] for one in batch}
    rest = [asked for asked in QUESTIONS if asked.id not in done]
    assert list(answer(tiny_model, rest, batch_size=5)) == whole[2:]
    for before, after in zip(reversed(seen), reversed(batches), strict=False):
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before), "the inputs are equal"


def test_each_question_has_its_own_limit(tiny_model):
    asked = [dataclasses.replace(q, max_new_tokens=1 + i % 6) for i, q in enumerate(QUESTIONS) if len(q.turns) == 1]
    found = answers(tiny_model, asked, 8)
    assert all(found[q.id].new_tokens <= q.max_new_tokens for q in asked)
    assert {found[q.id].new_tokens for q in asked if found[q.id].truncated} > {1}


def bad_question(kind: str):
    if kind == "picture":
        return dataclasses.replace(question(500), pictures=(Picture(b"no image at all"),))
    if kind == "markers":
        return dataclasses.replace(question(500), pictures=(picture(1), picture(2)))
    if kind == "limit":
        return dataclasses.replace(question(500), max_new_tokens=0)
    return dataclasses.replace(question(500), turns=(), pictures=())


@pytest.mark.parametrize("kind", ["picture", "markers", "limit", "turns"])
def test_a_bad_question_does_not_affect_the_others(tiny_model, kind):
    good, bad = QUESTIONS[:9], bad_question(kind)
    found = answers(tiny_model, [*good, bad], 4)
    assert found[bad.id].error
    assert len(found[bad.id].texts) == len(bad.turns)
    assert not any(one.error for key, one in found.items() if key != bad.id)
    assert {key: one for key, one in found.items() if key != bad.id} == answers(tiny_model, good, 1)


def test_out_of_memory_halves_the_batch_permanently(tiny_model, monkeypatch):
    sizes: list[int] = []
    generate = type(tiny_model).generate

    def out_of_memory(self, batch, *arguments):
        sizes.append(len(batch["input_ids"]))
        if len(batch["input_ids"]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(self, batch, *arguments)

    asked = [q for q in QUESTIONS if len(q.turns) == 1]
    expected = answers(tiny_model, asked, 1)
    monkeypatch.setattr(type(tiny_model), "generate", out_of_memory)
    assert answers(tiny_model, asked, 12) == expected
    assert sizes[:3] == [12, 6, 3]
    assert max(sizes[sizes.index(3) + 4 :]) == 3, "later batches start small"


def test_a_question_that_never_fits_is_counted(tiny_model, monkeypatch):
    def out_of_memory(self, batch, *arguments):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(type(tiny_model), "generate", out_of_memory)
    found = answers(tiny_model, QUESTIONS[:3], 2)
    assert all("allocate" in one.error for one in found.values())


def test_training_mode_is_restored(tiny_model):
    tiny_model.module.train()
    batches = answer(tiny_model, QUESTIONS[:4], batch_size=2)
    next(batches)
    assert not tiny_model.module.training
    batches.close()
    assert tiny_model.module.training


def test_the_penalty_of_a_question_is_applied(tmp_path):
    """A checkpoint whose generation_config has a penalty that changes the text: EVOKE's way and VLMEvalKit's."""
    model = load_model(write_qwen(tmp_path, repetition_penalty=1.5), torch.device("cpu"), torch.float32)
    asked = question(3, max_new_tokens=24)
    own, none, equal = (
        answers(model, [dataclasses.replace(asked, repetition_penalty=value)], 1)[asked.id].texts
        for value in (None, 1.0, 1.5)
    )
    assert own == equal != none
