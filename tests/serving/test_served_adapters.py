"""Adapters for vLLM: what is attached as one plain LoRA, and why something cannot be one."""

from __future__ import annotations

import json

import pytest
import torch
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraModel
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from harness.serving.adapter import PEFT_PREFIX, adapter_rank, base_digest, find_obstacle, served_adapter, write_adapter
from harness.serving.engine import served_rank
from helpers.plain_loop import FakeResources, attach, make
from helpers.tiny import conversation
from methods.components.lora_layers import (
    add_frozen_adapter,
    attach_lora,
    detach_adapter,
    insert_tuner,
    lora_ab,
    lora_layers,
)
from methods.components.peft_adapter import load_peft

ROWS = ("lora", "kore", "kore:unfrozen-a", "replay", "sefe", "o-lora")


def attached(row, model, **changes):
    """A row's adapter with random factors, so that each of them matters."""
    method = make(row, **changes)
    attach(method, model, FakeResources())
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, layer in lora_layers(model.module):
            for adapter in layer.lora_A:
                for factor in lora_ab(layer, adapter):
                    factor.copy_(torch.randn(factor.shape, generator=draw) / 10)
    model.module.eval()
    return method


def updates(model):
    """The sum of scaling x B A of every layer, in float64, by PEFT's own dictionaries."""
    return {
        name: sum(
            layer.scaling[adapter]
            * layer.lora_B[adapter].weight.detach().double()
            @ layer.lora_A[adapter].weight.detach().double()
            for adapter in layer.active_adapters
        )
        for name, layer in lora_layers(model.module)
    }


def served_updates(tensors):
    names = [name.removesuffix(".lora_A.weight") for name in tensors if name.endswith(".lora_A.weight")]
    return {
        name.removeprefix(PEFT_PREFIX): tensors[f"{name}.lora_B.weight"].double()
        @ tensors[f"{name}.lora_A.weight"].double()
        for name in names
    }


def differs(one, other) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("row", ROWS)
def test_the_adapter_is_the_sum_of_all_updates_of_a_layer(row, tiny_model):
    untouched = base_digest(tiny_model)
    attached(row, tiny_model)
    assert find_obstacle(tiny_model, untouched) == ""
    expected, tensors = updates(tiny_model), served_adapter(tiny_model)
    assert expected
    assert differs(expected, served_updates(tensors)) < 1e-6
    halved = {name: tensor / 2 if ".lora_B." in name else tensor for name, tensor in tensors.items()}
    assert differs(expected, served_updates(halved)) > 1e-3, "control"


def test_adapters_of_earlier_stages_and_layers_of_other_ranks_are_included(tiny_model):
    attached("lora", tiny_model)
    add_frozen_adapter(tiny_model, "past", 3, scaling=0.7)
    layers = [layer for _, layer in lora_layers(tiny_model.module)]
    draw = torch.Generator().manual_seed(2)
    for layer in layers:
        for factor in lora_ab(layer, "past"):
            factor.data.copy_(torch.randn(factor.shape, generator=draw))
    wide, kept = layers[0], lora_ab(layers[0], "past")
    wide.lora_A["past"].weight = torch.nn.Parameter(kept[0][:1])
    wide.lora_B["past"].weight = torch.nn.Parameter(kept[1][:, :1])
    tensors = served_adapter(tiny_model)
    assert {tensor.shape[0] for name, tensor in tensors.items() if ".lora_A." in name} == {adapter_rank(tensors)}
    assert differs(updates(tiny_model), served_updates(tensors)) < 1e-6


@pytest.mark.parametrize("row", ["lora", "kore:unfrozen-a"])
def test_it_loads_in_plain_peft_with_the_models_logits(row, tiny_model, tiny_folder, tmp_path):
    method = attached(row, tiny_model)
    batch = {**tiny_model.training_batch([conversation(1, pictures=0)])}
    del batch["labels"]
    expected = tiny_model.module(**batch).logits
    folder = write_adapter(tiny_model, served_adapter(tiny_model), tmp_path)
    method.detach(tiny_model)
    plain = AutoModelForImageTextToText.from_pretrained(tiny_folder, dtype=torch.float32)
    base = plain.eval()(**batch).logits
    loaded = PeftModel.from_pretrained(plain, folder).eval()(**batch).logits
    assert torch.allclose(loaded, expected, atol=1e-5)
    assert not torch.allclose(base, expected, atol=1e-2), "control"
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["modules_to_save"] is None
    assert config["r"] == config["lora_alpha"]


def test_the_folder_is_named_by_what_is_in_it(tiny_model, tmp_path):
    attached("lora", tiny_model)
    tensors = served_adapter(tiny_model)
    folder = write_adapter(tiny_model, tensors, tmp_path)
    assert write_adapter(tiny_model, load_file(folder / "adapter_model.safetensors"), tmp_path) == folder
    name = next(iter(tensors))
    assert write_adapter(tiny_model, {**tensors, name: tensors[name] + 1e-3}, tmp_path) != folder


def test_nothing_attached_is_no_adapter_and_no_obstacle(tiny_model):
    assert served_adapter(tiny_model) == {}
    assert find_obstacle(tiny_model, base_digest(tiny_model)) == ""


def test_ranks_are_rounded_up():
    assert [served_rank(rank) for rank in (1, 5, 128, 235, 470, 512, 513)] == [1, 8, 128, 256, 512, 512, None]


def adapt_the_head(model):
    insert_tuner(model.module, LoraModel, LoraConfig(r=2, target_modules=["lm_head"]))


def load_random(model, config):
    plain = type(model).load(model.folder, model.device, torch.float32)
    load_peft(model, config, get_peft_model_state_dict(get_peft_model(plain.module, config)))


def rank_600(model):
    settings = make("lora", rank=600).settings
    attach_lora(model, settings)


def hook_into_a_layer(model):
    attached("lora", model)
    model.decoder.layers[0].mlp.register_forward_hook(lambda *_: None)


def another_forward(model):
    layer = model.decoder.layers[1].self_attn
    layer.forward = layer.forward


OBSTACLES = {
    "router": (lambda model: attached("moelora", model), "Experts"),
    "own weights": (lambda model: model.base_parameters[0].data.add_(1), "changes the base's own weights"),
    "hook": (hook_into_a_layer, "a hook changes the forward pass of layers.0.mlp"),
    "forward": (another_forward, "a hook changes the forward pass of layers.1.self_attn"),
    "rank": (rank_600, "its rank, 600 with all its adapters, is above 512"),
    "dora": (
        lambda model: load_random(model, LoraConfig(r=2, use_dora=True, target_modules=model.linear_targets)),
        "lora_magnitude_vector",
    ),
    "ia3": (
        lambda model: load_random(
            model, IA3Config(target_modules=["q_proj"], feedforward_modules=[], task_type="CAUSAL_LM")
        ),
        "is a parameter that no plain LoRA has",
    ),
    "head": (adapt_the_head, "lm_head is adapted"),
}


@pytest.mark.parametrize("name", OBSTACLES)
def test_what_cannot_be_served_is_found_by_looking_at_it(name, tiny_model):
    untouched = base_digest(tiny_model)
    change, reason = OBSTACLES[name]
    assert find_obstacle(tiny_model, untouched) == ""
    change(tiny_model)
    assert reason in find_obstacle(tiny_model, untouched)


def test_an_adapter_that_is_switched_off_is_not_served(tiny_model):
    untouched = base_digest(tiny_model)
    attached("lora", tiny_model)
    name, layer = next(lora_layers(tiny_model.module))
    layer.enable_adapters(False)
    assert find_obstacle(tiny_model, untouched) == f"not all adapters of {name} are in use"
    layer.enable_adapters(True)
    assert find_obstacle(tiny_model, untouched) == ""
    detach_adapter(tiny_model)
    assert find_obstacle(tiny_model, untouched) == ""
