"""The answering engine, on the tiny LLaVA in float32."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny import picture, question, questions

from benchmarks.records import Picture
from harness.answering import answer, planned

QUESTIONS = questions(24)


def answers(model, asked, batch_size):
    return {one.question_id: one for batch in answer(model, asked, batch_size=batch_size) for one in batch}


def test_batches_answer_as_single_questions_do(tiny_model):
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
    said = tiny_model.generate(tiny_model.generation_batch([(wrong, asked.pictures)]), asked.max_new_tokens)[0][0]
    assert said != found.texts[1], "positive control: what was said before matters"


def test_pictures_come_with_their_turns(tiny_model):
    """A picture of the second turn is not shown in the first."""
    first, second = "What is it?", "<image> And this?"
    asked = dataclasses.replace(question(1), turns=(first, second), pictures=(picture(5),))
    (found,) = answers(tiny_model, [asked], 1).values()
    assert found.texts[0] == tiny_model.generate(tiny_model.generation_batch([([first], ())]), 12)[0][0]
    assert not found.error


def test_many_turns_first_then_long_prompts(tiny_model):
    order = planned(tiny_model, QUESTIONS)
    sizes = [(len(q.turns), tiny_model.prompt_length(q.turns[:1], q.pictures)) for q in order]
    assert sizes == sorted(sizes, reverse=True)
    assert [one.question_id for batch in answer(tiny_model, QUESTIONS, batch_size=5) for one in batch] == [
        asked.id for asked in order
    ]


def test_the_rest_of_a_killed_run_is_answered_in_the_same_batches(tiny_model, monkeypatch):
    """I9: what is left after any number of whole batches is cut as it would have been."""
    batches: list[torch.Tensor] = []
    generate = type(tiny_model).generate

    def watched(self, batch, limits):
        batches.append(batch)
        return generate(self, batch, limits)

    monkeypatch.setattr(type(tiny_model), "generate", watched)
    whole = list(answer(tiny_model, QUESTIONS, batch_size=5))
    seen, batches = batches, []
    done = {one.question_id for batch in whole[:2] for one in batch}
    rest = [asked for asked in QUESTIONS if asked.id not in done]
    assert list(answer(tiny_model, rest, batch_size=5)) == whole[2:]
    for before, after in zip(reversed(seen), reversed(batches), strict=False):
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before), "the same bits went in"


def test_limits_are_each_questions_own(tiny_model):
    asked = [dataclasses.replace(q, max_new_tokens=1 + i % 6) for i, q in enumerate(QUESTIONS) if len(q.turns) == 1]
    found = answers(tiny_model, asked, 8)
    assert all(found[q.id].new_tokens <= q.max_new_tokens for q in asked)
    assert {found[q.id].new_tokens for q in asked if found[q.id].truncated} > {1}


def spoilt(kind: str):
    if kind == "picture":
        return dataclasses.replace(question(500), pictures=(Picture(b"no image at all"),))
    if kind == "markers":
        return dataclasses.replace(question(500), pictures=(picture(1), picture(2)))
    if kind == "room":
        return dataclasses.replace(question(500), max_new_tokens=0)
    return dataclasses.replace(question(500), turns=(), pictures=())


@pytest.mark.parametrize("kind", ["picture", "markers", "room", "turns"])
def test_a_bad_question_costs_no_other_its_answer(tiny_model, kind):
    good, bad = QUESTIONS[:9], spoilt(kind)
    found = answers(tiny_model, [*good, bad], 4)
    assert found[bad.id].error
    assert len(found[bad.id].texts) == len(bad.turns)
    assert not any(one.error for key, one in found.items() if key != bad.id)
    assert {key: one for key, one in found.items() if key != bad.id} == answers(tiny_model, good, 1)


def test_out_of_memory_halves_the_batch_for_good(tiny_model, monkeypatch):
    sizes: list[int] = []
    generate = type(tiny_model).generate

    def starving(self, batch, limits):
        sizes.append(len(batch["input_ids"]))
        if len(batch["input_ids"]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(self, batch, limits)

    asked = [q for q in QUESTIONS if len(q.turns) == 1]
    expected = answers(tiny_model, asked, 1)
    monkeypatch.setattr(type(tiny_model), "generate", starving)
    assert answers(tiny_model, asked, 12) == expected
    assert sizes[:3] == [12, 6, 3]
    assert max(sizes[sizes.index(3) + 4 :]) == 3, "later batches start small"


def test_a_question_that_never_fits_is_counted(tiny_model, monkeypatch):
    def starving(self, batch, limits):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(type(tiny_model), "generate", starving)
    found = answers(tiny_model, QUESTIONS[:3], 2)
    assert all("allocate" in one.error for one in found.values())


def test_training_mode_is_put_back(tiny_model):
    tiny_model.module.train()
    batches = answer(tiny_model, QUESTIONS[:4], batch_size=2)
    next(batches)
    assert not tiny_model.module.training
    batches.close()
    assert tiny_model.module.training
