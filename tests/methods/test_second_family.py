"""Every method on Qwen2.5-VL: grouped queries, biases, a projector inside the tower, positions in three dimensions."""

from __future__ import annotations

import math

import pytest
import torch

from harness.models.registry import load_model
from helpers.plain_loop import FakeResources, attach, logits_of, make, train
from helpers.published_models import write_qwen
from helpers.tiny import conversations
from methods.registry import registered

NAMES = [name for name, method in registered().items() if method.trains and method.__module__.startswith("methods.")]
SAMPLES = conversations(6)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = write_qwen(tmp_path_factory.mktemp("qwen"))
    return load_model(folder, torch.device("cpu"), torch.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_method_learns_is_kept_and_leaves_no_trace(model, name):
    before, base = model.fingerprint(), logits_of(model, SAMPLES)
    method = make(name)
    attach(method, model, FakeResources())
    try:
        assert all(math.isfinite(loss) for loss in train(method, model, SAMPLES, steps=4))
        trained, kept = logits_of(model, SAMPLES), method.export(model)
        assert not torch.allclose(trained, base, atol=1e-3)
        tower = [key for key in kept if "visual" in key and "merger" not in key]
        assert not tower
    finally:
        method.detach(model)
    assert model.fingerprint() == before
    again = make(name)
    again.restore(model, kept)
    try:
        torch.testing.assert_close(logits_of(model, SAMPLES), trained, rtol=1e-4, atol=1e-4)
    finally:
        again.detach(model)
    assert model.fingerprint() == before
