"""The adapter that is attached to a model, in the form in which plain PEFT stores and loads it."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.errors import UserError
from methods.components.entry_attention import has_entries
from methods.components.layer_expansion import copies
from methods.components.lora_layers import (
    TRAINED,
    attached_tuner,
    detach_adapter,
    insert_tuner,
    lora_ab,
    lora_layers,
    projector_state,
)

if TYPE_CHECKING:
    from peft.tuners.lora.layer import LoraLayer

    from methods.interfaces import InjectableModel, Tensors

BASE = "base_model."
"""What PEFT's folders put in front of the names of its ``LoraModel``."""


@dataclass(frozen=True)
class PeftAdapter:
    """An adapter for ``PeftModel.from_pretrained``.

    Args:
        config: PEFT's configuration; the path of the base model is not set.
        tensors: Its weights on the CPU, by PEFT's names.
        exact: Whether PEFT computes with it exactly what was computed here. If two adapters were combined, sums are
            rounded in another order.
    """

    config: Any
    tensors: Tensors
    exact: bool


def peft_adapter(model: InjectableModel, *, projector: bool = True) -> PeftAdapter | None:
    """The attached adapter, or None if none is attached, as where a method changes the model's own weights.

    A frozen second adapter is combined with the trained one: A of both, one above the other, and B of both side by
    side, multiplied by their scalings.

    Args:
        model: With the adapter attached.
        projector: Whether the trained projector is part of it.

    Raises:
        UserError: A layer computes something that PEFT's LoRA does not, such as a mixture of experts.
    """
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    _refuse_additions(model)
    tuner = attached_tuner(model.module)
    if tuner is None:
        return None
    layers = dict(lora_layers(model.module))
    for name, layer in layers.items():
        factors = [factor for adapter in layer.lora_A for factor in (layer.lora_A[adapter], layer.lora_B[adapter])]
        if any(type(factor) is not torch.nn.Linear for factor in factors):
            raise UserError(
                "the layer is not a plain LoRA layer, so neither PEFT nor a merged weight can express it",
                location=name,
                hint="export a row of another method",
            )
    state = get_peft_model_state_dict(tuner, adapter_name=TRAINED, save_embedding_layers=False)
    tensors = {BASE + name: value for name, value in state.items() if projector or not _in(name, model.projector)}
    trains_projector = bool(tuner.peft_config[TRAINED].modules_to_save) and projector
    saved = [model.projector] if trains_projector else None
    if not layers:  # another kind of adapter, trained as PEFT has it
        config = dataclasses.replace(tuner.peft_config[TRAINED], modules_to_save=saved, inference_mode=True)
        return PeftAdapter(config, _on_cpu(tensors), exact=True)
    combined = any(len(layer.lora_A) > 1 for layer in layers.values())
    ranks = {
        name: sum(lora_ab(layer, adapter)[0].shape[0] for adapter in layer.lora_A) for name, layer in layers.items()
    }
    rank = max(ranks.values())
    other_ranks = {re.escape(name): own for name, own in ranks.items() if own != rank}
    scaling = 1.0 if combined else float(next(iter(layers.values())).scaling[TRAINED])
    config = LoraConfig(
        r=rank,
        lora_alpha=_whole(scaling * rank),  # type: ignore[arg-type]  # PEFT takes fractions too
        rank_pattern=other_ranks,
        alpha_pattern={name: _whole(scaling * own) for name, own in other_ranks.items()},
        target_modules=tuner.peft_config[TRAINED].target_modules,
        modules_to_save=saved,
        bias="none",
        inference_mode=True,
    )
    if combined:
        for name, layer in layers.items():
            prefix = f"{BASE}model.{name}"
            tensors[f"{prefix}.lora_A.weight"], tensors[f"{prefix}.lora_B.weight"] = stacked_ab(layer)
    return PeftAdapter(config, _on_cpu(tensors), exact=not combined)


def _refuse_additions(model: InjectableModel) -> None:
    added = f"{number} decoder layers" if (number := len(copies(model.module))) else ""
    added = "entries beside an attention" if has_entries(model.module) else added
    if added:
        raise UserError(
            f"the row adds {added}, which neither PEFT nor a merged weight can express",
            location="export",
            hint="export a row of another method",
        )


def _on_cpu(tensors: Tensors) -> Tensors:
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}


def stacked_ab(layer: LoraLayer) -> tuple[torch.Tensor, torch.Tensor]:
    """A (r, d_in) and B (d_out, r) of one adapter that does what all of a layer's do, with their scalings in B."""
    pairs = [(*lora_ab(layer, adapter), layer.scaling[adapter]) for adapter in layer.lora_A]
    return torch.cat([a for a, _, _ in pairs]), torch.cat([b * scale for _, b, scale in pairs], dim=1)


def projector_weights(model: InjectableModel) -> Tensors:
    """The trained projector's weights on the CPU, by their names in the base; empty if it is not trained."""
    return {name: value.detach().to("cpu", copy=True) for name, value in projector_state(model.module).items()}


def _in(name: str, part: str) -> bool:
    return part in name.split(".")


def _whole(number: float) -> float:
    """An integer where it is one, as PEFT's own files have it."""
    return int(number) if number == int(number) else number


def load_peft(model: InjectableModel, config: Any, tensors: Tensors) -> None:
    """Insert an adapter of any kind and load its weights; nothing of it is trainable.

    Args:
        model: The untouched model; changed in place. ``detach_adapter`` removes the adapter.
        config: PEFT's configuration of it.
        tensors: Its weights, by the names in PEFT's folders.

    Raises:
        UserError: An adapter is attached already, or the weights are not those of such an adapter.
        ValueError: PEFT finds no layer that the configuration names.
    """
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
    from peft.tuners.tuners_utils import cast_adapter_dtype
    from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

    insert_tuner(model.module, PEFT_TYPE_TO_TUNER_MAPPING[config.peft_type], config)
    tuner = attached_tuner(model.module)
    expected = get_peft_model_state_dict(tuner, save_embedding_layers=False)
    given = {name.removeprefix(BASE): value for name, value in tensors.items()}
    wrong = sorted(expected.keys() ^ given.keys())
    wrong += sorted(name for name in expected.keys() & given.keys() if expected[name].shape != given[name].shape)
    if wrong:
        detach_adapter(model)
        raise UserError(
            f"{len(wrong)} tensors are missing, unknown or of another shape, the first is {wrong[0]}",
            location="adapter",
            hint="give an adapter that was trained on this model",
        )
    set_peft_model_state_dict(tuner, given, adapter_name=TRAINED)
    cast_adapter_dtype(tuner, TRAINED)  # half-precision adapters compute in float32, as in PeftModel
    model.module.requires_grad_(False)
