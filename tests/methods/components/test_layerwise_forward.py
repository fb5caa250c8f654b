"""Calibration holds one decoder layer's covariances, however deep the model is, and changes no bit by that."""

from __future__ import annotations

import weakref
from types import SimpleNamespace

import pytest
import torch

from benchmarks.errors import UserError
from harness.models.llava import LlavaModel
from helpers.tiny import conversations, write_tiny_model
from methods.components import covariance, input_moments
from methods.components.covariance import covariances
from methods.components.kore_init import initial_factors
from methods.components.krylov import blockwise_matmul, solver_in_place, symmetrized_copy
from methods.components.layerwise_forward import decoder_layers, first_layer_inputs
from methods.components.null_space import eigenvectors_in_place

PROMPTS = [sample for sample in conversations(24, seed=4) if len(sample.pictures) <= 1][:10]


def model_of(folder, layers):
    path = write_tiny_model(folder / str(layers), num_hidden_layers=layers)
    return LlavaModel.load(path, torch.device("cpu"), torch.float32)


@pytest.fixture
def alive(monkeypatch):
    """Sums that are referred to, and the most that ever were."""
    seen = SimpleNamespace(now=weakref.WeakSet(), most=0)
    honest = input_moments._zeros

    def noted(layer):
        made = honest(layer)
        seen.now.add(made)
        seen.most = max(seen.most, len(seen.now))
        return made

    monkeypatch.setattr(input_moments, "_zeros", noted)
    return seen


@pytest.mark.parametrize("layers", [2, 5])
def test_four_covariances_are_alive_at_once_whatever_the_depth(layers, alive, tmp_path):
    made = initial_factors(model_of(tmp_path, layers), covariances(model_of(tmp_path, layers), PROMPTS), 4)
    assert sum(name.endswith(".A") for name in made) == 7 * layers
    assert alive.most == 4


def test_control_whoever_keeps_them_all_has_them_all(alive, tmp_path):
    kept = list(covariances(model_of(tmp_path, 5), PROMPTS))
    assert len(kept) == alive.most == 4 * 5


def test_nothing_runs_before_a_covariance_is_asked_for(tiny_model):
    ran = []
    layers = [layer for layer, _ in decoder_layers(tiny_model)]
    for number, layer in enumerate(layers):
        layer.self_attn.register_forward_pre_hook(lambda *_, number=number: ran.append(number))
    parts = covariances(tiny_model, PROMPTS)
    assert ran == []
    first = [next(parts) for _ in range(4)]
    assert set(ran) == {0}
    assert len(list(parts)) == len(first)
    assert set(ran) == {0, 1}


def test_layer_by_layer_is_the_model_bit_for_bit(tiny_model):
    batch = tiny_model.prompt_batch(PROMPTS[:4])
    inputs = []
    layers = [layer for layer, _ in decoder_layers(tiny_model)]
    handles = [layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0].clone())) for layer in layers]
    with torch.no_grad():
        tiny_model.module(**batch, use_cache=False)
        for handle in handles:
            handle.remove()
        state = first_layer_inputs(tiny_model, batch, layers)
        for number, layer in enumerate(layers):
            assert torch.equal(state.hidden, inputs[number])
            state.forward(layer, number)
    assert not torch.equal(inputs[0], inputs[1])


@pytest.mark.parametrize("norm", ["token-mean", "official"])
def test_long_prompts_go_in_smaller_parts(norm, tiny_model, monkeypatch):
    whole = list(covariances(tiny_model, PROMPTS, norm))
    sizes = []
    honest = tiny_model.prompt_batch
    monkeypatch.setattr(tiny_model, "prompt_batch", lambda some: sizes.append(len(some)) or honest(some))
    monkeypatch.setattr(covariance, "TOKENS", 100)
    monkeypatch.setattr(input_moments, "CHUNK", 7)
    parts = list(covariances(tiny_model, PROMPTS, norm))
    assert 1 < max(sizes) < len(PROMPTS)
    for one, other in zip(whole, parts, strict=True):
        assert one.layers == other.layers
        assert torch.allclose(one.covariance, other.covariance, rtol=1e-4, atol=1e-5 * float(one.covariance.max()))


def test_a_decoder_that_does_more_between_its_layers_is_refused(tiny_model):
    layers = [layer for layer, _ in decoder_layers(tiny_model)]
    batch = tiny_model.prompt_batch(PROMPTS[:1])
    tiny_model.module.model.language_model.layers[1].register_forward_pre_hook(lambda _, given: (given[0] + 1,))
    with pytest.raises(TypeError, match="between its layers"):
        first_layer_inputs(tiny_model, batch, layers)
    assert not any("forward" in vars(layer) for layer in layers)


def test_a_target_outside_of_any_layer_is_refused(tiny_model):
    stray = SimpleNamespace(module=tiny_model.module, linear_targets="lm_head")
    with pytest.raises(UserError, match="list of decoder layers"):
        decoder_layers(stray)


def test_blockwise_algebra_is_the_plain_one(monkeypatch):
    monkeypatch.setattr("methods.components.krylov.ROWS", 16)
    monkeypatch.setattr("methods.components.input_moments.BLOCK", 16)
    draw = torch.Generator().manual_seed(0)
    square = torch.randn(50, 50, generator=draw)
    block = torch.randn(50, 3, generator=draw, dtype=torch.float64)
    exact = square.double()
    assert torch.equal(symmetrized_copy(square), (exact + exact.T) / 2)
    assert torch.equal(square.double(), exact), "the original is left alone"
    assert torch.allclose(blockwise_matmul(square, block), exact @ block, rtol=1e-12)
    input_moments.symmetrize_(square)
    assert torch.equal(square, (exact.tril() + exact.tril(-1).T).float())


def test_what_an_accelerator_does_works_in_place():
    """The same torch calls on the processor: right, and without a second matrix."""
    draw = torch.Generator().manual_seed(0)
    square = torch.randn(50, 50, generator=draw, dtype=torch.float64)
    positive, block = square @ square.T + torch.eye(50), torch.randn(50, 3, generator=draw, dtype=torch.float64)
    factor = positive.clone()
    solve = solver_in_place(factor)
    assert torch.allclose(positive @ solve(block), block, rtol=1e-8, atol=1e-8)
    assert torch.allclose(factor.T, torch.linalg.cholesky(positive)), "the factor is where the matrix was"
    assert solver_in_place(positive - 100 * torch.eye(50)) is None
    vectors = eigenvectors_in_place(symmetrized_copy(positive).mT)
    values = (vectors * (positive @ vectors)).sum(0)
    assert torch.allclose(positive @ vectors, vectors * values)
    assert torch.all(values[1:] >= values[:-1])
    place = symmetrized_copy(positive)
    assert eigenvectors_in_place(place.mT).data_ptr() == place.data_ptr()
    assert not torch.equal(place, positive)
