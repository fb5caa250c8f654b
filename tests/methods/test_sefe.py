"""The oracles of SEFE's RegLoRA, and what it hands from stage to stage."""

from __future__ import annotations

import pytest
import torch

from helpers.plain_loop import FakeResources, attach, logits_of, make, same, train
from helpers.tiny import conversations
from methods.components import lora_layers as adapters
from methods.components.masked_penalty import MaskedNorm, top_entries

SAMPLES = conversations(6, seed=1)


def held(draw, layers=2, share=0.1):
    """Factors of some layers in float64, and the places of their largest entries."""
    made = [(draw(3, 9).requires_grad_(), draw(8, 3).requires_grad_()) for _ in range(layers)]
    return [(down, up, top_entries(up + 1, down, share)) for down, up in made]


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(0)
    return lambda *size: torch.randn(*size, dtype=torch.float64, generator=generator)


def test_the_strongest_entries_are_found():
    change = torch.tensor([[4, -1, 0.5], [-3, 2, 0.1]])
    places = top_entries(change, torch.eye(3), 2 / 6)
    assert places.dtype == torch.int32
    assert [divmod(place, 3) for place in places.tolist()] == [(0, 0), (1, 0)]


@pytest.mark.parametrize("share", [0.02, 0.1, 1.0])
def test_as_many_are_held_as_the_share_says(share, draw):
    places = top_entries(draw(40, 3), draw(3, 61), share)
    assert len(places) == len(set(places.tolist())) == int(share * 40 * 61)


def test_the_norm_and_its_gradient_are_those_of_the_formula(draw):
    layers = held(draw)
    norm = MaskedNorm(layers)
    value = norm()
    value.backward()
    got = [(down.grad.clone(), up.grad.clone()) for down, up, _ in layers]
    direct = sum((up @ down).flatten()[places.long()].abs().mean() for down, up, places in layers) / len(layers)
    wanted = torch.autograd.grad(direct, [factor for down, up, _ in layers for factor in (down, up)])
    assert value.item() == pytest.approx(direct.item(), rel=1e-12)
    for found, right in zip((g for pair in got for g in pair), wanted, strict=True):
        assert torch.allclose(found, right, atol=1e-14)
    places = layers[0][2].long()
    dense = torch.zeros(8 * 9, dtype=torch.float64)
    dense[places] = (layers[0][1] @ layers[0][0]).detach().flatten()[places].sign() / len(places) / 2
    assert torch.allclose(got[0][1], dense.view(8, 9) @ layers[0][0].detach().T, atol=1e-14)


def test_places_that_two_stages_marked_count_twice():
    down, up = torch.eye(2, dtype=torch.float64), torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    assert float(MaskedNorm([(down, up, torch.tensor([0, 3], dtype=torch.int32))])()) == pytest.approx(2.5)
    assert float(MaskedNorm([(down, up, torch.tensor([0, 3, 3], dtype=torch.int32))])()) == pytest.approx(3)


def test_doubling_the_coefficient_doubles_the_gradient_and_zero_b_has_neither(draw):
    ((down, up, _),) = held(draw, layers=1)
    places = top_entries(up, down, 0.1)
    gradients = []
    for factor in (1.0, 2.0):
        (factor * MaskedNorm([(down, up, places)])()).backward()
        gradients.append(up.grad.clone())
        up.grad = None
    assert torch.equal(2 * gradients[0], gradients[1])
    with torch.no_grad():
        up.zero_()
    down.grad = None
    norm = MaskedNorm([(down, up, places)])()
    norm.backward()
    assert norm.item() == 0
    assert torch.count_nonzero(down.grad) == torch.count_nonzero(up.grad) == 0


@pytest.mark.parametrize("fused", [True, False])
def test_b_a_is_formed_once_for_each_optimiser_step(fused, draw):
    layers = held(draw)
    norm, factors = MaskedNorm(layers), [factor for down, up, _ in layers for factor in (down, up)]
    optimizer = torch.optim.AdamW(factors, lr=1e-2, fused=fused)
    values = []
    for step in range(1, 4):
        for _ in range(4):
            values.append(norm())
            (values[-1] / 4).backward()
        optimizer.step()
        optimizer.zero_grad()
        assert norm.formed == step
    assert len({value.item() for value in values}) == 3
    assert values[-1].item() < values[0].item()


def test_with_one_stage_nothing_is_held_and_a_pseudo_task_changes_that(tiny_model):
    results, diagnostics = [], []
    for row in ("lora", "sefe", "sefe:pseudo-task"):
        method = make(row)
        prepared = attach(method, tiny_model)
        results.append((train(method, tiny_model, SAMPLES, steps=4), method.export(tiny_model)))
        diagnostics.append(method.diagnostics(prepared))
        method.detach(tiny_model)
    lora, strict, pseudo = results
    sizes = [layer.weight.numel() for layer in adapters.target_layers(tiny_model).values()]
    held_entries = sum(int(0.02 * size) for size in sizes)
    assert diagnostics == [{}, *({"held entries": n, "rewritten conversations": 0} for n in (0, held_entries))]
    assert lora[0] == strict[0]
    assert same(lora[1], strict[1])
    assert not same(lora[1], pseudo[1])  # control


def test_what_a_stage_changes_most_is_held_in_the_next(tiny_model):
    def two_stages(coefficient):
        first = make("sefe", coefficient=coefficient)
        attach(first, tiny_model)
        train(first, tiny_model, SAMPLES)
        learnt, export, stage_state = (
            logits_of(tiny_model, SAMPLES),
            first.export(tiny_model),
            first.export_stage_state(tiny_model),
        )
        first.detach(tiny_model)
        second = make("sefe", coefficient=coefficient)
        attach(second, tiny_model, FakeResources(stage=2, stage_state=stage_state), seed=1)
        second.load_previous_stage(tiny_model, export)
        assert torch.allclose(logits_of(tiny_model, SAMPLES), learnt, atol=1e-5)
        batch = tiny_model.training_batch(SAMPLES)
        penalty = second.penalty(tiny_model, batch, tiny_model.supervised(batch)[0])
        assert penalty is None if coefficient == 0 else penalty.item() == 0  # B starts anew
        train(second, tiny_model, conversations(6, seed=2))
        end, more = second.export(tiny_model), second.export_stage_state(tiny_model)
        second.detach(tiny_model)
        return export, end, stage_state, more

    def moved(end, places):
        """Mean change of the held entries over mean change of all, averaged over layers."""
        ratios = []
        for name, held_places in places.items():
            layer = name.removesuffix(".held")
            change = (end[f"{layer}.lora_B.weight"] @ end[f"{layer}.lora_A.weight"]).abs().flatten()
            ratios.append(float(change[held_places.long()].mean() / change.mean()))
        return sum(ratios) / len(ratios)

    export, end, stage_state, more = two_stages(25.0)
    _, free, nothing, _ = two_stages(0.0)
    assert nothing == {}
    for name, places in stage_state.items():
        layer = name.removesuffix(".held")
        assert torch.equal(
            places, top_entries(export[f"{layer}.lora_B.weight"], export[f"{layer}.lora_A.weight"], 0.02)
        )
        assert torch.equal(more[name][: len(places)], places)
        assert len(more[name]) == 2 * len(places)
    assert moved(end, stage_state) < 0.7 * moved(free, stage_state)
