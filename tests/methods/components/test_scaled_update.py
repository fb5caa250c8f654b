"""The update of any method, scaled after the training."""

from __future__ import annotations

import pytest
import torch

from harness.conformance.lifecycle import MethodLifecycle, supervised_logits
from harness.conformance.subject import MethodUnderTest
from methods.components.scaled_update import scaled_update
from methods.registry import get_method

ROWS = ("lora", "full-ft", "kore:unfrozen-a", "moelora")


def trained(name):
    method, variant = get_method(name)
    run = MethodLifecycle(MethodUnderTest(method, name.partition(":")[2] if variant else "").build()).start()
    run.fit()
    adapter = run.method.export(run.model)
    run.method.detach(run.model)
    return run, adapter


def weights(run, tensors):
    """Every weight of the decoder and the projector with the adapter in it, in float64."""
    from methods.components.lora_layers import lora_ab, lora_layers

    run.method.restore(run.model, dict(tensors))
    found = {}
    for name, layer in lora_layers(run.model.module):
        delta = layer.get_base_layer().weight.detach().double()
        for adapter in layer.lora_A:
            a, b = (factor.detach().double() for factor in lora_ab(layer, adapter))
            delta = delta + layer.scaling[adapter] * b @ a
        found[name] = delta
    found |= {
        name: parameter.detach().double().clone()
        for name, parameter in run.model.module.named_parameters()
        if "lora_" not in name and "original_module" not in name
    }
    run.method.detach(run.model)
    return found


@pytest.mark.parametrize("factor", [0.25, 0.5, 1.5])
@pytest.mark.parametrize("name", ["lora", "full-ft", "kore:unfrozen-a"])
def test_every_weight_is_on_the_line_from_the_base(name, factor):
    """In float64: W(f) = W(0) + f (W(1) - W(0)), for each layer and the projector."""
    run, adapter = trained(name)
    base, whole = (weights(run, scaled_update(run.model, adapter, end)) for end in (0.0, 1.0))
    part = weights(run, run.method.scale_update(run.model, adapter, factor))
    assert any(not torch.equal(base[name], whole[name]) for name in base)
    for name, value in part.items():
        expected = base[name] + factor * (whole[name] - base[name])
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ROWS)
def test_scaled_by_one_it_is_the_row_bit_for_bit_and_by_a_half_it_is_neither(name):
    run, adapter = trained(name)
    kept = {key: value.clone() for key, value in adapter.items()}

    def logits(tensors):
        run.method.restore(run.model, tensors)
        found = supervised_logits(run.model)
        run.method.detach(run.model)
        return found

    base = supervised_logits(run.model)
    half, same = (run.method.scale_update(run.model, adapter, factor) for factor in (0.5, 1.0))
    assert all(torch.equal(adapter[key], kept[key]) for key in kept), "the given tensors are not changed"
    assert torch.equal(logits(same), logits(adapter))
    assert not torch.equal(logits(half), logits(adapter))
    assert not torch.equal(logits(half), base)
    assert {key: value.dtype for key, value in half.items()} == {key: value.dtype for key, value in adapter.items()}
