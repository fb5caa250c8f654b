"""What a row has attached to its model, as an adapter for vLLM, or why there can be none.

This is found by looking at the model, never by a method's name. The projector and what is in an encoder do not matter:
our own code computes pictures' embeddings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from harness.models.base import LanguageVisionModel
from harness.models.loading import tensors_digest
from harness.serving.engine import RANKS, served_rank
from methods.components.lora_layers import lora_layers
from methods.components.peft_adapter import stacked_ab

if TYPE_CHECKING:
    from peft.tuners.lora.layer import LoraLayer

    from methods.interfaces import Tensors

PEFT_PREFIX = "base_model.model."
"""What PEFT's folders put in front of a layer's name."""
LIBRARIES = ("torch", "transformers", "peft")
"""Where the classes of a decoder's parts are from, unless a method has put its own there."""


def base_digest(model: LanguageVisionModel) -> str:
    """Sha256 over the model's own parameters, whatever is attached to it."""
    return tensors_digest({str(number): weight for number, weight in enumerate(model.base_parameters)})


def find_obstacle(model: LanguageVisionModel, untouched: str) -> str:
    """Why vLLM cannot serve what is attached to a model; empty if it can.

    Args:
        model: With what a row attaches.
        untouched: ``base_digest`` of the model with nothing attached.
    """
    return next((reason for reason in _obstacles(model, untouched) if reason), "")


def _obstacles(model: LanguageVisionModel, untouched: str) -> Iterator[str]:
    if base_digest(model) != untouched:
        yield "the row changes the base's own weights, which vLLM could only serve as a model of their own"
    own, layers = {id(weight) for weight in model.base_parameters}, _language_layers(model)
    factors = {id(part) for _, layer in layers for part in (*layer.lora_A.values(), *layer.lora_B.values())}
    parts = [*model.decoder.named_modules(), ("head", model.inner.get_output_embeddings())]
    for name, part in parts:
        if part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part):
            yield f"a hook changes the forward pass of {name or 'the decoder'}"
        if type(part).__module__.partition(".")[0] not in LIBRARIES and id(part) not in factors:
            yield f"{name or 'the decoder'} is a {type(part).__name__}, which vLLM does not have"
        if id(part) in factors and type(part) is not torch.nn.Linear:
            yield f"{name} is a {type(part).__name__}, not a plain factor of LoRA"
        strange = [key for key, weight in part.named_parameters(recurse=False) if id(weight) not in own]
        if strange and id(part) not in factors:
            yield f"{name}.{strange[0]} is a parameter that no plain LoRA has"
    for name, layer in layers:
        yield _obstacle_of(name, layer, re.fullmatch(model.linear_targets, name) is not None)
    ranks = [_rank(layer) for _, layer in layers]
    if ranks and served_rank(max(ranks)) is None:
        yield f"its rank, {max(ranks)} with all its adapters, is above {RANKS[-1]}"


def _obstacle_of(name: str, layer: LoraLayer, is_target: bool) -> str:
    if not is_target:
        return f"{name} is adapted, which is no linear layer of the decoder's layers"
    if layer.disable_adapters or layer.merged or set(layer.active_adapters) != set(layer.lora_A):
        return f"not all adapters of {name} are in use"
    if layer.lora_variant or any(layer.lora_bias.values()) or type(layer.get_base_layer()) is not torch.nn.Linear:
        return f"{name} is not plain LoRA over a linear layer"
    return ""


def served_adapter(model: LanguageVisionModel) -> Tensors:
    """The attached adapter of the decoder by PEFT's names, on the CPU; empty if there is none.

    All adapters of a layer are one: A below A, B beside B, each B times its scaling. Layers of a smaller rank than
    others are filled up with zeros.
    """
    layers = _language_layers(model)
    rank = max((_rank(layer) for _, layer in layers), default=0)
    tensors = {}
    for name, layer in layers:
        a, b = (factor.detach() for factor in stacked_ab(layer))
        missing = rank - len(a)
        tensors[f"{PEFT_PREFIX}{name}.lora_A.weight"] = torch.nn.functional.pad(a, (0, 0, 0, missing))
        tensors[f"{PEFT_PREFIX}{name}.lora_B.weight"] = torch.nn.functional.pad(b, (0, missing))
    return {name: tensor.to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def write_adapter(model: LanguageVisionModel, tensors: Tensors, parent: Path) -> Path:
    """Write what ``served_adapter`` returned as PEFT's folder, named by its content's digest; returns the folder."""
    from peft import LoraConfig
    from safetensors.torch import save_file

    folder = parent / tensors_digest(tensors)
    folder.mkdir(parents=True, exist_ok=True)
    rank = adapter_rank(tensors)
    config: Any = LoraConfig(
        r=rank, lora_alpha=rank, target_modules=model.linear_targets, bias="none", inference_mode=True
    )
    config.save_pretrained(folder)
    save_file(dict(tensors), folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder


def adapter_rank(tensors: Tensors) -> int:
    """The rank of what ``served_adapter`` returned; 0 for nothing."""
    return max((len(tensor) for name, tensor in tensors.items() if ".lora_A." in name), default=0)


def _rank(layer: LoraLayer) -> int:
    return sum(int(factor.weight.shape[0]) for factor in _linears(layer.lora_A.values()))


def _linears(parts: Iterable[torch.nn.Module]) -> Iterator[torch.nn.Linear]:
    return (part for part in parts if isinstance(part, torch.nn.Linear))


def _language_layers(model: LanguageVisionModel) -> list[tuple[str, LoraLayer]]:
    """The adapted layers outside the encoders and the projector, by their names in the untouched model."""
    vision = {*model.towers, model.projector}
    return [(name, layer) for name, layer in lora_layers(model.module) if not vision & set(name.split("."))]
