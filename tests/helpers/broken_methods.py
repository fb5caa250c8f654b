"""A broken method for each check of the contract. Imports no torch at the top, like every file with methods."""

from __future__ import annotations

import dataclasses
import itertools
import os
import random
from typing import ClassVar

from benchmarks.records import Conversation
from methods.base import AdapterSettings, Coefficient, InjectionMethod, Paper, Variant, setting

DOC = """LoRA with a fault.

Paper: none.
Differences: one.
Cost: a row.
"""
CONTROLS: dict[str, type[InjectionMethod]] = {}
"""By the only check that each fails. None is registered, because names are set after the class is defined."""
VARIANTS = {"check_variant_differs": "same"}
CONSEQUENCES = {
    "check_vision_tower_frozen": {"check_trained_parameters_change", "check_trained_parameters_float32"},
    "check_parameter_groups_not_empty": {"check_targets_kept"},
}
"""Checks that fail as well, by the check that is meant to."""
COUNT = itertools.count()


def breaks(check):
    def add(kind):
        kind.__doc__ = kind.__doc__ or DOC
        kind.name = kind.name or check.replace("_", "-")
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


# Metadata.


@breaks("check_name")
class Unnameable(Sound):
    pass


Unnameable.name = "My Idea"


@breaks("check_docstring")
class Undocumented(Sound):
    """LoRA.

    Paper: none.
    Differences: one.
    """


@breaks("check_summary_and_paper")
class Unsummarised(Sound):
    summary = ""


@breaks("check_no_unknown_hooks")
class Renamed(Sound):
    def regularise(self, model, batch, logits):
        return self._size(model)


@breaks("check_expected_failures")
class Excused(Sound):
    expected_failures: ClassVar = {"no-such-check": "because"}


# Settings.


class Forgot(AdapterSettings):
    strength: float = 0.5


@breaks("check_settings_are_fields")
class NoFields(Sound):
    Settings = Forgot


@dataclasses.dataclass(frozen=True)
class Bare(AdapterSettings):
    strength: float = 0.5


@breaks("check_settings_documented")
class Unexplained(Sound):
    Settings = Bare


@dataclasses.dataclass(frozen=True)
class OneWay(AdapterSettings):
    layers: frozenset = setting(frozenset({1}), "which layers", source="ours")


@breaks("check_settings_json_round_trip")
class Unwritable(Sound):
    Settings = OneWay


@breaks("check_variant_differs")
class Twin(Sound):
    variants: ClassVar = {"same": Variant({"weight_decay": 0.0}, "the same again")}


@breaks("check_coefficient")
class Misnamed(Sound):
    coefficient = Coefficient("strength", (0.1, 1.0, 10.0))


# Data and statistics.


@breaks("check_training_data")
class Doubled(Sound):
    def training_data(self, knowledge, resources):
        return 2 * super().training_data(knowledge, resources)


@breaks("check_training_data_deterministic")
class Shuffled(Sound):
    def training_data(self, knowledge, resources):
        data = super().training_data(knowledge, resources)
        return [dataclasses.replace(one, id=f"{one.id}/{next(COUNT)}") for one in data]


class Peeking(Sound):
    evaluation_inputs = ("MME",)


@breaks("check_no_evaluation_questions")
class Cheat(Peeking):
    def training_data(self, knowledge, resources) -> list[Conversation]:
        return [*super().training_data(knowledge, resources), *resources.benchmark_prompts("MME", 1)]


@breaks("check_evaluation_inputs_declared")
class Undeclared(Sound):
    def prepare(self, model, resources):
        resources.benchmark_prompts("MME", 1)
        return {}


@breaks("check_pools_declared")
class DrawsUndeclared(Sound):
    pools = ("calibration",)

    def prepare(self, model, resources):
        resources.pool_samples(1, "rehearsal")
        return {}


@breaks("check_prepare_keeps_base")
class Litters(Sound):
    def prepare(self, model, resources):
        model.module.register_forward_hook(lambda *_: None)
        return {}


@breaks("check_prepare_deterministic")
class Noisy(Sound):
    def prepare(self, model, resources):
        import torch

        return {"noise": torch.tensor(random.SystemRandom().random())}


@breaks("check_prepare_tensors")
class Lists(Sound):
    def prepare(self, model, resources):
        return {"numbers": [1.0, 2.0]}


@breaks("check_diagnostics_numbers")
class Wordy(Sound):
    def diagnostics(self, prepared):
        return {"leaked energy": "much"}


# Attaching.


@breaks("check_attach_keeps_logits")
class HeadStart(Sound):
    def attach(self, model, prepared):
        super().attach(model, prepared)
        for parameter in self._parameters(model):
            parameter.data.fill_(0.1)


@breaks("check_attach_changes_logits")
class NothingAtAll(Sound):
    trains = False


class Tower(Sound):
    """Has access to a weight of the vision tower that does not affect the output; ``detach`` restores it."""

    _original = None

    def attach(self, model, prepared):
        super().attach(model, prepared)
        (self._norm,) = self._parameters(model, "post_layernorm.weight")
        self._original = self._norm.detach().clone()

    def detach(self, model):
        super().detach(model)
        if self._original is not None:
            self._norm.data.copy_(self._original)


@breaks("check_attach_keeps_weights")
class Scribbles(Tower):
    def attach(self, model, prepared):
        super().attach(model, prepared)
        self._norm.data.mul_(2)


@breaks("check_parameter_groups_not_empty")
class Idle(Sound):
    def attach(self, model, prepared):
        super().attach(model, prepared)
        model.module.requires_grad_(False)


@breaks("check_parameter_groups_complete")
class LeftOut(Sound):
    def parameter_groups(self, model):
        for group in super().parameter_groups(model):
            yield {**group, "params": group["params"][1:], "names": group["names"][1:]}


@breaks("check_parameter_group_keys")
class Mislabels(Sound):
    def parameter_groups(self, model):
        for group in super().parameter_groups(model):
            yield {**group, "names": group["names"][::-1]}


@breaks("check_vision_tower_frozen")
class TooWide(Tower):
    def attach(self, model, prepared):
        super().attach(model, prepared)
        self._norm.requires_grad_(True)


@breaks("check_targets_kept")
class Everywhere(Sound):
    def attach(self, model, prepared):
        from methods.components.lora_layers import attach_lora

        attach_lora(model, dataclasses.replace(self.settings, targets="all"))


@breaks("check_trained_parameters_float32")
class Narrow(Sound):
    def attach(self, model, prepared):
        super().attach(model, prepared)
        for parameter in self._parameters(model, "lora_"):
            parameter.data = parameter.data.to(model.module.dtype)


@breaks("check_half_precision")
class FullOnly(Sound):
    def attach(self, model, prepared):
        import torch

        if model.module.dtype == torch.bfloat16:
            raise TypeError("bfloat16")
        super().attach(model, prepared)


@breaks("check_attach_after_detach")
class Remembers(Sound):
    def attach(self, model, prepared):
        super().attach(model, prepared)
        for parameter in self._parameters(model) if hasattr(model.module, "been_here") else ():
            parameter.data.fill_(0.1)
        model.module.been_here = True


@breaks("check_process_state")
class Meddles(Sound):
    def attach(self, model, prepared):
        super().attach(model, prepared)
        os.environ["MEDDLED"] = str(next(COUNT))
