"""Where a model keeps its parts, and which decoders cannot be adapted completely."""

from __future__ import annotations

import re

import pytest
import torch
from transformers import (
    AutoModelForImageTextToText,
    Qwen3_5Config,
    Qwen3VLConfig,
    Qwen3VLMoeConfig,
    SmolVLMConfig,
)

from benchmarks.errors import UserError
from harness.models.structure import find_structure

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 64,
}
VISION = {"depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48, "out_hidden_size": 32}
LINEAR = {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}


def without_weights(config):
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)


def linears(module, structure):
    """Names of the linear layers in the decoder's layers, written out independently."""
    return {
        name
        for name, part in module.named_modules()
        if isinstance(part, torch.nn.Linear) and name.startswith(f"{structure.decoder}.layers.")
    }


@pytest.mark.parametrize(
    ("config", "decoder", "projector", "towers"),
    [
        (Qwen3VLConfig(text_config=TEXT, vision_config=VISION), "model.language_model", "merger", {"visual"}),
        (
            Qwen3_5Config(text_config={**TEXT, **LINEAR}, vision_config=VISION),
            "model.language_model",
            "merger",
            {"visual"},
        ),
        (
            SmolVLMConfig(
                text_config={**TEXT, "model_type": "llama"}, vision_config={"hidden_size": 32, "num_hidden_layers": 1}
            ),
            "model.text_model",
            "connector",
            {"vision_model"},
        ),
    ],
    ids=["deepstack", "hybrid", "another name"],
)
def test_the_parts_are_found_and_every_linear_layer_is_a_target(config, decoder, projector, towers):
    module = without_weights(config)
    structure = find_structure(module)
    assert (structure.decoder, structure.projector, structure.towers) == (decoder, projector, frozenset(towers))
    pattern = re.compile(structure.complete_targets())
    assert {name for name, _ in module.named_modules() if pattern.fullmatch(name)} == linears(module, structure)


def test_linear_attention_is_adapted_too():
    module = without_weights(Qwen3_5Config(text_config={**TEXT, **LINEAR}, vision_config=VISION))
    kinds = {name.rpartition(".")[2] for name in linears(module, find_structure(module))}
    assert {"in_proj_qkv", "out_proj", "q_proj", "down_proj"} <= kinds, "layers of both kinds"


def test_a_mixture_of_experts_is_refused_with_the_names_of_what_would_be_left_out():
    module = without_weights(Qwen3VLMoeConfig(text_config={**TEXT, **EXPERTS}, vision_config=VISION))
    structure = find_structure(module)
    assert structure.projector == "merger", "everything else about it is known"
    with pytest.raises(UserError, match=r"leave out .*mlp\.experts\.gate_up_proj.*mlp\.experts\.down_proj"):
        structure.complete_targets()


def test_a_model_without_a_projector_is_refused():
    module = without_weights(
        SmolVLMConfig(text_config={**TEXT, "model_type": "llama"}, vision_config={"num_hidden_layers": 1})
    )
    del module.model.connector
    with pytest.raises(UserError, match="one projector between"):
        find_structure(module)
