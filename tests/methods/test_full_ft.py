"""Full fine-tuning: what is trained, what is exported, and that the base comes back (its shape is in test_adapters)."""

from __future__ import annotations

import pytest
import torch

from benchmarks.errors import UserError
from helpers.plain_loop import attach, logits_of, make, same, train, weights_of
from helpers.tiny import conversations

SAMPLES = conversations(6, seed=1)


def test_the_vision_tower_is_frozen_and_nothing_else(tiny_model):
    method = make("full-ft")
    attach(method, tiny_model)
    trained = {name for name, parameter in tiny_model.module.named_parameters() if parameter.requires_grad}
    frozen = {name for name, _ in tiny_model.module.named_parameters()} - trained
    assert frozen
    assert all("vision_tower" in name for name in frozen)
    before = weights_of(tiny_model)
    train(method, tiny_model, SAMPLES)
    after = weights_of(tiny_model)
    assert all(torch.equal(before[name], after[name]) for name in frozen)
    assert not any(torch.equal(before[name], after[name]) for name in trained)
    assert method.export(tiny_model).keys() == trained


def test_only_what_changed_is_exported(tiny_model):
    method = make("full-ft", projector_learning_rate=0.0)
    attach(method, tiny_model)
    assert method.export(tiny_model) == {}
    train(method, tiny_model, SAMPLES, steps=1)
    tensors = method.export(tiny_model)
    assert tensors
    assert not any("projector" in name for name in tensors)


def test_half_precision_is_trained_in_float32_and_comes_back(tiny_folder):
    from harness.models.llava import LlavaModel

    model = LlavaModel.load(tiny_folder, torch.device("cpu"), torch.bfloat16)
    base, untouched = weights_of(model), logits_of(model, SAMPLES)
    method = make("full-ft")
    attach(method, model)
    assert {p.dtype for p in model.module.parameters() if p.requires_grad} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        losses = train(method, model, SAMPLES)
    assert losses[-1] < losses[0]
    tensors = method.export(model)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    method.detach(model)
    assert same(weights_of(model), base)
    method.restore(model, tensors)
    assert not torch.equal(logits_of(model, SAMPLES), untouched)
    assert same(method.export(model), tensors)
    method.detach(model)
    assert same(weights_of(model), base)


def test_misuse_is_refused(tiny_model):
    base = weights_of(tiny_model)
    method = make("full-ft")
    with pytest.raises(UserError, match="unknown or of another shape"):
        method.restore(tiny_model, {"stranger": torch.zeros(1)})
    name = "model.language_model.norm.weight"
    with pytest.raises(UserError, match="unknown or of another shape"):
        method.restore(tiny_model, {name: torch.zeros(1)})
    assert same(weights_of(tiny_model), base)
    attach(method, tiny_model)
    with pytest.raises(UserError, match="already"):
        attach(method, tiny_model)
