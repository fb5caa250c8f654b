"""What calibration sees: each distinct input once, every token once, padding never."""

from __future__ import annotations

import pytest
import torch

from benchmarks.errors import UserError
from benchmarks.records import content_digest
from helpers.tiny import conversation, conversations
from methods.components.covariance import covariances
from methods.components.kore_init import initial_factors
from methods.components.lora_layers import target_layers
from methods.components.null_space import energy_share

PROMPTS = [sample for sample in conversations(24, seed=4) if len(sample.pictures) <= 1][:10]


def literal(model, prompts, norm="token-mean"):
    """One covariance for each linear layer, one prompt at a time."""
    layers = target_layers(model)
    sums = {name: torch.zeros(layer.in_features, layer.in_features) for name, layer in layers.items()}
    tokens = 0

    def adding(name):
        def hook(_, inputs):
            x = inputs[0][0]
            if norm == "official":
                x = x / x.max().abs()
            sums[name] += x.T @ x

        return hook

    handles = [layer.register_forward_pre_hook(adding(name)) for name, layer in layers.items()]
    with torch.no_grad():
        for prompt in prompts:
            batch = model.prompt_batch([prompt])
            tokens += batch["input_ids"].numel()
            model.module(**batch)
    for handle in handles:
        handle.remove()
    return {name: total / (256 if norm == "official" else tokens) for name, total in sums.items()}


def by_layer(shared):
    return {name: part.covariance for part in shared for name in part.layers}


def test_four_inputs_a_layer_serve_seven_linear_layers(tiny_model):
    groups = [part.layers for part in covariances(tiny_model, PROMPTS[:1])]
    assert len(groups) == 4 * 2
    first = [[name.split(".")[-1] for name in group] for group in groups[:4]]
    assert first == [["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]]
    assert {name for group in groups for name in group} == target_layers(tiny_model).keys()


@pytest.mark.parametrize("norm", ["token-mean", "official"])
def test_shared_and_batched_equals_literal(norm, tiny_model):
    wanted = literal(tiny_model, PROMPTS, norm)
    found = by_layer(covariances(tiny_model, PROMPTS, norm))
    assert found.keys() == wanted.keys()
    for name, covariance in found.items():
        assert torch.allclose(covariance, wanted[name], rtol=1e-3, atol=1e-5 * float(wanted[name].abs().max())), name


def test_padding_counts_for_nothing(tiny_model, monkeypatch):
    lengths = {int(tiny_model.prompt_batch([prompt])["attention_mask"].sum()) for prompt in PROMPTS}
    assert len(lengths) > 1
    alone, together = (by_layer(covariances(tiny_model, PROMPTS, batch_size=size)) for size in (1, 16))
    assert all(torch.allclose(alone[name], together[name], atol=1e-4) for name in alone)
    honest = tiny_model.prompt_batch

    def unmasked(prompts):
        return {**honest(prompts), "attention_mask": torch.ones_like(honest(prompts)["attention_mask"])}

    monkeypatch.setattr(tiny_model, "prompt_batch", unmasked)
    wrong = by_layer(covariances(tiny_model, PROMPTS))
    assert not all(torch.allclose(alone[name], wrong[name], atol=1e-4) for name in alone)  # control


def test_answers_are_not_seen(tiny_model):
    one, other = conversation(1, words=3), conversation(1, words=9)
    assert one.turns[0] == other.turns[0]
    assert one.turns[1] != other.turns[1]
    first, second = (by_layer(covariances(tiny_model, [sample])) for sample in (one, other))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_model_is_left_as_it_was(tiny_model):
    tiny_model.module.train()
    parts = covariances(tiny_model, PROMPTS[:2])
    next(parts)
    assert tiny_model.module.training, "between two layers too"
    assert torch.is_grad_enabled()
    list(parts)
    assert tiny_model.module.training
    assert not any("forward" in vars(part) for part in tiny_model.module.modules())
    assert not any(layer._forward_pre_hooks for layer in target_layers(tiny_model).values())


def test_no_prompts_and_infinite_activations_are_refused(tiny_model):
    with pytest.raises(UserError, match="no calibration samples"):
        covariances(tiny_model, [])
    tiny_model.module.get_input_embeddings().weight.data.fill_(float("inf"))
    with pytest.raises(UserError, match="not finite"):
        list(covariances(tiny_model, PROMPTS[:2]))


def test_controls_keep_the_norm_and_change_the_directions(tiny_model):
    shared = list(covariances(tiny_model, PROMPTS))
    null, random, top = (initial_factors(tiny_model, shared, 4, kind) for kind in ("null", "random", "top"))
    for part in shared:
        for name in part.layers:
            norms = [float(made[f"{name}.A"].norm()) for made in (null, random, top)]
            assert norms == pytest.approx([norms[0]] * 3, rel=1e-4)
            leaks = [float(made[f"{name}.leaked"]) for made in (null, random, top)]
            assert leaks == sorted(leaks)
            assert leaks[0] < 0.1 < leaks[2]
            a = null[f"{name}.A"].double()
            rows = torch.linalg.qr(a.T)[0]
            assert energy_share(part.covariance, rows) == pytest.approx(leaks[0], rel=1e-2, abs=1e-9)
            assert torch.linalg.matrix_rank(a) == 4
    again, other = (initial_factors(tiny_model, shared, 4, "random", seed) for seed in (0, 1))
    assert all(torch.equal(again[name], random[name]) for name in random)
    assert not all(torch.equal(other[name], random[name]) for name in random)


def test_digest_follows_the_content():
    assert content_digest(PROMPTS) == content_digest(list(PROMPTS))
    assert content_digest(PROMPTS) != content_digest(PROMPTS[::-1])
    assert content_digest(PROMPTS) != content_digest(PROMPTS[:-1])
