"""Methods that start LoRA's factors at values computed from the base: the start is the paper's, and W0 is untouched.

The oracle reads each layer's inputs itself, in float64, and follows the paper's recipe with full decompositions.
"""

from __future__ import annotations

import pytest
import torch

from benchmarks.errors import UserError
from helpers.plain_loop import RANK, FakeResources, attach, logits_of, make, same, train, weights_of
from helpers.tiny import conversations
from methods.components import lora_layers as adapters
from methods.components.corda_init import least_components
from methods.components.initialized_lora import START
from methods.registry import registered

SAMPLES = conversations(8, seed=1)


@torch.no_grad()
def inputs_of_layers(model, prompts):
    """(tokens, d_in) by layer, without padding."""
    batch, seen = model.prompt_batch(prompts), {}
    chosen = batch["attention_mask"].bool()

    def remember(name):
        return lambda layer, inputs: seen.update({name: inputs[0][chosen].clone()})

    handles = [layer.register_forward_pre_hook(remember(name)) for name, layer in adapters.target_layers(model).items()]
    model.module(**batch)
    for handle in handles:
        handle.remove()
    return seen


def lora_null(weight, inputs):
    """W0 P with P from the last r left singular vectors of X X^T."""
    null = torch.linalg.svd(inputs.T @ inputs)[0][:, -RANK:]
    return weight @ null @ null.T


def corda(weight, inputs):
    """W0 without the components of W0 C that are largest, taken back through C^-1."""
    covariance = inputs.T @ inputs / len(inputs)
    damped = covariance + 0.01 * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=covariance.dtype)
    u, s, vt = torch.linalg.svd(weight @ damped, full_matrices=False)
    largest = (u[:, :-RANK] * s[:-RANK]) @ vt[:-RANK]
    return weight - largest @ torch.linalg.inv(damped)


def astra(weight, inputs, least=True):
    """Q Q^T W0 with Q of the outputs themselves."""
    directions = torch.linalg.svd(weight @ inputs.T)[0]
    chosen = directions[:, -RANK:] if least else directions[:, :RANK]
    return chosen @ chosen.T @ weight


def astra_ipm(weight, inputs):
    return astra(weight, inputs, least=False)


STARTS = {"lora-null": lora_null, "corda": corda, "astra": astra, "astra:ipm": astra_ipm}
"""The product B0 A0 of each method that trains both factors, by the paper's formula."""


@pytest.mark.parametrize("row", STARTS)
def test_the_start_is_the_papers_and_the_weights_stay_as_they_are(row, exact_model):
    resources = FakeResources()
    inputs = inputs_of_layers(exact_model, resources.pool_samples(24, "calibration"))
    weights, before = weights_of(exact_model), logits_of(exact_model, SAMPLES)
    attach(make(row, norm="token-mean"), exact_model, resources)
    shares = []
    for name, layer in adapters.lora_layers(exact_model.module):
        wanted = STARTS[row](layer.base_layer.weight, inputs[name])
        for adapter in (adapters.TRAINED, START):
            a, b = adapters.lora_ab(layer, adapter)
            assert float((b @ a - wanted).detach().norm() / layer.base_layer.weight.norm()) < 1e-8, name
        shares.append(float(wanted.norm() / layer.base_layer.weight.norm()))
        assert torch.equal(layer.base_layer.weight, weights[f"{name}.weight"])
    assert max(shares) > 0.01, "control: there is a start"
    assert float((logits_of(exact_model, SAMPLES) - before).abs().max()) < 1e-10


@pytest.mark.parametrize("row", STARTS)
def test_it_trains_as_the_paper_writes_it(row, exact_model):
    """Against W0 - B0 A0 in the weights and both factors trained from A0 and B0."""
    method, resources = make(row, projector_learning_rate=0.0), FakeResources()
    start = attach(method, exact_model, resources)
    train(method, exact_model, SAMPLES)
    ours = logits_of(exact_model, SAMPLES)
    method.detach(exact_model)
    untouched = logits_of(exact_model, SAMPLES)

    adapters.attach_lora(exact_model, method.settings, scaling=1.0)
    for name, layer in adapters.lora_layers(exact_model.module):
        a, b = adapters.lora_ab(layer)
        a.data.copy_(start[f"{name}.A"])
        b.data.copy_(start[f"{name}.B"])
        layer.base_layer.weight.data -= b.data @ a.data
    train(method, exact_model, SAMPLES)
    paper = logits_of(exact_model, SAMPLES)
    assert float((paper - untouched).abs().max()) > 0.1, "control: it has learned"
    assert float((paper - ours).abs().max()) < 1e-8


@pytest.mark.parametrize("row", STARTS)
def test_the_start_is_computed_once_for_what_it_depends_on(row, tiny_model):
    resources = FakeResources()
    for count, changes in enumerate(({}, {"rank": 2}, {"norm": "official"}, {"calibration_samples": 12}), 1):
        for rate in (1e-2, 1e-3):
            make(row, learning_rate=rate, **{"norm": "token-mean", **changes}).prepare(tiny_model, resources)
            assert len(resources.store) == count
    assert {purpose for _, purpose in resources.asked} == {"calibration"}


@pytest.mark.parametrize("row", STARTS)
def test_a_rank_above_a_layer_s_is_refused(row, tiny_model):
    with pytest.raises(UserError, match="choose a smaller rank"):
        make(row, rank=33).prepare(tiny_model, FakeResources())


@pytest.mark.parametrize(("row", "of_kore"), [("lora-null", "kore:unfrozen-a"), ("lora-null:v2", "kore")])
def test_lora_null_is_kores_constraint(row, of_kore, tiny_model):
    results = []
    for name in (row, of_kore, "lora"):
        method = make(name)
        attach(method, tiny_model)
        results.append((train(method, tiny_model, SAMPLES), method.export(tiny_model)))
        method.detach(tiny_model)
    (mine, tensors), (theirs, others), (plain, _) = results
    assert mine == theirs
    assert same(tensors, others)
    assert mine != plain, "control: LoRA trains another way"


@pytest.mark.parametrize(("d_out", "d_in"), [(20, 12), (12, 20)])
def test_corda_starts_where_peft_starts(d_out, d_in):
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora.config import CordaConfig
    from peft.tuners.lora.corda import preprocess_corda

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(d_in, d_out, bias=False))
    weight, samples = module[0].weight.detach().clone(), [torch.randn(1, 40, d_in) for _ in range(8)]
    normalised = [(sample[0] / sample.max().abs()).double() for sample in samples]
    covariance = sum(sample.T @ sample for sample in normalised) / len(samples)
    covariance.diagonal().add_(0.01 * covariance.diagonal().mean())
    b, a = least_components(weight, covariance, RANK)

    choice = {"corda_config": CordaConfig(corda_method="kpm"), "init_lora_weights": "corda"}
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=["0"], **choice)
    preprocess_corda(module, config, run_model=lambda: [module(sample) for sample in samples])
    theirs = get_peft_model(module, config).base_model.model[0]
    their_a, their_b = (factor.detach().double() for factor in adapters.lora_ab(theirs))
    torch.testing.assert_close(b @ a, their_b @ their_a, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(b.T @ b, their_b.T @ their_b, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(weight - (b @ a).float(), theirs.base_layer.weight.detach(), rtol=1e-3, atol=1e-5)
    largest = torch.linalg.svd(weight.double() @ covariance)[0][:, :RANK]
    assert float((largest.T @ b).norm()) < 1e-6 * float(b.norm()), "control: not the largest components"


def test_over_a_frozen_a_decay_and_dropout_are_refused():
    settings = registered()["lora-null"].Settings
    for bad in ({"weight_decay": 0.01}, {"dropout": 0.05}):
        with pytest.raises(UserError, match="must be 0"):
            settings(freeze_a=True, **bad)
        settings(**bad)  # control: with both factors trained the paper's form has them, too


def test_only_trained_parameters_count():
    layers = [(64, 32), (32, 128)]
    assert make("lora-null").adapter_parameters(layers) == RANK * (64 + 32 + 32 + 128)
    assert make("lora-null:v2").adapter_parameters(layers) == RANK * (32 + 128)
