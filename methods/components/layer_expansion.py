"""Copies of decoder layers, each run right after its original: a deeper model, in which nothing else has changed.

A copy is a child of its original, whose output a hook passes through it with the same other arguments (mask, positions,
cache). So all names and numbers of the base stay, and with them what families do by a layer's number: attention types,
features that are added after the first layers. The model's config counts the copies as layers behind the last, which
gives each of them a slot of its own in every cache of keys and values.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.errors import UserError
from methods.components.base_weights import is_quantized
from methods.components.layerwise_forward import LAYER
from methods.components.lora_layers import detach_adapter, load_tensors, projector_state, target_layers
from methods.components.trained_projector import attach_projector, export_projector

if TYPE_CHECKING:
    from methods.interfaces import InjectableModel, Tensors

COPY = "expansion"
"""What a copy is called in its original."""
OUTPUTS = ("o_proj", "out_proj", "down_proj")
"""The projections whose results a layer adds to its input, as the models of transformers call them."""
OUTPUT_NORMS = ("post_attention_layernorm", "post_feedforward_layernorm")
"""The norms behind them, in decoders that have both (Gemma 2 and 3); elsewhere the first is that of the MLP's input."""
_UNDO = "_injection_expansion"
"""Attribute of the model's module: how the config was, and the hooks."""


def layer_names(model: InjectableModel) -> list[str]:
    """The names of the decoder's layers, in order."""
    found = (LAYER.fullmatch(name) for name in target_layers(model))
    return list(dict.fromkeys(match[1] for match in found if match))


def silent_values(layer: torch.nn.Module) -> dict[str, float]:
    """The parameters with which a layer adds nothing to its input, and the value that each must be filled with.

    These are the output projections, as in ADEPT's expand.py. Behind them some decoders have a norm, which gives the
    smallest output its full size: then it is the gain of that norm, 0, or -1 where the norm multiplies by 1 + weight.

    Raises:
        UserError: The layer has no such projections.
    """
    parts = dict(layer.named_children())
    if all(name in parts for name in OUTPUT_NORMS):
        kinds: dict[str, Any] = {name: type(parts[name]) for name in OUTPUT_NORMS}
        return {f"{name}.weight": float(kind(1).weight.detach()) - 1.0 for name, kind in kinds.items()}  # new: gain 1
    silent = {name: 0.0 for name, _ in layer.named_parameters() if set(OUTPUTS) & set(name.split("."))}
    if len({name.split(".")[0] for name in silent}) < 2:
        raise UserError(
            f"it has no output projections of attention and MLP among {', '.join(OUTPUTS)}",
            location=type(layer).__name__,
            hint="use another model, or another method",
        )
    return silent


def copies(module: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The copies in a model, by the names of their originals."""
    return {path: module.get_submodule(f"{path}.{COPY}") for path in vars(module).get(_UNDO, {}).get("paths", ())}


def copied_parameters(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters of all copies, by their names in the model."""
    return {
        f"{path}.{COPY}.{name}": parameter
        for path, layer in copies(module).items()
        for name, parameter in layer.named_parameters()
    }


def expand(model: InjectableModel, paths: Iterable[str], *, trained: bool, projector: bool) -> None:
    """Add a silent copy behind each of these layers.

    Args:
        model: The untouched base.
        paths: Names of layers.
        trained: Whether the copies are to be trained: in float32 or wider. They compute in the base's type.
        projector: Whether a trained copy takes the projector's place.

    Raises:
        UserError: The model is expanded already, or quantised, or its layers cannot be silenced.
    """
    module, names, chosen = model.module, layer_names(model), set(paths)
    if _UNDO in vars(module):
        raise UserError("layers are copied already", location="attach", hint="detach it first")
    if unknown := sorted(chosen - set(names)):
        raise UserError(f"there is no decoder layer {unknown[0]}", location="adapter", hint="use it with its own model")
    numbers = [number for number, name in enumerate(names) if name in chosen]
    made = [_silent_copy(module.get_submodule(names[number]), trained=trained) for number in numbers]
    if projector:
        attach_projector(model)
    config: Any = module.config.get_text_config(decoder=True)  # type: ignore[operator, union-attr]
    undo: dict[str, Any] = {"paths": [names[number] for number in numbers], "hooks": [], "config": {}}
    vars(module)[_UNDO] = undo
    for slot, (number, layer) in enumerate(zip(numbers, made, strict=True), start=len(names)):
        for part in layer.modules():
            if getattr(part, "layer_idx", None) is not None:
                vars(part)["layer_idx"] = slot
        original = module.get_submodule(names[number])
        hook = _runner(layer, _matrix_type(original))
        original.add_module(COPY, layer)
        undo["hooks"].append(original.register_forward_hook(hook, prepend=True, with_kwargs=True))
    _count_in_config(config, numbers, undo["config"])


def remove_expansion(model: InjectableModel) -> None:
    """Leave the base as it was before ``expand``. Calling it twice is harmless."""
    detach_adapter(model)
    undo = vars(model.module).pop(_UNDO, None)
    if undo is None:
        return
    for handle in undo["hooks"]:
        handle.remove()
    for path in undo["paths"]:
        delattr(model.module.get_submodule(path), COPY)
    config: Any = model.module.config.get_text_config(decoder=True)  # type: ignore[operator, union-attr]
    for name, value in undo["config"].items():
        setattr(config, name, value)


def export_expanded(model: InjectableModel) -> Tensors:
    """What is trained, the copies and the projector, on the CPU and in the base's type, by names in the model."""
    exported = export_projector(model)
    for path, layer in copies(model.module).items():
        original = model.module.get_submodule(path)
        for name, parameter in layer.named_parameters():
            dtype = original.get_parameter(name).dtype
            exported[f"{path}.{COPY}.{name}"] = parameter.detach().to("cpu", dtype, copy=True).contiguous()
    return exported


def load_expanded(model: InjectableModel, tensors: Tensors) -> None:
    """Copy what ``export_expanded`` returned into the copies and the projector.

    Raises:
        UserError: A tensor is missing, unknown or of another shape.
    """
    load_tensors({**copied_parameters(model.module), **projector_state(model.module)}, tensors)


def copied_paths(names: Iterable[str]) -> list[str]:
    """The originals of the copies to which tensors of these names belong."""
    return list(dict.fromkeys(name.partition(f".{COPY}.")[0] for name in names if f".{COPY}." in name))


def scale_copies(model: InjectableModel, exported: Tensors, factor: float) -> Tensors:
    """The silenced parameters of exported copies on the line from their silent values; the others are left out."""
    scaled = {}
    for path in copied_paths(exported):
        for name, value in silent_values(model.module.get_submodule(path)).items():
            tensor = exported[f"{path}.{COPY}.{name}"]
            wide = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
            scaled[f"{path}.{COPY}.{name}"] = torch.lerp(torch.full_like(wide, value), wide, factor).to(tensor.dtype)
    return scaled


def least_critical(losses: Sequence[float], count: int) -> list[int]:
    """The numbers of the layers without which the loss is lowest, the lowest first; of equal ones the earlier."""
    return sorted(range(len(losses)), key=lambda number: (losses[number], number))[:count]


def _silent_copy(layer: torch.nn.Module, *, trained: bool) -> torch.nn.Module:
    if any(is_quantized(parameter) for parameter in layer.parameters()):
        raise UserError(
            "copies of quantised layers cannot be trained",
            location="precision",
            hint="set precision to bfloat16 for this row, or train an adapter",
        )
    made = copy.deepcopy(layer)
    for part in made.modules():  # such as those that record hidden states, once for each of the model's layers
        part._forward_hooks.clear()
    with torch.no_grad():
        for name, value in silent_values(layer).items():
            made.get_parameter(name).fill_(value)
    for parameter in made.parameters():
        if trained:
            parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
        parameter.requires_grad_(trained)
    return made


def _matrix_type(layer: torch.nn.Module) -> torch.dtype:
    """The type of its matrices; vectors may be wider."""
    return next(parameter.dtype for parameter in layer.parameters() if parameter.dim() > 1)


def _runner(layer: torch.nn.Module, base: torch.dtype) -> Any:
    """A forward hook that passes a layer's output through the copy, which computes in the base's type."""
    own = _matrix_type(layer)

    def run(_: torch.nn.Module, args: tuple[Any, ...], options: dict[str, Any], output: torch.Tensor) -> torch.Tensor:
        with torch.autocast(output.device.type, base, enabled=own != base, cache_enabled=False):
            result: torch.Tensor = layer(output, *args[1:], **options)
        return result

    return run


def _count_in_config(config: Any, numbers: Sequence[int], before: dict[str, Any]) -> None:
    """Count copies of layers with these numbers as layers behind the last; ``before`` gets what is replaced."""
    before["num_hidden_layers"] = config.num_hidden_layers
    if (types := getattr(config, "layer_types", None)) is not None:
        before["layer_types"] = types
        config.layer_types = [*types, *(types[number] for number in numbers)]
    config.num_hidden_layers += len(numbers)
