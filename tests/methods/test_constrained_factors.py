"""Methods that confine the update by singular directions of the weights: OPLoRA and NuSA-CL, in float64."""

from __future__ import annotations

import pytest
import torch

from benchmarks.errors import UserError
from helpers.plain_loop import RANK, FakeResources, attach, logits_of, make, same, train, weights_of
from helpers.tiny import conversations
from methods.components import lora_layers as adapters
from methods.components.constrained_factors import ColumnsOff, ColumnsWithin, RowsOff
from methods.components.weight_directions import singular_vectors

SAMPLES = conversations(8, seed=1)
ROWS = ("oplora", "nusa-cl")


def update_of(layer):
    a, b = (factor.detach() for factor in adapters.lora_ab(layer))
    return layer.scaling[adapters.TRAINED] * b @ a


@pytest.mark.parametrize("row", [*ROWS, "lora"])
def test_the_trained_update_stays_where_it_is_confined(row, exact_model):
    """OPLoRA keeps the top triples u, s, v of W0; of NuSA-CL's update, all but the weakest directions read nothing."""
    weights, before = weights_of(exact_model), logits_of(exact_model, SAMPLES)
    method = make(row)
    attach(method, exact_model)
    assert torch.equal(logits_of(exact_model, SAMPLES), before), "at the start"
    train(method, exact_model, SAMPLES)
    assert float((logits_of(exact_model, SAMPLES) - before).abs().max()) > 0.1, "control: it has learned"
    kept, leaks = [], []
    for name, layer in adapters.lora_layers(exact_model.module):
        weight, update = layer.base_layer.weight.detach(), update_of(layer)
        assert torch.equal(weight, weights[f"{name}.weight"])
        u, s, vt = torch.linalg.svd(weight)
        top = slice(RANK)
        errors = [
            (weight + update) @ vt[top].T - u[:, top] * s[top],
            u[:, top].T @ (weight + update) - s[top, None] * vt[top],
        ]
        kept.append(max(float(error.abs().max()) for error in errors))
        inner = min(weight.shape)
        weakest = u[:, inner - RANK : inner] @ u[:, inner - RANK : inner].T
        weakest_in = vt[inner - RANK : inner].T @ vt[inner - RANK : inner]
        leaks.append(float((update - weakest @ update @ weakest_in).norm() / update.norm()))
    assert max(kept) < 1e-12 if row != "lora" else max(kept) > 1e-4
    assert max(leaks) < 1e-10 if row == "nusa-cl" else max(leaks) > 0.1


@pytest.mark.parametrize("row", ROWS)
def test_the_export_is_the_confined_adapter_and_goes_on_from_there(row, tiny_model):
    method = make(row)
    attach(method, tiny_model)
    train(method, tiny_model, SAMPLES)
    learnt, export = logits_of(tiny_model, SAMPLES), method.export(tiny_model)
    assert {name.rpartition(".lora_")[2] for name in export if ".lora_" in name} == {"A.weight", "B.weight"}
    method.detach(tiny_model)
    later = make(row)
    attach(later, tiny_model, FakeResources(stage=2), seed=1)
    assert not torch.allclose(logits_of(tiny_model, SAMPLES), learnt, atol=1e-3), "control: a new adapter"
    later.load_previous_stage(tiny_model, export)
    assert torch.allclose(logits_of(tiny_model, SAMPLES), learnt, atol=1e-4)
    train(later, tiny_model, SAMPLES)
    for name, layer in adapters.lora_layers(tiny_model.module):
        left = singular_vectors(layer.base_layer.weight, RANK, largest=True)[0]
        assert float((left.T @ update_of(layer).double()).abs().max()) < 1e-5, name
    later.detach(tiny_model)


def test_a_projected_factor_trains_as_the_projection_in_the_formula():
    """y = W0 x + P_L B A P_R x with dense projections, by AdamW."""
    d_in, d_out = 14, 10
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    weight, inputs, targets, a0, b0 = draw(d_out, d_in), draw(40, d_in), draw(40, d_out), draw(3, d_in), draw(d_out, 3)
    left, right = singular_vectors(weight, 4, largest=True)
    p_left, p_right = torch.eye(d_out).double() - left @ left.T, torch.eye(d_in).double() - right @ right.T

    def trained(update):
        a, b = a0.clone().requires_grad_(True), b0.clone().requires_grad_(True)
        optimiser = torch.optim.AdamW([a, b], lr=1e-2)
        for _ in range(20):
            optimiser.zero_grad()
            (inputs @ (weight + update(a, b)).T - targets).square().mean().backward()
            optimiser.step()
        return update(a, b).detach()

    paper = trained(lambda a, b: p_left @ b @ a @ p_right)
    ours = trained(lambda a, b: ColumnsOff(left)(b) @ RowsOff(right)(a))
    assert float((paper - ours).abs().max()) < 1e-10
    assert float((paper - trained(lambda a, b: b @ a)).abs().max()) > 0.1, "control: without the projections"
    assert torch.allclose((weight + paper) @ right, weight @ right, atol=1e-12)
    core = draw(4, 3)
    within = ColumnsWithin(left)
    torch.testing.assert_close(within.right_inverse(within(core)), core)


def test_singular_vectors_are_of_either_end():
    weight = torch.diag(torch.arange(1.0, 7.0))[:, [2, 0, 1, 4, 3, 5]]
    left, right = singular_vectors(weight, 2, largest=True)
    assert left.abs().argmax(0).tolist() == [5, 4]
    assert right.abs().argmax(0).tolist() == [5, 3]
    left, right = singular_vectors(weight, 2, largest=False)
    assert sorted(left.abs().argmax(0).tolist()) == [0, 1]
    assert sorted(right.abs().argmax(0).tolist()) == [1, 2]


@pytest.mark.parametrize("row", ROWS)
def test_directions_are_computed_once_without_data_and_not_for_all_of_a_layer(row, tiny_model):
    resources = FakeResources()
    first = make(row).prepare(tiny_model, resources)
    assert same(make(row, learning_rate=0.5).prepare(tiny_model, resources), first)
    assert len(resources.store) == 1
    make(row, rank=2).prepare(tiny_model, resources)
    assert len(resources.store) == 2
    assert resources.asked == [], "no sample is drawn"
    with pytest.raises(UserError, match="choose a smaller rank"):
        make(row, rank=32).prepare(tiny_model, resources)


def test_what_is_preserved_may_differ_from_the_rank(tiny_model):
    directions = make("oplora", preserved=6).prepare(tiny_model, FakeResources())
    assert {tensor.shape[1] for tensor in directions.values()} == {6}
    assert {tensor.shape[1] for tensor in make("oplora").prepare(tiny_model, FakeResources()).values()} == {RANK}


def test_only_trained_parameters_count(tiny_model):
    layers = [(layer.in_features, layer.out_features) for layer in adapters.target_layers(tiny_model).values()]
    for row in ROWS:
        method = make(row, projector_learning_rate=0.0)
        attach(method, tiny_model)
        trained = sum(parameter.numel() for parameter in tiny_model.module.parameters() if parameter.requires_grad)
        assert method.adapter_parameters(layers) == trained
        method.detach(tiny_model)
