"""SDFT against a literal computation: who is shown what, and which divergence is taken where."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from benchmarks.errors import UserError
from benchmarks.records import IMAGE, Conversation, Turn
from helpers.plain_loop import FakeResources, attach, logits_of, make, train
from helpers.tiny import conversations, knowledge, picture
from methods.components.divergence import divergence
from methods.lwf import distillation
from methods.sdft import show_item

ITEMS = knowledge(4)


def test_the_divergence_is_the_sum_over_rows_in_either_direction():
    draw = torch.Generator().manual_seed(0)
    teacher, student = (torch.randn(5, 9, dtype=torch.float64, generator=draw) for _ in range(2))
    student.requires_grad_(True)
    p, q = teacher.softmax(-1), student.softmax(-1)
    values = {"forward": (p * (p / q).log()).sum(), "reverse": (q * (q / p).log()).sum()}
    for direction, expected in values.items():
        assert torch.allclose(divergence(teacher, student, direction), expected, atol=1e-14)
        assert abs(float(divergence(teacher, teacher, direction))) < 1e-14
    assert not torch.allclose(values["forward"], values["reverse"], rtol=1e-3), "control"
    (gradient,) = torch.autograd.grad(divergence(teacher, student, "forward"), student, retain_graph=True)
    assert torch.allclose(gradient, (q - p).detach(), atol=1e-14)
    (gradient,) = torch.autograd.grad(divergence(teacher, student, "reverse"), student, retain_graph=True)
    assert torch.allclose(gradient, torch.autograd.grad(values["reverse"], student)[0], atol=1e-14)
    mean = distillation(teacher, student, 1.0)
    assert torch.allclose(divergence(teacher, student, "forward"), 5 * mean), "LwF's, but for the number of rows"


def test_the_item_stands_before_the_first_question_and_nothing_else_changes():
    turns = (Turn("user", f"{IMAGE}\nWhat is it?"), Turn("assistant", "A flag."))
    sample = Conversation("item-1/a", (*turns, Turn("user", "Why?"), Turn("assistant", "So.")), (picture(1),), "vqa")
    shown = show_item(sample, ITEMS[1])
    assert shown.turns[0].text == f"{IMAGE}\n{ITEMS[1].text}\n\nWhat is it?"
    assert (shown.turns[1:], shown.pictures, shown.id, shown.branch) == (
        sample.turns[1:],
        sample.pictures,
        sample.id,
        "vqa",
    )


def ready(model, row="sdft", data="kore"):
    """A method that has been trained for a few steps, with rows of different lengths about different items."""
    method = make(row, data=data)
    samples = method.training_data(ITEMS, FakeResources())[::3]
    attach(method, model)
    train(method, model, conversations(4), steps=2)
    return method, samples


def expected(samples, base, model, direction) -> tuple[float, list[int]]:
    """The sum of the divergences of all tokens, row by row, and the number of tokens of each row."""
    total, counts = 0.0, []
    for sample in samples:
        item = next(item for item in ITEMS if sample.id.startswith(f"{item.id}/"))
        first = Turn("user", sample.turns[0].text.replace(f"{IMAGE}\n", f"{IMAGE}\n{item.text}\n\n"))
        shown = dataclasses.replace(sample, turns=(first, *sample.turns[1:]))
        p, q = (logits_of(each, [asked]).double().softmax(-1) for each, asked in ((base, shown), (model, sample)))
        over, under = (p, q) if direction == "forward" else (q, p)
        total += float((over * (over / under).log()).sum())
        counts.append(len(p))
    return total, counts


@pytest.mark.parametrize("row", ["sdft", "sdft:reverse"])
def test_the_loss_is_the_divergence_from_the_base_with_the_item_in_its_prompt(tiny_folder, tiny_model, row):
    base = type(tiny_model).load(tiny_folder, tiny_model.device, torch.float32)
    method, samples = ready(tiny_model, row)
    assert max(len(sample.turns) for sample in samples) > 2, "a dialogue is among them"
    batch = tiny_model.training_batch(samples)
    logits, targets = tiny_model.supervised(batch)
    loss, tokens = method.loss(tiny_model, batch, logits, targets)
    total, counts = expected(samples, base, tiny_model, method.settings.divergence)
    assert tokens == sum(counts)
    assert float(loss.detach()) == pytest.approx(total, rel=1e-4)
    with torch.no_grad():
        plain, _ = base.supervised(batch)
    assert abs(float(divergence(plain, logits.detach(), method.settings.divergence)) / total - 1) > 0.05, "control"
    loss.backward()
    assert any(bool(each.grad.any()) for each in tiny_model.module.parameters() if each.grad is not None)


def test_rows_without_labels_teach_nothing(tiny_folder, tiny_model):
    base = type(tiny_model).load(tiny_folder, tiny_model.device, torch.float32)
    method, samples = ready(tiny_model)
    labels = (batch := tiny_model.training_batch(samples[:3]))["labels"].clone()
    labels[1] = -100
    for kept, chosen in (([samples[0], samples[2]], labels), ([], torch.full_like(labels, -100))):
        part = batch.replace(labels=chosen)
        loss, tokens = method.loss(tiny_model, part, *tiny_model.supervised(part))
        total, counts = expected(kept, base, tiny_model, "forward")
        assert tokens == sum(counts)
        assert float(loss.detach()) == pytest.approx(total, rel=1e-4, abs=1e-9)


def test_from_the_second_stage_the_stage_before_is_the_teacher(tiny_model):
    first, samples = ready(tiny_model, data="evoke")
    shown = [show_item(sample, item) for sample, item in zip(samples, ITEMS[::3], strict=True)]
    learnt, exported = logits_of(tiny_model, shown), first.export(tiny_model)
    first.detach(tiny_model)
    untouched = logits_of(tiny_model, shown)
    second = make("sdft", data="evoke")
    assert second.training_data(ITEMS, FakeResources(stage=2))[::3] == samples
    attach(second, tiny_model, seed=1)
    second.load_previous_stage(tiny_model, exported)
    train(second, tiny_model, conversations(4, seed=3), steps=2)
    batch = tiny_model.training_batch(samples)
    logits, targets = tiny_model.supervised(batch)
    loss = float(second.loss(tiny_model, batch, logits, targets)[0].detach())
    by_learnt, by_base = (float(divergence(each, logits.detach(), "forward")) for each in (learnt, untouched))
    assert loss == pytest.approx(by_learnt, rel=1e-3)
    assert abs(loss / by_base - 1) > 0.01, "control"


def test_data_about_no_item_are_refused_with_what_to_do(tmp_path):
    (tmp_path / "train.json").write_text(
        '[{"id": "x", "conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]}]'
    )
    method = make("sdft", data=str(tmp_path))
    with pytest.raises(UserError, match=r"1 of 1 conversations are about none of the items, such as 'x'") as caught:
        method.training_data(ITEMS, FakeResources())
    assert "column item" in str(caught.value)


def test_a_conversation_that_does_not_fit_with_its_item_is_refused_before_training(tiny_model):
    short, long = (
        dataclasses.replace(item, text=f"{item.text}{' blue' * more}")
        for item, more in ((ITEMS[0], 0), (ITEMS[1], 300))
    )
    method = make("sdft", data="evoke")
    for items in ([short], [short, long]):
        method.training_data(items, FakeResources())
        if len(items) == 1:
            assert method.prepare(tiny_model, FakeResources()) == {}, "control"
            continue
        with pytest.raises(UserError, match=r"in the prompt it has \d+ tokens, and the model reads 512") as caught:
            method.prepare(tiny_model, FakeResources())
        assert long.id in str(caught.value)
