"""OFT: what a rotation keeps, and that PEFT loads what was trained here."""

from __future__ import annotations

import pytest
import torch

from benchmarks.errors import UserError
from helpers.plain_loop import attach, logits_of, make, train, weights_of
from helpers.tiny import conversations
from methods.components.lora_layers import target_layers
from methods.components.peft_adapter import load_peft, peft_adapter

SAMPLES = conversations(8, seed=1)


@torch.no_grad()
def effective_weights(model, names):
    """The matrix that each layer multiplies with, without its bias."""
    layers = {name: model.module.get_submodule(name) for name in names}
    zero = {name: layer(torch.zeros(1, layer.in_features).double()) for name, layer in layers.items()}
    return {name: (layer(torch.eye(layer.in_features).double()) - zero[name]).T for name, layer in layers.items()}


def rotation(skew_entries, size, width):
    """R = (I - Q)(I + Q)^-1 for each block, from the entries of Q above its diagonal."""
    full = torch.zeros(width, width, dtype=torch.float64)
    rows, columns = torch.triu_indices(size, size, 1)
    for number, entries in enumerate(skew_entries):
        q = torch.zeros(size, size, dtype=torch.float64)
        q[rows, columns] = entries.double()
        q = q - q.T
        block = slice(number * size, (number + 1) * size)
        full[block, block] = (torch.eye(size).double() - q) @ torch.linalg.inv(torch.eye(size).double() + q)
    return full


@pytest.mark.parametrize("row", ["oft", "oft:v2", "lora"])
def test_lengths_and_angles_of_a_layers_rows_stay(row, exact_model):
    names = list(target_layers(exact_model))
    weights, before = weights_of(exact_model), logits_of(exact_model, SAMPLES)
    method = make(row, learning_rate=1e-2)
    attach(method, exact_model)
    assert float((logits_of(exact_model, SAMPLES) - before).abs().max()) < 1e-12, "at the start"
    train(method, exact_model, SAMPLES)
    assert float((logits_of(exact_model, SAMPLES) - before).abs().max()) > 0.1, "control: it has learned"
    trained, errors = effective_weights(exact_model, names), []
    for name in names:
        weight = weights[f"{name}.weight"]
        assert torch.equal(exact_model.module.get_submodule(name).base_layer.weight, weight)
        errors.append(float((trained[name] @ trained[name].T - weight @ weight.T).abs().max()))
        if row == "oft":
            entries = method.export(exact_model)[f"{name}.oft_R.weight"]
            expected = weight @ rotation(entries, 16, weight.shape[1]).T
            assert torch.allclose(trained[name], expected, atol=1e-10)
    assert max(errors) < 1e-10 if row == "oft" else max(errors) > 1e-7


def test_the_export_is_what_peft_loads(tiny_model):
    method = make("oft", learning_rate=1e-2)
    attach(method, tiny_model)
    train(method, tiny_model, SAMPLES)
    learnt, portable = logits_of(tiny_model, SAMPLES), peft_adapter(tiny_model)
    without = peft_adapter(tiny_model, projector=False)
    method.detach(tiny_model)
    assert not torch.allclose(logits_of(tiny_model, SAMPLES), learnt, atol=1e-3), "control"
    load_peft(tiny_model, portable.config, portable.tensors)
    assert torch.equal(logits_of(tiny_model, SAMPLES), learnt)
    method.detach(tiny_model)
    assert portable.tensors.keys() - without.tensors.keys() == {n for n in portable.tensors if "projector" in n}
    assert without.config.modules_to_save is None


def test_one_block_size_divides_all_layers(tiny_model):
    widths = [(layer.in_features, layer.out_features) for layer in target_layers(tiny_model).values()]
    assert {d_in for d_in, _ in widths} == {32, 48}
    for asked, used in ((32, 16), (16, 16), (12, 8), (2, 2)):
        method = make("oft", block_size=asked, projector_learning_rate=0.0)
        attach(method, tiny_model)
        trained = sum(parameter.numel() for parameter in tiny_model.module.parameters() if parameter.requires_grad)
        method.detach(tiny_model)
        assert method.adapter_parameters(widths) == trained == sum(d_in for d_in, _ in widths) * (used - 1) // 2
    with pytest.raises(UserError, match=r"no block of 2 to 32 inputs .* \(37 does\)"):
        make("oft", block_size=32).adapter_parameters([(37, 8), (74, 8)])
