"""ADEPT: copied layers are those of a deeper model, and the rates follow the importance."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaModel

from benchmarks.errors import UserError
from harness.models import greedy
from harness.models.registry import load_model
from helpers.missing_libraries import replace_missing_libraries
from helpers.plain_loop import attach, logits_of, make, same, train, weights_of
from helpers.published_models import write_qwen
from helpers.tiny import conversation, conversations
from helpers.tiny_architectures import write
from methods.components.layer_expansion import (
    copied_parameters,
    copies,
    expand,
    layer_names,
    least_critical,
    silent_values,
)
from methods.components.lora_layers import linear_shapes
from methods.components.peft_adapter import peft_adapter
from methods.components.unit_importance import importances, losses_without_layers, rate_weights, reweighted_step

SAMPLES = [sample for sample in conversations(12, seed=1) if len(sample.pictures) == 1][:4]


def expanded(model, *numbers: int) -> None:
    """Copies of the layers with these numbers, all of whose parameters are random."""
    names = layer_names(model)
    expand(model, [names[number] for number in numbers], trained=True, projector=False)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in copied_parameters(model.module).values():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=draw).to(parameter))


@pytest.mark.parametrize("numbers", [(0,), (1,), (0, 1)])
def test_it_is_the_deeper_model_that_the_authors_write(numbers, tiny_model):
    """Against a list of more layers, filled as expand.py does: layer, copy, next layer."""
    base = copy.deepcopy(tiny_model.decoder)
    expanded(tiny_model, *numbers)
    weights = {"embed_tokens.weight": base.embed_tokens.weight, "norm.weight": base.norm.weight}
    depth = 0
    for number, layer in enumerate(base.layers):
        added = copies(tiny_model.module).get(layer_names(tiny_model)[number])
        for source in (layer, added) if number in numbers else (layer,):
            weights |= {f"layers.{depth}.{name}": value for name, value in source.state_dict().items()}
            depth += 1
    deeper = LlamaModel(type(base.config)(**{**base.config.to_dict(), "num_hidden_layers": depth})).eval()
    deeper.load_state_dict(weights)
    inputs = torch.randn(2, 7, base.config.hidden_size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, theirs, before = (each(inputs_embeds=inputs)[0] for each in (tiny_model.decoder, deeper, base))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(ours, before, atol=1e-2)  # control


@pytest.mark.parametrize("numbers", [(0,), (1,), (0, 1)])
def test_each_copy_has_a_cache_of_its_own(numbers, tiny_model, monkeypatch):
    """A prompt and a token after it, with keys and values kept, against the whole row at once."""
    expanded(tiny_model, *numbers)
    decoder, draw = tiny_model.decoder, torch.Generator().manual_seed(1)
    inputs = torch.randn(2, 8, decoder.config.hidden_size, generator=draw)
    mask = torch.ones(2, 8, dtype=torch.long)
    positions = greedy.default_position_ids(mask)

    def first_and_second():
        start = inputs[:, :7], mask[:, :7], positions[:, :7], greedy.PrefixCache()
        first, _, cache = greedy.prefill(decoder, *start)
        assert len(cache.layers) == 2 + len(numbers)
        return first, greedy._last_hidden(decoder, inputs[:, 7:], mask, positions[:, 7:], cache)

    with torch.no_grad():
        whole = decoder(inputs_embeds=inputs).last_hidden_state
        first, second = first_and_second()
        torch.testing.assert_close(first, whole[:, 6], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(second, whole[:, 7], rtol=1e-5, atol=1e-5)
        monkeypatch.setattr(greedy, "_last_layer", lambda decoder: decoder.layers[-1])  # control
        first, _ = first_and_second()
        assert torch.allclose(first, whole[:, 6], atol=1e-4) == (1 not in numbers)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen2.5-vl", "qwen3-vl", "gemma3", "qwen3.5"])
def test_other_families_answer_with_the_cache_as_without(name, tmp_path):
    """Rotations in three dimensions, features added behind layers, sliding windows, linear attention."""
    replace_missing_libraries()
    folder = write_qwen(tmp_path) if name == "qwen2.5-vl" else write(name, tmp_path)
    model = load_model(folder, torch.device("cpu"), torch.float32)
    base, sample = weights_of(model), conversation(3)
    before, settings = logits_of(model, [sample]), model.inner.config.get_text_config().to_dict()
    batch = model.generation_batch([([sample.turns[0].text], sample.pictures)])
    method = make("adept", copies=2)
    attach(method, model)
    assert torch.equal(logits_of(model, [sample]), before)
    method.detach(model)
    expanded(model, 0, len(layer_names(model)) - 1)
    assert not torch.allclose(logits_of(model, [sample]), before, atol=1e-3)
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": -1}
    with_cache, without = (model.inner.generate(**batch, **options, use_cache=kept) for kept in (True, False))
    assert torch.equal(with_cache, without)
    method.detach(model)
    assert same(weights_of(model), base)
    assert model.inner.config.get_text_config().to_dict() == settings


def test_a_layer_is_left_out_as_if_its_parameters_were_zero(exact_model):
    """Against the authors' code, which sets them to 0 and measures the loss."""
    losses = losses_without_layers(exact_model, SAMPLES)
    whole, tokens = torch.zeros(3, dtype=torch.float64), 0
    for number, name in enumerate((None, *layer_names(exact_model))):
        changed = copy.deepcopy(exact_model.module.state_dict())
        parameters = exact_model.module.get_submodule(name).parameters() if name else ()
        with torch.no_grad():
            for parameter in parameters:
                parameter.zero_()
            for sample in SAMPLES:
                logits, targets = exact_model.supervised(exact_model.training_batch([sample]))
                whole[number] += cross_entropy(logits, targets, reduction="sum")
                tokens += len(targets)
        exact_model.module.load_state_dict(changed)
    torch.testing.assert_close(losses, whole / (tokens / 3), rtol=1e-12, atol=1e-12)
    assert len(set(losses.tolist())) == 3  # control: each layer matters


def test_the_layers_that_are_missed_least_are_copied(tiny_model):
    assert least_critical([3.0, 1.0, 2.0, 1.0], 3) == [1, 3, 2]
    names = layer_names(tiny_model)
    for losses, chosen in (([2.0, 3.0, 2.5], names[1]), ([2.0, 2.5, 3.0], names[0])):
        method = make("adept", copies=1)
        method.attach(tiny_model, {"losses": torch.tensor(losses)})
        assert list(copies(tiny_model.module)) == [chosen]
        method.detach(tiny_model)


def test_importance_and_weights_are_those_of_the_formula(exact_model):
    expanded(exact_model, 1)
    parameters = copied_parameters(exact_model.module)
    found = importances(exact_model, SAMPLES, parameters)
    gradients = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    for sample in SAMPLES:
        logits, targets = exact_model.supervised(exact_model.training_batch([sample]))
        (-logits.log_softmax(-1)[range(len(targets)), targets].mean()).backward()
        for name, parameter in parameters.items():
            gradients[name] += parameter.grad.abs() / len(SAMPLES)
            parameter.grad = None
    literal = [
        float((parameters[name].detach().abs() * gradients[name]).sum() / parameters[name].numel())
        for name in parameters
    ]
    torch.testing.assert_close(found, torch.tensor(literal, dtype=torch.float64), rtol=1e-10, atol=0)
    low, high = min(literal), max(literal)
    expected = torch.tensor([2 * (high - each) / (high - low) for each in literal], dtype=torch.float64)
    torch.testing.assert_close(rate_weights(found), expected, rtol=1e-9, atol=1e-12)
    assert (float(expected.min()), float(expected.max())) == (0.0, 2.0)
    assert torch.equal(rate_weights(torch.zeros(3)), torch.ones(3))


def test_a_weighted_step_is_one_of_adamw_with_weighted_rates(exact_model, monkeypatch):
    """Both optimisers get the same gradients, in float64, with weight decay; without weights is the control."""
    from methods.components import unit_importance

    importance = torch.tensor([0.5, 3.0, 1.0], dtype=torch.float64)
    monkeypatch.setattr(unit_importance, "importances", lambda *_: importance)
    start = [torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) for n in range(3)]

    def run(how: str) -> list[torch.Tensor]:
        parameters = {str(n): torch.nn.Parameter(each.clone()) for n, each in enumerate(start)}
        optimiser = torch.optim.AdamW([{"params": [p], "lr": 0.1} for p in parameters.values()], weight_decay=0.2)
        draw, state = torch.Generator().manual_seed(9), {}
        for step in range(6):
            if how == "rates" and step == 2:
                for group, weight in zip(optimiser.param_groups, rate_weights(importance).tolist(), strict=True):
                    group["lr"] *= weight
            for parameter in parameters.values():
                parameter.grad = torch.randn(4, 3, dtype=torch.float64, generator=draw)
            optimiser.step()
            if how == "steps":
                with torch.no_grad():
                    state = reweighted_step(exact_model, SAMPLES, parameters, state, due=step == 1)
        return [parameter.detach() for parameter in parameters.values()]

    ours, theirs, plain = run("steps"), run("rates"), run("plain")
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(ours[0], plain[0])


def test_weights_set_anew_change_what_is_learnt(tiny_model):
    """From the step after they were set on: with ``reweight_every`` 2, the third."""
    losses = {}
    for every in (0, 2):
        method = make("adept", reweight_every=every)
        attach(method, tiny_model)
        losses[every] = train(method, tiny_model, SAMPLES, steps=5)
        method.detach(tiny_model)
    assert losses[0][:3] == losses[2][:3]
    assert losses[0][3:] != losses[2][3:]


def test_only_copies_and_projector_are_trained_and_exported(tiny_model):
    base = weights_of(tiny_model)
    for rate in (1e-3, 0.0):
        method = make("adept", projector_learning_rate=rate)
        attach(method, tiny_model)
        train(method, tiny_model, SAMPLES)
        names = method.export(tiny_model).keys()
        assert {name for name in names if ".expansion." in name} == set(copied_parameters(tiny_model.module))
        others = [name for name in names if ".expansion." not in name]
        assert all("projector" in name for name in others)
        assert bool(others) == (rate > 0)
        with pytest.raises(UserError, match=r"adds 1 decoder layers, which neither PEFT nor a merged weight"):
            peft_adapter(tiny_model)
        method.detach(tiny_model)
        assert same(weights_of(tiny_model), base)


def test_half_of_an_update_is_half_of_what_the_copies_add(tiny_model):
    method = make("adept", projector_learning_rate=0.0)
    attach(method, tiny_model)
    train(method, tiny_model, SAMPLES)
    exported = method.export(tiny_model)
    method.detach(tiny_model)
    half = method.scale_update(tiny_model, exported, 0.5)
    added = {name for name in exported if "o_proj" in name or "down_proj" in name}
    assert len(added) == 2
    assert all(torch.equal(half[name], exported[name] * (0.5 if name in added else 1.0)) for name in exported)


def test_what_is_silenced_depends_on_where_a_layer_has_norms(tmp_path):
    from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    def layer(norm, *outputs: str) -> torch.nn.Module:
        parts = {"attn": torch.nn.ModuleDict({outputs[0]: torch.nn.Linear(2, 2)}), "post_attention_layernorm": norm(2)}
        parts |= {"mlp": torch.nn.ModuleDict({outputs[1]: torch.nn.Linear(2, 2, bias=False)})}
        return torch.nn.ModuleDict(parts | ({"post_feedforward_layernorm": norm(2)} if len(outputs) > 2 else {}))

    plain = {"attn.o_proj.weight": 0.0, "attn.o_proj.bias": 0.0, "mlp.down_proj.weight": 0.0}
    assert silent_values(layer(LlamaRMSNorm, "o_proj", "down_proj")) == plain
    gains = ("post_attention_layernorm.weight", "post_feedforward_layernorm.weight")
    assert silent_values(layer(Gemma3RMSNorm, "o_proj", "down_proj", "norms")) == dict.fromkeys(gains, -1.0)
    assert silent_values(layer(LlamaRMSNorm, "o_proj", "down_proj", "norms")) == dict.fromkeys(gains, 0.0)
    with pytest.raises(UserError, match="no output projections of attention and MLP"):
        silent_values(layer(LlamaRMSNorm, "o_proj", "fc2"))


def test_bad_input_is_refused_before_anything_is_computed(tiny_model):
    make("adept", copies=2).validate_layers(linear_shapes(tiny_model))
    with pytest.raises(UserError, match="3 copies of 2 decoder layers") as raised:
        make("adept", copies=3).validate_layers(linear_shapes(tiny_model))
    assert raised.value.location == "setting copies"
    with pytest.raises(UserError, match="copies cannot be 0"):
        make("adept", copies=0)
    with pytest.raises(UserError, match=r"there is no decoder layer model\.layers\.7"):
        make("adept").restore(tiny_model, {"model.layers.7.expansion.mlp.down_proj.weight": torch.zeros(1)})
    next(tiny_model.decoder.layers[1].parameters()).quant_state = object()
    with pytest.raises(UserError, match="quantised layers cannot be trained"):
        expand(tiny_model, layer_names(tiny_model)[1:], trained=True, projector=True)
    expand(tiny_model, layer_names(tiny_model)[:1], trained=True, projector=False)
    with pytest.raises(UserError, match="copied already"):
        expand(tiny_model, layer_names(tiny_model)[:1], trained=True, projector=False)


def test_the_forecast_counts_the_copies(shapes_of_7b):
    from methods.base import DecoderShapes

    linears = linear_shapes(shapes_of_7b)
    needs = make("adept", copies=4).memory_needs(DecoderShapes(linears, 32, 0, 100))
    assert needs.trained == 4 * (4 * 4096**2 + 3 * 4096 * 11008) + 100
    assert needs.frozen == needs.trained - 100
    assert make("adept:equal-rates").memory_needs(DecoderShapes(linears, 32, 0, 100)).frozen == 0
