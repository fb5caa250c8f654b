"""Adapters of any kind that PEFT has, trained in place beside a trained projector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from methods.components.lora_layers import (
    TRAINED,
    attached_tuner,
    insert_tuner,
    load_tensors,
    prepare_trained,
)

if TYPE_CHECKING:
    import torch

    from methods.interfaces import InjectableModel, Tensors

PREFIX = "model."
"""What PEFT's tuners put in front of the names of the model that they wrap."""


def attach_tuner(model: InjectableModel, config: Any) -> None:
    """Insert an adapter by its configuration; its parameters are float32 or wider. ``detach_adapter`` removes it.

    Raises:
        UserError: An adapter is attached already, or the vision tower would be trained.
    """
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
    from peft.tuners.tuners_utils import cast_adapter_dtype

    insert_tuner(model.module, PEFT_TYPE_TO_TUNER_MAPPING[config.peft_type], config)
    cast_adapter_dtype(attached_tuner(model.module), TRAINED)
    prepare_trained(model)


def export_tuner(model: InjectableModel) -> Tensors:
    """Copies on the CPU of the adapter's tensors and the trained projector's, by names of the untouched model."""
    return {name: value.to("cpu", copy=True).contiguous() for name, value in _state(model).items()}


def load_tuner(model: InjectableModel, tensors: Tensors) -> None:
    """Copy what ``export_tuner`` returned into the attached adapter.

    Raises:
        UserError: A tensor is missing, unknown or of another shape.
    """
    load_tensors(_state(model), tensors)


def _state(model: InjectableModel) -> dict[str, torch.Tensor]:
    """Live tensors."""
    from peft.utils import get_peft_model_state_dict

    state = get_peft_model_state_dict(attached_tuner(model.module), save_embedding_layers=False)
    return {name.removeprefix(PREFIX): value.detach() for name, value in state.items()}
