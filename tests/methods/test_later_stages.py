"""From one injection stage to the next: EWC's springs, LwF's teacher, and whatever else goes on being trained."""

from __future__ import annotations

import pytest
import torch

from benchmarks.errors import UserError
from helpers.plain_loop import FakeResources, attach, logits_of, make, same, train
from helpers.tiny import conversations, knowledge
from methods.components import lora_layers as adapters
from methods.components.fisher import diagonal_fisher, weight_factors
from methods.lwf import distillation

SAMPLES, LATER = conversations(6, seed=1), conversations(6, seed=2)
ITEMS = knowledge(6)


def first_stage(row, model, **changes):
    """Train a first stage and take it out; what it learnt, exported, handed on, and how it then answered."""
    method = make(row, **changes)
    method.training_data(ITEMS, FakeResources())
    attach(method, model)
    train(method, model, SAMPLES)
    learnt, export = logits_of(model, SAMPLES), method.export(model)
    stage_state = method.export_stage_state(model)
    assert torch.equal(logits_of(model, SAMPLES), learnt)
    assert same(method.export(model), export)
    method.detach(model)
    return export, stage_state, learnt


def second_stage(row, model, export, stage_state, **changes):
    """A second stage, ready to be trained."""
    method = make(row, **changes)
    method.training_data(ITEMS, FakeResources(stage=2))
    attach(method, model, FakeResources(stage=2, stage_state=stage_state), seed=1)
    method.load_previous_stage(model, export)
    return method


@pytest.mark.parametrize("row", ["moelora:top-k", "ewc", "ewc:weight-space", "lwf"])
def test_a_stage_begins_where_the_one_before_ended_and_is_exported_with_it(row, tiny_model):
    export, stage_state, learnt = first_stage(row, tiny_model)
    method = second_stage(row, tiny_model, export, stage_state)
    assert torch.allclose(logits_of(tiny_model, SAMPLES), learnt, atol=1e-5)
    batch = tiny_model.training_batch(SAMPLES)
    penalty = method.penalty(tiny_model, batch, tiny_model.supervised(batch)[0])
    if row.startswith(("ewc", "lwf")):
        assert abs(penalty.item()) < 1e-5
    train(method, tiny_model, LATER)
    end, answers = method.export(tiny_model), logits_of(tiny_model, SAMPLES)
    assert not torch.allclose(answers, learnt, atol=1e-3)
    if row.startswith(("ewc", "lwf")):
        assert method.penalty(tiny_model, batch, tiny_model.supervised(batch)[0]).item() > 1e-5
    method.detach(tiny_model)
    method.restore(tiny_model, end)
    assert torch.equal(logits_of(tiny_model, SAMPLES), answers)


def test_ewc_adds_what_mattered_to_the_stage_to_what_mattered_before(tiny_model):
    resources = FakeResources()
    method = make("ewc")
    data = method.training_data(ITEMS, resources)
    prepared = attach(method, tiny_model, resources)
    train(method, tiny_model, SAMPLES)
    own = diagonal_fisher(tiny_model, data[:4])
    stage_state = method.export_stage_state(tiny_model)
    assert set(prepared) < set(stage_state) == {f"fisher/{name}" for name in own}
    for name, fisher in own.items():
        before = prepared.get(f"fisher/{name}", torch.zeros(()))
        assert torch.allclose(stage_state[f"fisher/{name}"], before + fisher, rtol=1e-5, atol=1e-12)
    assert any(bool(f.any()) for name, f in stage_state.items() if "lora_A" in name)  # A is held, too, from now on
    export = method.export(tiny_model)
    method.detach(tiny_model)
    later = second_stage("ewc", tiny_model, export, stage_state)
    assert {name for name, p in tiny_model.module.named_parameters() if p.requires_grad} == set(own)
    assert len(later._anchors) == len(own)


def test_ewc_in_weight_space_pulls_towards_the_end_of_the_stage_before(tiny_model):
    export, stage_state, _ = first_stage("ewc:weight-space", tiny_model, coefficient=2.0, projector_learning_rate=0.0)
    method = second_stage(
        "ewc:weight-space", tiny_model, export, stage_state, coefficient=2.0, projector_learning_rate=0.0
    )
    train(method, tiny_model, LATER, steps=2)
    batch = tiny_model.training_batch(SAMPLES)
    got = method.penalty(tiny_model, batch, tiny_model.supervised(batch)[0]).item()
    end, dense = method.export(tiny_model), 0.0
    for name, layer in adapters.lora_layers(tiny_model.module):
        now, then = (state[f"{name}.lora_B.weight"] @ state[f"{name}.lora_A.weight"] for state in (end, export))
        assert stage_state[f"a/{name}"].shape[0] == 2  # old data, and the first stage
        fisher = torch.einsum("ki,kj->ij", stage_state[f"a/{name}"], stage_state[f"c/{name}"])
        dense += float((fisher * (layer.scaling["default"] * (now - then)).square()).sum())
    assert got == pytest.approx(dense, rel=1e-3)


def test_lwf_is_taught_by_the_stage_before(tiny_model):
    export, stage_state, learnt = first_stage("lwf", tiny_model)
    method = second_stage("lwf", tiny_model, export, stage_state)
    train(method, tiny_model, LATER)
    now = logits_of(tiny_model, SAMPLES)
    with method._teacher.active(tiny_model):
        assert torch.allclose(logits_of(tiny_model, SAMPLES), learnt, atol=1e-5)
    assert torch.equal(logits_of(tiny_model, SAMPLES), now)
    batch = tiny_model.training_batch(SAMPLES)
    logits, _ = tiny_model.supervised(batch)
    method.penalty(tiny_model, batch, logits).backward()  # the student's graph has survived the teacher's visit
    got = {name: p.grad.clone() for name, p in tiny_model.module.named_parameters() if p.grad is not None}
    tiny_model.module.zero_grad()
    distillation(learnt, tiny_model.supervised(batch)[0], 2.0).backward()
    for name, parameter in tiny_model.module.named_parameters():
        if parameter.grad is not None:
            assert torch.allclose(got[name], parameter.grad, atol=1e-5), name
    assert any(bool(gradient.any()) for gradient in got.values())


@pytest.mark.parametrize("row", ["ewc", "o-lora", "sefe"])
def test_without_a_coefficient_nothing_is_carried(row, tiny_model):
    assert first_stage(row, tiny_model, coefficient=0.0)[1] == {}


def test_full_ft_refuses_a_stage_of_another_model(tiny_model):
    export, stage_state, _ = first_stage("full-ft", tiny_model)
    name = next(iter(export))
    with pytest.raises(UserError, match="unknown or of another shape"):
        second_stage("full-ft", tiny_model, {**export, name: export[name][:1]}, stage_state)


def test_factors_of_the_weights_see_the_adapter(tiny_model):
    """F of the second stage is measured on the model that the first has changed."""
    attach(method := make("lora"), tiny_model)
    before = weight_factors(tiny_model, SAMPLES[:2])
    train(method, tiny_model, SAMPLES)
    after = weight_factors(tiny_model, SAMPLES[:2])
    assert all(not torch.equal(before[name][0], after[name][0]) for name in before)
