"""OSF: what the weights' strongest directions hold stays, and nothing else is restricted."""

from __future__ import annotations

import pytest
import torch

from benchmarks.errors import UserError
from helpers.plain_loop import FakeResources, attach, make, same, train, weights_of
from helpers.tiny import conversations
from methods.components.lora_layers import target_layers

SAMPLES = conversations(6, seed=1)


def relative(part: torch.Tensor, whole: torch.Tensor) -> float:
    return float(part.norm() / whole.norm())


def changes(row: str, model, steps: int = 4, **settings):
    """Each layer's weight before, and its change by a short training."""
    before = {name: layer.weight.detach().clone() for name, layer in target_layers(model).items()}
    method = make(row, **settings)
    prepared = attach(method, model)
    train(method, model, SAMPLES, steps=steps)
    after = {name: model.module.get_parameter(f"{name}.weight").detach().clone() for name in before}
    return method, prepared, {name: (before[name], after[name] - before[name]) for name in before}


@pytest.mark.parametrize(("row", "stays"), [("osf", True), ("full-ft", False)])
def test_the_strongest_directions_stay_on_both_sides(row, stays, tiny_model):
    """Against PEFT's decomposition of the same weights; full fine-tuning is the control."""
    from peft.tuners.osf.utils import decompose_weight_matrix

    _, _, changed = changes(row, tiny_model)
    for before, change in changed.values():
        parts = decompose_weight_matrix(before, min(before.shape) // 2)
        left = relative(parts["U_high"].T @ change, change)
        right = relative(change @ parts["V_high"].T, change)
        assert (max(left, right) < 1e-5) == stays
        assert change.norm() > 0


def test_nothing_else_is_restricted(tiny_model):
    """A change has the full rank that is left, which no low-rank adapter's has."""
    _, _, changed = changes("osf", tiny_model, steps=12)
    ranks = [(int(torch.linalg.matrix_rank(change)), min(change.shape) // 2) for _, change in changed.values()]
    assert all(rank == left for rank, left in ranks)


def test_only_linear_layers_and_the_projector_are_trained(tiny_model):
    base = weights_of(tiny_model)
    method, _, _ = changes("osf", tiny_model)
    exported = method.export(tiny_model)
    linears = {f"{name}.weight" for name in target_layers(tiny_model)}
    assert linears < exported.keys()
    assert all("projector" in name for name in exported.keys() - linears)
    method.detach(tiny_model)
    assert same(weights_of(tiny_model), base)
    narrow, _, _ = changes("osf", tiny_model, targets="attention", projector_learning_rate=0.0)
    assert 0 < len(narrow.export(tiny_model)) < len(linears)


def test_a_later_stage_keeps_the_directions_that_the_previous_one_left(tiny_model):
    first, directions, _ = changes("osf", tiny_model, learning_rate=0.05)
    state, exported = first.export_stage_state(tiny_model), first.export(tiny_model)
    first.detach(tiny_model)
    second = make("osf", learning_rate=0.05)
    prepared = attach(second, tiny_model, FakeResources(stage=2, stage_state=state))
    second.load_previous_stage(tiny_model, exported)
    assert not same(prepared, directions)
    train(second, tiny_model, SAMPLES[::-1], steps=3)
    for name in target_layers(tiny_model):
        change = second.export(tiny_model)[f"{name}.weight"] - exported[f"{name}.weight"]
        assert relative(prepared[f"{name}.left"].T @ change, change) < 1e-5
        assert relative(directions[f"{name}.left"].T @ change, change) > 1e-3, "control: the base's own directions"


def test_the_share_is_a_number_of_directions(tiny_model):
    prepared = make("osf", preserved_share=0.25).prepare(tiny_model, FakeResources())
    for name, layer in target_layers(tiny_model).items():
        assert prepared[f"{name}.left"].shape == (layer.out_features, min(layer.weight.shape) // 4)
    almost_all = make("osf", preserved_share=0.999).prepare(tiny_model, FakeResources())
    assert all(
        almost_all[f"{name}.left"].shape[1] == min(layer.weight.shape) - 1
        for name, layer in target_layers(tiny_model).items()
    )
    for share in (0.0, 1.0):
        with pytest.raises(UserError, match="preserved_share"):
            make("osf", preserved_share=share)
