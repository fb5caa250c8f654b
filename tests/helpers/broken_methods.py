"""A broken method for each check of the contract. Imports no torch, as becomes a file with methods."""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
from typing import ClassVar

from benchmarks.records import Conversation
from methods.base import Coefficient, InjectionMethod, Paper, Variant
from methods.interfaces import AdapterSettings, setting

DOC = """LoRA with a fault.

Paper: none.
Differences: one.
Cost: a row.
"""
CONTROLS: dict[str, type[InjectionMethod]] = {}
"""By the check that it fails, and it alone. None of them is registered: they get their names afterwards."""
VARIANTS = {"variant-differs": "same"}
CONSEQUENCES = {"vision-frozen": {"all-train", "trained-in-float32"}}
"""What else cannot but fail."""
COUNT = itertools.count()


def breaks(check):
    def add(kind):
        kind.__doc__ = kind.__doc__ or DOC
        kind.name = kind.name or f"breaks-{check}"
        CONTROLS[check] = kind
        return kind

    return add


class Sound(InjectionMethod):
    """LoRA."""

    summary = "LoRA with a fault"
    paper = Paper("None", "https://example.org")

    def _parameters(self, model, part="lora_B"):
        return [parameter for name, parameter in model.module.named_parameters() if part in name]

    def _size(self, model):
        return sum(parameter.square().sum() for parameter in self._parameters(model))


# What it says about itself.


@breaks("name-usable")
class Unnameable(Sound):
    pass


Unnameable.name = "My Idea"


@breaks("documented")
class Undocumented(Sound):
    """LoRA.

    Paper: none.
    Differences: one.
    """


@breaks("summarised")
class Unsummarised(Sound):
    summary = ""


@breaks("hooks-known")
class Renamed(Sound):
    def regularise(self, model, batch, logits):
        return self._size(model)


@breaks("exceptions-real")
class Excused(Sound):
    expected_failures: ClassVar = {"no-such-check": "because"}


# Settings.


class Forgot(AdapterSettings):
    strength: float = 0.5


@breaks("settings-are-fields")
class NoFields(Sound):
    Settings = Forgot


@dataclasses.dataclass(frozen=True)
class Bare(AdapterSettings):
    strength: float = 0.5


@breaks("settings-explained")
class Unexplained(Sound):
    Settings = Bare


@dataclasses.dataclass(frozen=True)
class OneWay(AdapterSettings):
    layers: frozenset = setting(frozenset({1}), "which layers", source="ours")


@breaks("settings-round-trip")
class Unwritable(Sound):
    Settings = OneWay


@breaks("variant-differs")
class Twin(Sound):
    variants: ClassVar = {"same": Variant({"weight_decay": 0.0}, "the same again")}


@breaks("coefficient-real")
class Misnamed(Sound):
    coefficient = Coefficient("strength", (0.1, 1.0, 10.0))


# Data and statistics.


@breaks("data-usable")
class Doubled(Sound):
    def training_data(self, knowledge, resources):
        return 2 * super().training_data(knowledge, resources)


@breaks("data-deterministic")
class Shuffled(Sound):
    def training_data(self, knowledge, resources):
        data = super().training_data(knowledge, resources)
        return [dataclasses.replace(one, id=f"{one.id}/{next(COUNT)}") for one in data]


class Peeking(Sound):
    evaluation_inputs = ("MME",)


@breaks("data-without-questions")
class Cheat(Peeking):
    def training_data(self, knowledge, resources) -> list[Conversation]:
        return [*super().training_data(knowledge, resources), *resources.benchmark_prompts("MME", 1)]


@breaks("evaluation-declared")
class Undeclared(Sound):
    def prepare(self, model, resources):
        resources.benchmark_prompts("MME", 1)
        return {}


@breaks("prepare-leaves-base")
class Litters(Sound):
    def prepare(self, model, resources):
        model.module.register_forward_hook(lambda *_: None)
        return {}


@breaks("prepare-deterministic")
class Noisy(Sound):
    def prepare(self, model, resources):
        import torch

        return {"noise": torch.tensor(random.SystemRandom().random())}


@breaks("prepared-storable")
class Lists(Sound):
    def prepare(self, model, resources):
        return {"numbers": [1.0, 2.0]}


@breaks("diagnostics-numbers")
class Wordy(Sound):
    def diagnostics(self, prepared):
        return {"leaked energy": "much"}


# Attaching.


@breaks("start-equals-base")
class HeadStart(Sound):
    def attach(self, model, prepared):
        super().attach(model, prepared)
        for parameter in self._parameters(model):
            parameter.data.fill_(0.1)


class Tower(Sound):
    """Touches a weight of the vision tower that has no part in what is said; puts it back."""

    _kept = None

    def attach(self, model, prepared):
        super().attach(model, prepared)
        (self._norm,) = self._parameters(model, "post_layernorm.weight")
        self._kept = self._norm.detach().clone()

    def detach(self, model):
        super().detach(model)
        if self._kept is not None:
            self._norm.data.copy_(self._kept)


@breaks("attach-leaves-weights")
class Scribbles(Tower):
    def attach(self, model, prepared):
        super().attach(model, prepared)
        self._norm.data.mul_(2)


@breaks("trains-something")
class Idle(Sound):
    def attach(self, model, prepared):
        super().attach(model, prepared)
        model.module.requires_grad_(False)


@breaks("groups-exact")
class LeftOut(Sound):
    def parameter_groups(self, model):
        for group in super().parameter_groups(model):
            yield {**group, "params": group["params"][1:], "names": group["names"][1:]}


@breaks("groups-complete")
class Mislabels(Sound):
    def parameter_groups(self, model):
        for group in super().parameter_groups(model):
            yield {**group, "names": group["names"][::-1]}


@breaks("vision-frozen")
class TooWide(Tower):
    def attach(self, model, prepared):
        super().attach(model, prepared)
        self._norm.requires_grad_(True)


@breaks("trained-in-float32")
class Narrow(Sound):
    def attach(self, model, prepared):
        super().attach(model, prepared)
        for parameter in self._parameters(model, "lora_"):
            parameter.data = parameter.data.to(model.module.dtype)


@breaks("half-precision-runs")
class FullOnly(Sound):
    def attach(self, model, prepared):
        import torch

        if model.module.dtype == torch.bfloat16:
            raise TypeError("bfloat16")
        super().attach(model, prepared)


@breaks("attach-again")
class Remembers(Sound):
    def attach(self, model, prepared):
        super().attach(model, prepared)
        for parameter in self._parameters(model) if hasattr(model.module, "been_here") else ():
            parameter.data.fill_(0.1)
        model.module.been_here = True


@breaks("process-untouched")
class Meddles(Sound):
    def attach(self, model, prepared):
        super().attach(model, prepared)
        os.environ["MEDDLED"] = str(next(COUNT))
