"""LoRA whose factors start at values computed from the base: the update starts at 0, and W0 stays untouched.

Papers that start B and A at some B0 and A0 take B0 A0 off W0, so that the model answers as before. Here W0 stays as it
is: a second, frozen adapter subtracts B0 A0, which trains the same. Over a frozen A, B can start at 0 instead.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from benchmarks.errors import UserError
from methods.base import (
    AdapterSettings,
    DecoderShapes,
    InjectableModel,
    InjectionMethod,
    LinearShapes,
    MemoryNeeds,
    Resources,
    Tensors,
    setting,
)
from methods.memory import covariance_bytes
from methods.targets import check_rank

if TYPE_CHECKING:
    from methods.components.covariance import InputCovariance

START = "start"
"""Name of the frozen second adapter that holds the trained adapter's initial values."""


def attach_initialized(
    model: InjectableModel, settings: AdapterSettings, *, trains_a: bool, names: Collection[str] | None = None
) -> None:
    """Add an adapter with scaling 1: A frozen and B trained, or both trained, with a frozen copy that is subtracted.

    Args:
        model: The untouched model; changed in place.
        settings: Rank and targets.
        trains_a: Whether A is trained.
        names: The layers of which this is so [default: all that are adapted]; the others get plain LoRA.
    """
    from methods.components.lora_layers import add_frozen_adapter, attach_lora, freeze_a

    attach_lora(model, settings, scaling=1.0)
    if trains_a:
        add_frozen_adapter(model, START, settings.rank, scaling=-1.0, names=names)
    else:
        freeze_a(model, names)


def set_start(model: InjectableModel, start: Tensors) -> None:
    """Copy ``<layer>.A`` to A and, where A is trained, ``<layer>.B`` to B; over a frozen A, B stays 0."""
    from methods.components.lora_layers import lora_ab, lora_layers

    for name, layer in lora_layers(model.module):
        for adapter in layer.lora_A if f"{name}.A" in start else ():
            a, b = lora_ab(layer, adapter)
            a.data.copy_(start[f"{name}.A"])
            if START in layer.lora_A:
                b.data.copy_(start[f"{name}.B"])


def refuse_decay_and_dropout(settings: AdapterSettings, name: str) -> None:
    """Refuse what would make training B from 0 over a frozen A another training than from B0.

    Args:
        settings: Of the method.
        name: The method, for the message.

    Raises:
        UserError: Weight decay or dropout is not 0.
    """
    if settings.weight_decay or settings.dropout:
        raise UserError(
            "weight decay and dropout must be 0: B starts at 0 here and at B0 in the paper, and only without them is "
            "that the same training",
            location=f"{name}.weight_decay, {name}.dropout",
            hint="set both to 0",
        )


def mean_and_largest(prepared: Tensors, ending: str, what: str) -> dict[str, float]:
    """Mean and largest over the layers of the scalars whose names have this ending; empty if there are none."""
    values = [float(tensor) for name, tensor in prepared.items() if name.endswith(ending)]
    return {f"{what}, mean": sum(values) / len(values), f"{what}, largest": max(values)} if values else {}


@dataclasses.dataclass(frozen=True)
class InitializedLoRASettings(AdapterSettings):
    """LoRA's settings, and those of the calibration; ``alpha`` has no effect, since the scaling is 1."""

    calibration_samples: int = setting(
        256, "prompts behind the covariances", unit="samples", source="LoRA-Null and CorDA: 256", ge=1
    )
    norm: Literal["token-mean", "official"] = setting(
        "token-mean",
        "how tokens are weighted in the covariance",
        source="papers: C = X X^T; their code: /|max X|",
        choices=("token-mean", "official"),
    )


class InitializedLoRA(InjectionMethod):
    """LoRA that starts at factors computed from the covariances of the calibration pool's inputs."""

    Settings = InitializedLoRASettings
    settings: InitializedLoRASettings
    pools = ("calibration",)
    _needs_outputs: ClassVar[bool] = False
    """Whether the start takes as many directions of each layer's outputs as of its inputs."""

    @property
    def _trains_a(self) -> bool:
        """Whether A is trained as well as B."""
        return True

    def _start(self, model: InjectableModel, inputs: Iterable[InputCovariance]) -> Tensors:
        """``<layer>.A`` (r, d_in), ``<layer>.B`` (d_out, r), and what ``diagnostics`` reads."""
        raise NotImplementedError

    def validate_layers(self, layers: LinearShapes) -> None:
        """Also refuse a rank that is larger than a layer, which has no such start."""
        super().validate_layers(layers)
        check_rank(self.adapted(layers), self.settings.rank, outputs=self._needs_outputs)

    def adapter_parameters(self, layers: LinearShapes) -> int:
        """As for LoRA, or those of B alone."""
        if self._trains_a:
            return super().adapter_parameters(layers)
        return self.settings.rank * sum(d_out for _, d_out in layers)

    def memory_needs(self, shapes: DecoderShapes) -> MemoryNeeds:
        """As for LoRA, with A frozen or a frozen copy of both factors; before, the covariances of one layer."""
        needs = super().memory_needs(shapes)
        frozen = self.settings.rank * sum(d_in + self._trains_a * d_out for d_in, d_out in shapes.linears)
        samples = self.settings.calibration_samples
        needs = needs.plus(frozen=frozen, preparation=covariance_bytes(shapes), prompts=samples)
        return dataclasses.replace(needs, keeps_inputs=self._trains_a)

    def prepare(self, model: InjectableModel, resources: Resources) -> Tensors:
        """Compute the initial factors from prompts of the calibration pool, once."""
        from benchmarks.records import content_digest
        from methods.components.covariance import covariances
        from methods.components.lora_layers import target_layers, target_pattern

        settings = self.settings
        prompts = resources.pool_samples(settings.calibration_samples, "calibration")
        learning = {field.name for field in dataclasses.fields(AdapterSettings)} - {"rank"}
        own = {name: value for name, value in dataclasses.asdict(settings).items() if name not in learning}
        key: dict[str, Any] = {
            "what": f"{self.name}/start",
            "prompts": content_digest(prompts),
            "layers": target_pattern(model, settings.targets),
            **own,
        }
        names = frozenset(target_layers(model, settings.targets))
        return resources.cached(
            key, lambda: self._start(model, covariances(model, prompts, settings.norm, names=names))
        )

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """Attach the adapter at its start, W0 untouched."""
        attach_initialized(model, self.settings, trains_a=self._trains_a)
        set_start(model, prepared)

    def restore(self, model: InjectableModel, exported: Tensors) -> None:
        """Attach and load all factors."""
        from methods.components.lora_layers import load_adapter

        attach_initialized(model, self.settings, trains_a=self._trains_a)
        load_adapter(model, exported)
