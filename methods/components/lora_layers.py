"""What all low-rank methods share: adapters put into a model by PEFT, in place, and taken out without a trace.

The model object stays the same while an adapter is attached: PEFT replaces the targeted linear layers and the projector
inside it, so whoever holds the model keeps holding it.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch

from benchmarks.errors import UserError

if TYPE_CHECKING:
    from peft.tuners.lora.layer import LoraLayer

    from methods.interfaces import AdapterSettings, InjectableModel, MethodSettings, Tensors

TRAINED = "default"
"""PEFT's name of the adapter that is trained."""
VISION = frozenset({"vision_tower", "vision_model", "visual"})
"""Names under which the supported architectures keep their vision tower."""
_TUNER, _FLAGS = "_injection_tuner", "_injection_flags"


def attach_lora(model: InjectableModel, settings: AdapterSettings, *, scaling: float | None = None) -> None:
    """Put a fresh adapter on every decoder linear and, with a projector learning rate, train a copy of the projector.

    A is drawn from U(-1/sqrt(d_in), 1/sqrt(d_in)) with ``torch.initial_seed()`` and the layer's name alone, so it
    depends on no other draw, layer or device; B is 0. Trainable parameters are float32 at least.

    Args:
        model: The untouched model; changed in place.
        settings: Rank, alpha, dropout and learning rates.
        scaling: Factor on BA; alpha / rank when left out.

    Raises:
        UserError: An adapter is attached already, nothing matches, or the vision tower would be trained.
    """
    from peft import LoraConfig
    from peft.tuners.lora import LoraModel

    module, factor = model.module, settings.alpha / settings.rank if scaling is None else scaling
    if _TUNER in vars(module):
        raise UserError("an adapter is attached already", location="attach", hint="detach it first")
    vars(module)[_FLAGS] = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.rank,
        lora_dropout=settings.dropout,
        target_modules=model.linear_targets,
        modules_to_save=[model.projector] if settings.projector_learning_rate > 0 else None,
        bias="none",
    )
    with warnings.catch_warnings(), _random_state_kept():
        # PEFT asks whether tied embeddings were meant to be saved whenever modules_to_save is used; they are not.
        warnings.filterwarnings("ignore", message=".*tie_word_embeddings.*")
        vars(module)[_TUNER] = LoraModel(module, config, TRAINED)
    for name, layer in lora_layers(module):
        _wide(layer, TRAINED)
        layer.scaling[TRAINED] = factor
        seeded_uniform_(lora_ab(layer)[0], name)
    for wrapper in _saved_modules(module).values():
        _in_float32(wrapper.modules_to_save[TRAINED])
    _refuse_vision(model)


def lora_layers(module: torch.nn.Module) -> Iterator[tuple[str, LoraLayer]]:
    """The adapted linear layers with their names in the untouched model, in the model's order."""
    from peft.tuners.lora.layer import LoraLayer

    return ((name, layer) for name, layer in module.named_modules() if isinstance(layer, LoraLayer))


def lora_ab(layer: LoraLayer, adapter: str = TRAINED) -> tuple[torch.Tensor, torch.Tensor]:
    """A (r, d_in) and B (d_out, r) of an adapted layer."""
    return cast("torch.nn.Linear", layer.lora_A[adapter]).weight, cast("torch.nn.Linear", layer.lora_B[adapter]).weight


def target_layers(model: InjectableModel) -> dict[str, torch.nn.Linear]:
    """The linear layers that ``linear_targets`` names in full, before an adapter is attached."""
    import re

    pattern = re.compile(model.linear_targets)
    found = {
        name: layer
        for name, layer in model.module.named_modules()
        if isinstance(layer, torch.nn.Linear) and pattern.fullmatch(name)
    }
    if not found:
        raise UserError(
            "no linear layer of the decoder matches", location=model.linear_targets, hint="mend the pattern"
        )
    return found


def freeze_a(model: InjectableModel) -> None:
    """Leave A out of training, also after PEFT has switched the adapter off and on again."""
    for _, layer in lora_layers(model.module):
        layer.frozen_peft_weight_names = {**layer.frozen_peft_weight_names, TRAINED: ("lora_A",)}
        lora_ab(layer)[0].requires_grad_(False)


def add_frozen(model: InjectableModel, name: str, rank: int, scaling: float) -> None:
    """Beside the trained adapter a second one of the given factor, never trained; its A and B are zero until filled."""
    from peft import LoraConfig

    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=model.linear_targets, bias="none")
    tuner = vars(model.module)[_TUNER]
    tuner.peft_config[name] = config
    with _random_state_kept():
        tuner.inject_adapter(model.module, name)
    for _, layer in lora_layers(model.module):
        _wide(layer, name)
        layer.scaling[name] = scaling
        layer.frozen_peft_weight_names = {**layer.frozen_peft_weight_names, name: ("lora_A", "lora_B")}
        layer.set_adapter([TRAINED, name])
        for weight in lora_ab(layer, name):
            weight.data.zero_()


@contextmanager
def without_adapter(model: InjectableModel) -> Iterator[None]:
    """The untouched base, projector included, for the duration; then the adapter with the same trainable parameters."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.module.parameters()]
    layers = [layer for _, layer in lora_layers(model.module)] + list(_saved_modules(model.module).values())
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for parameter, flag in flags:  # PEFT sets requires_grad on all that it switches back on
            parameter.requires_grad_(flag)


def parameter_groups(model: InjectableModel, settings: MethodSettings) -> Iterator[dict[str, Any]]:
    """AdamW groups: what is trained in the language model, and the projector at its own learning rate."""
    trained = {name: parameter for name, parameter in model.module.named_parameters() if parameter.requires_grad}
    projector = {name for name in trained if model.projector in name.split(".")}
    for names, rate in (
        ([name for name in trained if name not in projector], settings.learning_rate),
        ([name for name in trained if name in projector], settings.projector_learning_rate),
    ):
        if names:
            parameters = [trained[name] for name in names]
            yield {"params": parameters, "lr": rate, "weight_decay": settings.weight_decay, "names": names}


def export_adapter(model: InjectableModel) -> Tensors:
    """Copies on the CPU of A, B (frozen or not) and the trained projector, by names of the untouched model.

    What was trained is given in the base's own type, as which training in half precision used it; what is frozen as it
    is, for KORE's A lies in a null space that rounding would leave.
    """
    layers = [layer for _, layer in lora_layers(model.module)]
    types = {weight.dtype for layer in layers for weight in layer.get_base_layer().parameters()}
    own = max(types, key=lambda kind: kind.itemsize)
    pairs = [lora_ab(layer, adapter) for layer in layers for adapter in layer.lora_A]
    frozen = {id(factor) for pair in pairs for factor in pair if not factor.requires_grad}
    return {
        name: tensor.detach().to("cpu", tensor.dtype if id(tensor) in frozen else own, copy=True).contiguous()
        for name, tensor in _state(model.module).items()
    }


def load_adapter(model: InjectableModel, tensors: Tensors) -> None:
    """Copy what ``export_adapter`` gave into the attached adapter.

    Raises:
        UserError: A tensor is missing, unknown or of another shape.
    """
    state = _state(model.module)
    wrong = sorted(state.keys() ^ tensors.keys())
    wrong += sorted(name for name in state.keys() & tensors.keys() if state[name].shape != tensors[name].shape)
    if wrong:
        raise UserError(
            f"{len(wrong)} tensors are missing, unknown or of another shape, the first is {wrong[0]}",
            location="adapter",
            hint="use it with the model and the settings that it was trained with",
        )
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(tensors[name])


def detach_adapter(model: InjectableModel) -> None:
    """Take the adapter out: the same layers, weights and ``requires_grad`` as before. Harmless twice.

    A parameter of the method's own that it leaves behind stays, for whoever compares the base to find.
    """
    tuner = vars(model.module).pop(_TUNER, None)
    if tuner is None:
        return
    for name, wrapper in _saved_modules(model.module).items():
        # PEFT's unload would leave the trained copy in the model.
        model.module.set_submodule(name, wrapper.original_module)
    tuner.unload()
    flags = vars(model.module).pop(_FLAGS)
    for name, parameter in model.module.named_parameters():
        if name in flags:
            parameter.requires_grad_(flags[name])


def seeded_uniform_(weight: torch.Tensor, name: str) -> None:
    """Fill A (r, d_in) as PyTorch fills a linear layer, from the process's seed and the name alone."""
    if weight.is_meta:  # a model of shapes alone, for counting
        return
    bound = weight.shape[1] ** -0.5
    drawn = torch.empty(weight.shape, dtype=torch.float32).uniform_(-bound, bound, generator=seeded(name))
    with torch.no_grad():
        weight.copy_(drawn)


def seeded(name: str, seed: int | None = None) -> torch.Generator:
    """A generator on the CPU that depends on the seed (``torch.initial_seed()`` when left out) and the name alone."""
    digest = hashlib.sha256(f"{torch.initial_seed() if seed is None else seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """PEFT draws initial weights that are overwritten at once; the draws that follow must not notice."""
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)


def _saved_modules(module: torch.nn.Module) -> dict[str, Any]:
    from peft.utils.other import ModulesToSaveWrapper

    return {name: part for name, part in module.named_modules() if isinstance(part, ModulesToSaveWrapper)}


def _state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Live tensors of what is attached: ``<layer>.lora_A.weight``, ``<layer>.lora_B.weight``, ``<projector>.*``.

    Those of a frozen second adapter carry its name: ``<layer>.lora_A.<adapter>.weight``.
    """
    state: dict[str, torch.Tensor] = {}
    for name, layer in lora_layers(module):
        for adapter in layer.lora_A:
            end = "weight" if adapter == TRAINED else f"{adapter}.weight"
            state[f"{name}.lora_A.{end}"], state[f"{name}.lora_B.{end}"] = lora_ab(layer, adapter)
    for name, wrapper in _saved_modules(module).items():
        state |= {f"{name}.{key}": value for key, value in wrapper.modules_to_save[TRAINED].state_dict().items()}
    return state


def _wide(layer: LoraLayer, adapter: str) -> None:
    """A and B in float32 where PEFT made them as narrow as the base; PEFT casts the activations by itself."""
    for weight in lora_ab(layer, adapter):
        if weight.dtype in (torch.bfloat16, torch.float16):
            weight.data = weight.data.float()


def _in_float32(trained: torch.nn.Module) -> None:
    """Keep a half-precision module's weights in float32 while it computes as before, so that it starts out equal."""
    dtypes = {parameter.dtype for parameter in trained.parameters()}
    if dtypes <= {torch.float32, torch.float64}:
        return
    dtype, forward = dtypes.pop(), trained.forward

    def as_before(inputs: torch.Tensor) -> Any:
        with torch.autocast(inputs.device.type, dtype):
            return forward(inputs)

    trained.float()
    trained.forward = as_before


def _refuse_vision(model: InjectableModel) -> None:
    """Full-match patterns are easily too wide: q_proj is a name in the vision tower too."""
    for name, parameter in model.module.named_parameters():
        path = name.split(".")
        if parameter.requires_grad and VISION & set(path) and model.projector not in path:
            detach_adapter(model)
            raise UserError(
                f"{name} of the vision tower would be trained", location="attach", hint="narrow linear_targets"
            )
