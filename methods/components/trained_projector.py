"""A trained copy of the projector, for methods that adapt no linear layer. ``detach_adapter`` removes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from methods.components.lora_layers import insert_tuner, prepare_trained, projector_state, saved_modules

if TYPE_CHECKING:
    from methods.interfaces import InjectableModel, Tensors


def attach_projector(model: InjectableModel) -> None:
    """Put PEFT's trained copy in the projector's place, in float32 or wider.

    Raises:
        UserError: An adapter is attached already.
    """
    from peft import LoraConfig
    from peft.tuners.lora import LoraModel
    from peft.utils.constants import DUMMY_TARGET_MODULES

    config = LoraConfig(r=1, target_modules=DUMMY_TARGET_MODULES, modules_to_save=[model.projector])
    insert_tuner(model.module, LoraModel, config)
    prepare_trained(model)


def export_projector(model: InjectableModel) -> Tensors:
    """The trained copy on the CPU, in the base's type."""
    types = {
        f"{name}.{key}": value.dtype
        for name, wrapper in saved_modules(model.module).items()
        for key, value in wrapper.original_module.state_dict().items()
    }
    state = projector_state(model.module).items()
    return {name: value.detach().to("cpu", types[name], copy=True).contiguous() for name, value in state}
