"""The base without singular components, on a model: what is replaced, what it is computed from, what is refused."""

from __future__ import annotations

import pytest
import torch

from benchmarks.errors import UserError
from helpers.plain_loop import FakeResources, attach, logits_of, make, same, weights_of
from helpers.tiny import conversation, conversations
from methods.co_svd import ROWS
from methods.components.covariance import covariances
from methods.components.input_magnitudes import mean_magnitudes
from methods.components.lora_layers import target_layers

SAMPLES = conversations(6, seed=1)


class BenchmarkResources(FakeResources):
    """Also has a benchmark's prompts, as long as those of the pool."""

    def benchmark_prompts(self, benchmark, count, *, as_in_table=False):
        self.asked.append((count, benchmark))
        return [conversation(9_000 + index, words=4) for index in range(count)]


def row(name, **changes):
    return make(name, **{"discard": 4, "calibration_samples": 8, **changes})


@pytest.mark.parametrize("name", ROWS)
def test_every_decoder_linear_loses_so_many_components_and_nothing_else_changes(name, tiny_model):
    base, untouched = weights_of(tiny_model), logits_of(tiny_model, SAMPLES)
    method = row(name, discard=20)
    attach(method, tiny_model)
    after = weights_of(tiny_model)
    targets = {f"{layer}.weight" for layer in target_layers(tiny_model)}
    assert {each for each in base if not torch.equal(base[each], after[each])} == targets
    for each in targets:
        values = torch.linalg.svdvals(after[each].double())
        assert int((values > 1e-5 * values[0]).sum()) == min(after[each].shape) - 20, each
    exported = method.export(tiny_model)
    assert exported.keys() == targets
    changed = logits_of(tiny_model, SAMPLES)
    method.detach(tiny_model)
    assert same(weights_of(tiny_model), base)
    assert torch.equal(logits_of(tiny_model, SAMPLES), untouched)
    method.restore(tiny_model, exported)
    assert torch.equal(logits_of(tiny_model, SAMPLES), changed)
    assert not torch.equal(changed, untouched)  # control


def test_all_values_of_discard_share_one_decomposition(tiny_model):
    resources = FakeResources()
    for discard, end in ((4, "smallest"), (8, "smallest"), (8, "largest")):
        method = row("co-svd", discard=discard, end=end)
        attach(method, tiny_model, resources)
        method.detach(tiny_model)
    assert len(resources.store) == 1
    for other in (row("co-svd:asvd"), row("co-svd", norm="token-mean"), row("co-svd", calibration_samples=9)):
        attach(other, tiny_model, resources)
        other.detach(tiny_model)
    assert len(resources.store) == 4


def test_prompts_come_from_where_the_settings_say(tiny_model):
    for name, changes, asked, inputs, pools in (
        ("co-svd", {}, [(8, "calibration")], (), ("calibration",)),
        ("co-svd:asvd", {"calibrate_on": "mini-MME"}, [(8, "mini-MME")], ("mini-MME",), ()),
        ("co-svd:plain", {}, [], (), ()),
    ):
        resources, method = BenchmarkResources(), row(name, **changes)
        method.prepare(tiny_model, resources)
        assert (resources.asked, method.evaluation_inputs, method.pools) == (asked, inputs, pools)


def test_the_covariance_keeps_its_prompts_answers_where_a_random_basis_does_not(tiny_model):
    resources = BenchmarkResources()
    prompts = resources.benchmark_prompts("mini-MME", 8)
    before, errors = logits_of(tiny_model, prompts), {}
    for name in ROWS:
        method = row(name, discard=12, calibrate_on="" if name == "co-svd:plain" else "mini-MME")
        attach(method, tiny_model, resources)
        errors[name] = float((logits_of(tiny_model, prompts) - before).norm() / before.norm())
        method.detach(tiny_model)
    assert errors["co-svd"] < 0.7 * errors["co-svd:random-basis"], errors
    assert errors["co-svd"] < errors["co-svd:plain"], errors


def test_too_many_components_are_refused_with_the_layer(tiny_model):
    smallest = min(target_layers(tiny_model).values(), key=lambda layer: min(layer.weight.shape)).weight.shape
    with pytest.raises(UserError, match=rf"{min(smallest) + 1} components .* has only {min(smallest)}"):
        attach(row("co-svd", discard=min(smallest) + 1), tiny_model)
    method = row("co-svd:plain", discard=min(smallest))
    attach(method, tiny_model)  # all of them leave nothing, and are no mistake
    method.detach(tiny_model)
    with pytest.raises(UserError, match="discard cannot be 0"):
        row("co-svd", discard=0)


def test_magnitudes_are_means_over_tokens_without_padding(tiny_model):
    prompts = [sample for sample in conversations(12, seed=4) if len(sample.pictures) <= 1][:6]
    layers = target_layers(tiny_model)
    rows = {name: [] for name in layers}
    handles = [
        layer.register_forward_pre_hook(lambda _, inputs, name=name: rows[name].append(inputs[0][0].double()))
        for name, layer in layers.items()
    ]
    with torch.no_grad():
        for prompt in prompts:
            tiny_model.module(**tiny_model.prompt_batch([prompt]))
    for handle in handles:
        handle.remove()
    found = mean_magnitudes(tiny_model, prompts)
    assert found.keys() == layers.keys()
    for name, magnitudes in found.items():
        torch.testing.assert_close(magnitudes, torch.cat(rows[name]).abs().mean(0), rtol=1e-4, atol=1e-6)
    assert not any(layer._forward_pre_hooks for layer in layers.values())
    with pytest.raises(UserError, match="no calibration samples"):
        mean_magnitudes(tiny_model, [])


def test_magnitudes_are_bounded_by_the_covariance(tiny_model):
    """Jensen: the square of a mean is at most the mean of the squares, which is the covariance's diagonal."""
    magnitudes = mean_magnitudes(tiny_model, SAMPLES)
    for part in covariances(tiny_model, SAMPLES):
        for name in part.layers:
            assert bool((magnitudes[name] ** 2 <= part.covariance.diagonal() * (1 + 1e-4) + 1e-8).all())
