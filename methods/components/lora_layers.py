"""LoRA adapters that PEFT inserts into a model in place, and that can be removed without a trace.

The model object stays the same while an adapter is attached: PEFT replaces the targeted linear layers and the projector
inside it, so that references to the model stay valid.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch

from benchmarks.errors import UserError
from methods.components.base_weights import weight_dtype
from methods.targets import ALL, LinearShapes, choose

if TYPE_CHECKING:
    from peft.tuners.lora.layer import LoraLayer

    from methods.interfaces import AdapterSettings, InjectableModel, MethodSettings, Tensors

TRAINED = "default"
"""PEFT's name of the adapter that is trained."""
_TUNER = "_injection_tuner"
_REQUIRES_GRAD = "_injection_requires_grad"


def attach_lora(model: InjectableModel, settings: AdapterSettings, *, scaling: float | None = None) -> None:
    """Add a new adapter to each targeted linear and, if the projector has a learning rate, a trained copy of it.

    A is drawn from U(-1/sqrt(d_in), 1/sqrt(d_in)), seeded with ``torch.initial_seed()`` and the layer's name alone, so
    that it depends on no other draw, layer or device; B is 0. Trainable parameters are float32 or wider.

    Args:
        model: The untouched model; changed in place.
        settings: Rank, alpha, dropout, targets and learning rates.
        scaling: Factor of B A; default: alpha / rank.

    Raises:
        UserError: An adapter is already attached, no layer matches, or the vision tower would be trained.
    """
    from peft import LoraConfig
    from peft.tuners.lora import LoraModel

    module, factor = model.module, settings.alpha / settings.rank if scaling is None else scaling
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.rank,
        lora_dropout=settings.dropout,
        target_modules=target_pattern(model, settings.targets),
        modules_to_save=[model.projector] if settings.projector_learning_rate > 0 else None,
        bias="none",
    )
    insert_tuner(module, LoraModel, config)
    for name, layer in lora_layers(module):
        _widen(layer, TRAINED)
        layer.scaling[TRAINED] = factor
        seeded_uniform_(lora_ab(layer)[0], name)
    prepare_trained(model)


def prepare_trained(model: InjectableModel) -> None:
    """Keep the trained projector in float32 or wider, and check that no vision tower is trained.

    Raises:
        UserError: It would be; the adapter is then detached.
    """
    for wrapper in saved_modules(model.module).values():
        _keep_in_float32(wrapper.modules_to_save[TRAINED])
    _check_vision_tower(model)


def insert_tuner(module: torch.nn.Module, tuner: Any, config: Any) -> None:
    """Insert an adapter by one of PEFT's tuner classes; ``detach_adapter`` removes it.

    Raises:
        UserError: An adapter is attached already.
    """
    if _TUNER in vars(module):
        raise UserError("an adapter is attached already", location="attach", hint="detach it first")
    vars(module)[_REQUIRES_GRAD] = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    with warnings.catch_warnings(), _preserved_random_state():
        # With modules_to_save PEFT warns that tied embeddings might have to be saved too; they need not.
        warnings.filterwarnings("ignore", message=".*tie_word_embeddings.*")
        vars(module)[_TUNER] = tuner(module, config, TRAINED)


def attached_tuner(module: torch.nn.Module) -> Any:
    """PEFT's object around the module, or None while no adapter is attached."""
    return vars(module).get(_TUNER)


def lora_layers(module: torch.nn.Module) -> Iterator[tuple[str, LoraLayer]]:
    """The adapted linear layers with their names in the untouched model, in the model's order."""
    from peft.tuners.lora.layer import LoraLayer

    return ((name, layer) for name, layer in module.named_modules() if isinstance(layer, LoraLayer))


def lora_ab(layer: LoraLayer, adapter: str = TRAINED) -> tuple[torch.Tensor, torch.Tensor]:
    """A (r, d_in) and B (d_out, r) of an adapted layer."""
    return cast("torch.nn.Linear", layer.lora_A[adapter]).weight, cast("torch.nn.Linear", layer.lora_B[adapter]).weight


def target_layers(model: InjectableModel, targets: str = ALL) -> dict[str, torch.nn.Linear]:
    """The decoder's linear layers that a method adapts, by their full names in the untouched model.

    Args:
        model: With an adapter, these are the layers beneath it.
        targets: As the setting ``targets``.

    Raises:
        UserError: There are none.
    """
    pattern = re.compile(model.linear_targets)
    found = ((name, layer) for name, layer in model.module.named_modules() if pattern.fullmatch(name))
    beneath = {name: _unwrapped(layer) for name, layer in found}
    layers = {name: layer for name, layer in beneath.items() if isinstance(layer, torch.nn.Linear)}
    if not layers:
        raise UserError("no linear layer matches", location=model.linear_targets, hint="correct the pattern")
    return {name: layers[name] for name in choose(tuple(layers), targets)}


def _unwrapped(layer: Any) -> torch.nn.Module:
    """The layer itself, or the one beneath it if it is one of PEFT's, of whatever kind of adapter."""
    beneath: torch.nn.Module = layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer
    return beneath


def linear_shapes(model: InjectableModel, targets: str = ALL) -> LinearShapes:
    """The shapes of the layers that a method adapts."""
    layers = target_layers(model, targets).items()
    return LinearShapes({name: (layer.in_features, layer.out_features) for name, layer in layers})


def target_pattern(model: InjectableModel, targets: str) -> str:
    """Full-match pattern of the layers that a method adapts: the model's own for all, else their names."""
    return model.linear_targets if targets == ALL else names_pattern(target_layers(model, targets))


def names_pattern(names: Iterable[str]) -> str:
    """Full-match pattern of these names and no others."""
    return "|".join(map(re.escape, names))


def freeze_a(model: InjectableModel, names: Container[str] | None = None) -> None:
    """Exclude A of these layers (None: all) from training, also after PEFT has disabled and enabled the adapter."""
    for name, layer in lora_layers(model.module):
        if names is not None and name not in names:
            continue
        layer.frozen_peft_weight_names = {**layer.frozen_peft_weight_names, TRAINED: ("lora_A",)}
        lora_ab(layer)[0].requires_grad_(False)


def add_frozen_adapter(
    model: InjectableModel, name: str, rank: int, scaling: float, names: Iterable[str] | None = None
) -> None:
    """Add a second adapter that is never trained, beside the trained one; its A and B are zero until they are set.

    Args:
        model: With the trained adapter attached.
        name: Of the second adapter.
        rank: Of the second adapter.
        scaling: Factor of its B A.
        names: The layers that get it [default: all that have the trained one].
    """
    from peft import LoraConfig

    tuner = vars(model.module)[_TUNER]
    targets = tuner.peft_config[TRAINED].target_modules if names is None else names_pattern(names)
    tuner.peft_config[name] = LoraConfig(r=rank, lora_alpha=rank, target_modules=targets, bias="none")
    with _preserved_random_state():
        tuner.inject_adapter(model.module, name)
    for _, layer in lora_layers(model.module):
        if name not in layer.lora_A:
            continue
        _widen(layer, name)
        layer.scaling[name] = scaling
        layer.frozen_peft_weight_names = {**layer.frozen_peft_weight_names, name: ("lora_A", "lora_B")}
        layer.set_adapter([TRAINED, name])
        for weight in lora_ab(layer, name):
            weight.data.zero_()


class _WhenEvaluated(torch.nn.Linear):
    """An A whose projection is 0 in training mode."""

    def __init__(self, weight: torch.nn.Parameter) -> None:
        super().__init__(weight.shape[1], weight.shape[0], bias=False, device="meta")
        self.weight = weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., d_in) -> (..., r)."""
        return x.new_zeros(*x.shape[:-1], self.out_features) if self.training else super().forward(x)


def use_when_evaluated(model: InjectableModel, name: str) -> None:
    """Leave an added adapter out of the forward pass in training mode."""
    for _, layer in lora_layers(model.module):
        weight = cast("torch.nn.Parameter", lora_ab(layer, name)[0])
        layer.lora_A[name] = _WhenEvaluated(weight).train(model.module.training)


@contextmanager
def without_adapter(model: InjectableModel) -> Iterator[None]:
    """Disable the adapter and the trained projector, then enable them with the same trainable parameters."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.module.parameters()]
    layers = [layer for _, layer in lora_layers(model.module)] + list(saved_modules(model.module).values())
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for parameter, flag in flags:  # PEFT sets requires_grad on everything that it enables
            parameter.requires_grad_(flag)


def parameter_groups(model: InjectableModel, settings: MethodSettings) -> Iterator[dict[str, Any]]:
    """Yield AdamW groups: the trained parameters of the language model, and the projector with its learning rate."""
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

    Trained tensors are converted to the base's data type, in which training in half precision used them; for a
    quantised base that is the type it computes in. Frozen ones are not converted, since rounding would move KORE's A
    out of the null space.
    """
    layers = [layer for _, layer in lora_layers(model.module)]
    base_dtype = max({weight_dtype(layer.get_base_layer()) for layer in layers}, key=lambda dtype: dtype.itemsize)
    pairs = [lora_ab(layer, adapter) for layer in layers for adapter in layer.lora_A]
    frozen = {id(factor) for pair in pairs for factor in pair if not factor.requires_grad}
    return {
        name: tensor.detach().to("cpu", tensor.dtype if id(tensor) in frozen else base_dtype, copy=True).contiguous()
        for name, tensor in _state(model.module).items()
    }


def load_adapter(model: InjectableModel, tensors: Tensors) -> None:
    """Copy what ``export_adapter`` returned into the attached adapter.

    Raises:
        UserError: A tensor is missing, unknown or of another shape.
    """
    load_tensors(_state(model.module), tensors)


def load_tensors(state: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor], what: str = "tensors") -> None:
    """Copy tensors into those of the same names in ``state``.

    Args:
        state: A model's live tensors.
        tensors: Their new values.
        what: What they are, for the message.

    Raises:
        UserError: A tensor is missing, unknown or of another shape.
    """
    wrong = sorted(state.keys() ^ tensors.keys())
    wrong += sorted(name for name in state.keys() & tensors.keys() if state[name].shape != tensors[name].shape)
    if wrong:
        raise UserError(
            f"{len(wrong)} {what} are missing, unknown or of another shape, the first is {wrong[0]}",
            location="adapter",
            hint="use it with the model and the settings that it was trained with",
        )
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(tensors[name])


def detach_adapter(model: InjectableModel) -> None:
    """Remove the adapter: the same layers, weights and ``requires_grad`` as before. Calling it twice is harmless.

    A parameter that the method itself added stays, so that the check of the untouched base finds it.
    """
    tuner = vars(model.module).pop(_TUNER, None)
    if tuner is None:
        return
    for name, wrapper in saved_modules(model.module).items():
        # PEFT's unload would leave the trained copy in the model.
        model.module.set_submodule(name, wrapper.original_module)
    tuner.unload()
    flags = vars(model.module).pop(_REQUIRES_GRAD)
    for name, parameter in model.module.named_parameters():
        if name in flags:
            parameter.requires_grad_(flags[name])


def seeded_uniform_(weight: torch.Tensor, name: str) -> None:
    """Initialise A (r, d_in) as PyTorch does a linear layer, from ``torch.initial_seed()`` and the name alone."""
    if weight.is_meta:  # a model without weights, to count parameters
        return
    bound = weight.shape[1] ** -0.5
    values = torch.empty(weight.shape, dtype=torch.float32).uniform_(-bound, bound, generator=seeded_generator(name))
    with torch.no_grad():
        weight.copy_(values)


def seeded_generator(name: str, seed: int | None = None) -> torch.Generator:
    """A CPU generator that depends on the seed (default: ``torch.initial_seed()``) and the name alone."""
    digest = hashlib.sha256(f"{torch.initial_seed() if seed is None else seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@contextmanager
def _preserved_random_state() -> Iterator[None]:
    """Restore the random state: PEFT draws initial weights that are overwritten, which must not affect later draws."""
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)


def saved_modules(module: torch.nn.Module) -> dict[str, Any]:
    """PEFT's wrappers around modules of which a copy is trained, by name."""
    from peft.utils.other import ModulesToSaveWrapper

    return {name: part for name, part in module.named_modules() if isinstance(part, ModulesToSaveWrapper)}


def _state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Live tensors of what is attached: ``<layer>.lora_A.weight``, ``<layer>.lora_B.weight``, ``<projector>.*``.

    Those of a frozen second adapter include its name: ``<layer>.lora_A.<adapter>.weight``.
    """
    state: dict[str, torch.Tensor] = {}
    for name, layer in lora_layers(module):
        for adapter in layer.lora_A:
            end = "weight" if adapter == TRAINED else f"{adapter}.weight"
            state[f"{name}.lora_A.{end}"], state[f"{name}.lora_B.{end}"] = lora_ab(layer, adapter)
    return state | projector_state(module)


def projector_state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Live tensors of the projector's trained copy, by their names in the untouched model; none without one."""
    return {
        f"{name}.{key}": value
        for name, wrapper in saved_modules(module).items()
        for key, value in wrapper.modules_to_save[TRAINED].state_dict().items()
    }


def _widen(layer: LoraLayer, adapter: str) -> None:
    """Convert half-precision A and B to float32; PEFT casts the activations."""
    for weight in lora_ab(layer, adapter):
        if weight.dtype in (torch.bfloat16, torch.float16):
            weight.data = weight.data.float()


def _keep_in_float32(trained: torch.nn.Module) -> None:
    """Convert a half-precision module's weights to float32, but compute as before, so that its outputs are the same."""
    dtypes = {parameter.dtype for parameter in trained.parameters()}
    if dtypes <= {torch.float32, torch.float64}:
        return
    dtype, forward = dtypes.pop(), trained.forward

    def autocast_forward(*inputs: Any, **options: Any) -> Any:
        with torch.autocast(next(trained.parameters()).device.type, dtype):
            return forward(*inputs, **options)

    trained.float()
    trained.forward = autocast_forward


def _check_vision_tower(model: InjectableModel) -> None:
    """Detach and refuse if a pattern is too wide: layers of a vision tower are called q_proj, too."""
    for name, parameter in model.module.named_parameters():
        path = name.split(".")
        if parameter.requires_grad and model.towers & set(path) and model.projector not in path:
            detach_adapter(model)
            raise UserError(
                f"{name} of the vision tower would be trained", location="attach", hint="narrow linear_targets"
            )
