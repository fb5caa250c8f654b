"""LaPael: what its noise is, what it depends on, and where it is not."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from benchmarks.errors import UserError
from harness.conformance.padding import pad
from helpers.plain_loop import FakeResources, attach, logits_of, make, same, train, weights_of
from helpers.tiny import conversations, knowledge
from methods.augmentation.made_data import MADE
from methods.components.latent_noise import (
    SEEDS,
    LatentNoise,
    NoiseLayer,
    fit_noise,
    noise_places,
    symmetric_divergence,
)
from methods.components.paraphrases import Paraphrased, paraphrased_items

SAMPLES = conversations(6, seed=1)


def lapael(**changes):
    return make("lapael", **changes)


def paraphrased(count=4):
    texts = MADE["text-aware"].make(knowledge(count), 0)
    return [Paraphrased(texts[start], texts[start : start + 5]) for start in range(0, 5 * count, 5)]


@torch.no_grad()
def training_logits(model, samples, batch=None, seed=0):
    """In training mode, with the noise that comes after this seed."""
    model.module.train()
    torch.manual_seed(seed)
    logits, _ = model.supervised(model.training_batch(samples) if batch is None else batch)
    model.module.eval()
    return logits.clone()


def test_the_divergence_is_that_of_normal_distributions():
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(2, 50, dtype=torch.float64, generator=generator)
    deviations = 0.1 + torch.rand(2, 50, dtype=torch.float64, generator=generator)
    p, q = (torch.distributions.Normal(mean, std) for mean, std in zip(means, deviations, strict=True))
    expected = (torch.distributions.kl_divergence(p, q) + torch.distributions.kl_divergence(q, p)) / 2
    found = symmetric_divergence(means[0], deviations[0], means[1], deviations[1])
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-14)
    assert float(expected.max()) > 1, "control"


@pytest.mark.parametrize(("deviation", "target", "p", "q"), [(0.01, 0.5, 0.1, 0.5), (0.3, 0.01, 0.3, 0.3)])
def test_small_deviations_are_treated_as_equal(deviation, target, p, q):
    values = (torch.tensor(value, dtype=torch.float64) for value in (1.0, deviation, 2.0, target))
    kl = [math.log(b / a) + (a**2 + 1) / (2 * b**2) - 0.5 for a, b in ((p, q), (q, p))]
    assert float(symmetric_divergence(*values)) == pytest.approx(sum(kl) / 2, rel=1e-12)


def test_the_factor_is_the_formula_and_one_where_nothing_is_added():
    layer, generator = NoiseLayer(6).double(), torch.Generator().manual_seed(0)
    for weight in layer.parameters():
        torch.nn.init.normal_(weight, generator=generator)
    h, e = torch.randn(2, 5, 6, dtype=torch.float64, generator=generator)
    u = torch.rand(5, 1, dtype=torch.float64, generator=generator)
    weights = {name: weight.detach() for name, weight in layer.named_parameters()}
    inner = (h @ weights["mean.weight"].T + weights["mean.bias"] + e) @ weights["inner.weight"].T
    alpha = (inner + weights["inner.bias"]).clamp(min=0) @ weights["outer.weight"].T + weights["outer.bias"]
    z = torch.log(1 + torch.exp(math.log(2) * alpha)) / math.log(2)
    logit = (torch.log(u + 1e-7) - torch.log(1 - u + 1e-7) + h @ weights["gate.weight"].T + weights["gate.bias"]) / 0.1
    m = 1 / (1 + torch.exp(-logit))
    factor, mask = layer(h, e, u)
    assert torch.allclose(factor, 1 - m + z * m, rtol=1e-9)
    assert torch.allclose(mask, m, rtol=1e-9)
    for weight in layer.parameters():
        torch.nn.init.zeros_(weight)
    assert torch.allclose(layer(h, e, u)[0], torch.ones(5, 6, dtype=torch.float64), rtol=1e-12)


def test_the_noise_of_a_row_depends_on_its_seed_alone(tiny_model):
    method = lapael(perturbed=1.0)
    attach(method, tiny_model)
    together = training_logits(tiny_model, SAMPLES)
    batch = tiny_model.training_batch(SAMPLES)
    for padded in (pad(batch), pad(batch, left=True)):
        assert torch.allclose(training_logits(tiny_model, SAMPLES, padded), together, atol=1e-4)
    tiny_model.module.train()
    torch.manual_seed(0)
    with torch.no_grad():
        single = torch.cat([tiny_model.supervised(tiny_model.training_batch([each]))[0] for each in SAMPLES])
    tiny_model.module.eval()
    assert torch.allclose(single, together, atol=1e-4)
    assert not torch.allclose(training_logits(tiny_model, SAMPLES, seed=1), together, atol=1e-2), "control"
    method.detach(tiny_model)


def test_it_is_on_in_training_alone_and_leaves_with_the_adapter(tiny_model):
    weights, before = weights_of(tiny_model), logits_of(tiny_model, SAMPLES)
    method = lapael(perturbed=1.0)
    attach(method, tiny_model)
    assert torch.equal(logits_of(tiny_model, SAMPLES), before)
    assert not torch.allclose(training_logits(tiny_model, SAMPLES), before, atol=1e-2), "control"
    train(method, tiny_model, SAMPLES)
    learnt, export = logits_of(tiny_model, SAMPLES), method.export(tiny_model)
    assert export.keys() == exported_by_lora(tiny_model.__class__, tiny_model.folder).keys()
    method.detach(tiny_model)
    assert torch.equal(training_logits(tiny_model, SAMPLES), before)
    assert same(weights_of(tiny_model), weights)
    other = lapael()
    other.restore(tiny_model, export)
    assert torch.allclose(logits_of(tiny_model, SAMPLES), learnt, atol=1e-5)
    assert torch.allclose(training_logits(tiny_model, SAMPLES), learnt, atol=1e-5), "no noise in a restored adapter"


def exported_by_lora(family, folder):
    model = family.load(folder, torch.device("cpu"), torch.float32)
    method = make("lora")
    attach(method, model)
    return method.export(model)


def test_i8_with_no_row_perturbed_it_is_lora_bit_for_bit(tiny_model):
    results = []
    for method in (make("lora"), lapael(perturbed=0.0), lapael()):
        attach(method, tiny_model)
        losses = train(method, tiny_model, SAMPLES, steps=4)
        results.append((losses, method.export(tiny_model)))
        method.detach(tiny_model)
    lora, zero, some = results
    assert lora[0] == zero[0]
    assert same(lora[1], zero[1])
    assert not same(lora[1], some[1])  # control


@pytest.mark.parametrize("share", [0.25, 0.75])
def test_so_many_rows_are_perturbed(share):
    noise = LatentNoise([SimpleNamespace(width=2, mlp="mlp", decoder="")], share)
    for weight in noise.layers.parameters():
        torch.nn.init.ones_(weight)
    torch.manual_seed(0)
    noise._start(torch.nn.Identity(), (torch.ones(2000, 1, 2),), {})
    factors = noise._perturb(0)(torch.nn.Identity(), (torch.ones(2000, 1, 2),))[0]
    perturbed = (factors != 1).any(-1).float().mean()
    assert abs(float(perturbed) - share) < 0.04
    assert max(noise._seeds) < SEEDS


def test_the_noise_brings_the_states_nearer_to_those_of_paraphrases(tiny_model):
    weights = weights_of(tiny_model)

    def fit(seed):
        torch.manual_seed(seed)
        return fit_noise(tiny_model, paraphrased(), 1, 12, 1e-2, 0.5)

    first, again, other = fit(0), fit(0), fit(1)
    divergence = first["divergence"]
    assert len(divergence) == 12
    assert divergence[-3:].mean() < 0.9 * divergence[:3].mean()
    assert same(first, again)
    assert not same(first, other), "control"
    assert same(weights_of(tiny_model), weights)
    assert not any(module._forward_pre_hooks for module in tiny_model.module.modules())


def test_the_report_shows_the_divergence(tiny_model):
    method = lapael()
    prepared = attach(method, tiny_model)
    values = list(method.diagnostics(prepared).values())
    assert values == [float(prepared["divergence"][0]), float(prepared["divergence"][-1])]
    assert lapael(perturbed=0.0).diagnostics({}) == {}


def test_the_first_mlps_are_perturbed_and_no_more_than_there_are(tiny_model):
    places = [place.mlp for place in noise_places(tiny_model, 2)]
    assert places == [f"model.language_model.layers.{number}.mlp" for number in (0, 1)]
    with pytest.raises(UserError, match="first 3 decoder layers cannot be perturbed: the model has 2") as caught:
        attach(lapael(noise_layers=3), tiny_model)
    assert "noise_layers" in str(caught.value)
    assert "at most 2" in str(caught.value)


def test_data_with_one_text_for_each_item_are_refused(tiny_model):
    with pytest.raises(UserError, match="no item has two conversations in evoke"):
        attach(lapael(paraphrases="evoke"), tiny_model)


def test_the_paraphrases_are_those_of_the_injected_items():
    resources = FakeResources()
    resources.knowledge = knowledge(3)
    samples = paraphrased_items("text-aware", 2, resources)
    assert len(samples) == 2
    for sample in samples:
        item = sample.original.id.split("/")[0]
        assert len(sample.paraphrases) == 5
        assert {text.id.split("/")[0] for text in sample.paraphrases} == {item}
        assert len({text.turns[1].text for text in sample.paraphrases}) > 1
