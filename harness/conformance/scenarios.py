"""Everything that the checks look at: the main life, and others that must come out the same or must not meddle."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.checkpoint import checkpoint

from benchmarks.errors import UserError
from benchmarks.records import Conversation
from harness.conformance.fakes import CPU, FakeResources, InMemoryCheckpoint, SimulatedKill, fresh_model
from harness.conformance.lifecycle import BATCH, TRAINING, MethodLifecycle, calling, items, logits
from harness.conformance.probes import probe
from harness.conformance.reference_run import ReferenceRun, Tensors
from harness.conformance.registry import Inconclusive, NotApplicable
from harness.conformance.snapshot import Snapshot, changes, snapshot
from harness.training.conversation_batches import ConversationBatches, InjectionLoss
from harness.training.loop import LoggedStep, fit
from methods.base import InjectionMethod
from methods.interfaces import AdapterSettings

if TYPE_CHECKING:
    from harness.models.base import LanguageVisionModel

HALFWAY = 2
FEW = 2
"""Steps that suffice to compare two lives: in the second, what the first learnt counts."""


@dataclass(frozen=True)
class OtherSeed:
    """A life with another seed: its adapter, and its loss and penalty before and after one more life begins."""

    adapter: Tensors
    before: tuple[float, float]
    after: tuple[float, float]


@dataclass(frozen=True)
class RestoreState:
    """A fresh instance and model with an adapter put in."""

    model: LanguageVisionModel
    logits: torch.Tensor
    again: Any
    """What ``export`` gives now."""
    fresh: Snapshot
    detached: Snapshot


@dataclass(frozen=True)
class SecondStage:
    """A second injection stage."""

    start: torch.Tensor
    end: torch.Tensor
    restored: torch.Tensor | None
    """Logits of a fresh model with the second stage's adapter; None where it cannot be put in."""
    refused: str


class Scenarios(ReferenceRun):
    """What can be seen of a method in the tiny world; each part is computed when first asked for."""

    def new_life(self, **how: Any) -> MethodLifecycle:
        """Another life, begun after the main one has ended: what methods keep on the class must not mix them."""
        self.finish()
        with calling("__init__"):
            return MethodLifecycle(self.subject.make(), **{"cached": self.cached, **how})

    @probe
    def resumed(self) -> tuple[MethodLifecycle, list[LoggedStep], list[LoggedStep]]:
        """A life killed halfway, and another, with statistics of its own, that goes on: the other, and both logs."""
        _ = self.fitted
        kept = InMemoryCheckpoint(HALFWAY)
        first = self.new_life().begin().fit(checkpoint=kept)
        life = self.new_life(cached={}).begin()
        return life, first, life.fit(checkpoint=InMemoryCheckpoint.of(kept))

    @probe
    def repeatable(self) -> bool:
        """Whether two lives of the same seed are the same, so that a difference between lives says something."""
        _, first, _ = self.resumed
        return diagnostics(first) == diagnostics(self.fitted.steps[: len(first)])

    @probe
    def cut(self) -> list[LoggedStep]:
        """A life with one row in a micro-batch."""
        self.comparable()
        return self.new_life().begin().fit(FEW, micro_batch=1)

    @probe
    def checkpointed(self) -> list[LoggedStep]:
        """A life that recomputes activations."""
        self.comparable()
        life = self.new_life()
        parts: list[Any] = list(life.model.module.modules())
        for part in parts:
            if hasattr(part, "gradient_checkpointing"):  # what transformers' own switch sets, in whatever version
                part.gradient_checkpointing = True
                part._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
        return life.begin().fit(FEW)

    @probe
    def half(self) -> tuple[MethodLifecycle, list[LoggedStep]]:
        """A life on a base in half precision."""
        _ = self.fitted
        life = self.new_life(dtype="bfloat16", cached={}).begin()
        return life, life.fit(1, precision="bfloat16")

    @probe
    def other(self) -> OtherSeed:
        """A life with another seed, beside which a third begins."""
        _ = self.adapter
        life = self.new_life(seed=1).begin()
        life.fit(FEW)
        with calling("export"):
            tensors = life.method.export(life.model)
        batch = life.model.training_batch(life.samples[:FEW])
        before = life.measure(batch)
        self.new_life().begin()
        return OtherSeed(tensors, before, life.measure(batch))

    @probe
    def restored(self) -> RestoreState:
        """The main life's adapter in a fresh model."""
        adapter = self.adapter
        life = self.new_life()
        fresh = snapshot(life.model.module)
        found = put_in(life.method, life.model, adapter)
        with calling("export"):
            again = life.method.export(life.model)
        with calling("detach"):
            life.method.detach(life.model)
        return RestoreState(life.model, found, again, fresh, snapshot(life.model.module))

    @probe
    def in_turn(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Logits with another adapter where the main one was, then with the main one again; of each in a fresh base."""
        alone, shared = self.restored, self.restored.model
        found = []
        for tensors in (self.other.adapter, self.adapter):
            method = self.subject.make()
            found.append(put_in(method, shared, tensors))
            with calling("detach"):
                method.detach(shared)
        return found, [put_in(self.subject.make(), fresh_model(), self.other.adapter), alone.logits]

    @probe
    def second(self) -> SecondStage:
        """A second stage, from what the first exported and carried over."""
        life = self.new_life(earlier=(self.adapter, self.stage_state)).begin()
        start = life.logits()
        life.fit(FEW)
        end = life.logits()
        with calling("export"):
            tensors = life.method.export(life.model)
        try:
            return SecondStage(start, end, put_in(self.subject.make(), fresh_model(), tensors), "")
        except Inconclusive as error:
            return SecondStage(start, end, None, str(error))

    @probe
    def data(self) -> tuple[list[Conversation], list[Conversation], list[str]]:
        """Training data of two instances with the same seed; benchmarks read by the first."""
        found, read = [], []
        for _ in range(2):
            resources = FakeResources(0, {})
            with calling("training_data"):
                found.append(self.subject.make().training_data(items(), resources))
            read += resources.read
        return found[0], found[1], read

    def without_coefficient(self) -> tuple[list[LoggedStep], list[LoggedStep], list[str]]:
        """Logs of the method at coefficient zero and of LoRA on the same data; ids of samples that are not LoRA's.

        Raises:
            NotApplicable: It has no coefficient, or one that cannot be zero.
        """
        coefficient = self.subject.method.coefficient
        if coefficient is None:
            raise NotApplicable("it declares no coefficient")
        try:
            method = self.subject.make(**{coefficient.setting: 0.0})
        except (UserError, TypeError) as error:
            raise NotApplicable(f"{coefficient.setting} cannot be 0") from error
        if not isinstance(method.settings, AdapterSettings):
            raise NotApplicable("it has no adapter that could be LoRA's")
        self.comparable()
        shared = {name: getattr(method.settings, name) for name in AdapterSettings.__dataclass_fields__}
        plain = InjectionMethod(AdapterSettings(**shared))
        zero = MethodLifecycle(method, cached={}).begin()
        twin = MethodLifecycle(plain, samples=zero.samples).begin()
        data = [each.training_data(items(), FakeResources(0, {})) for each in (self.subject.make(), method, plain)]
        steers = data[0] != data[1]
        strays = [one.id for one in data[1] if one not in data[2]] if steers else []
        return zero.fit(HALFWAY), twin.fit(HALFWAY), strays

    def tensors_alive(self, steps: tuple[int, int]) -> tuple[int, int]:
        """How many tensors there are after so many steps of one training."""
        _ = self.fitted
        life, counts = self.new_life().begin(), []

        def count(step: LoggedStep) -> None:
            if step.step + 1 in steps:
                gc.collect()
                counts.append(sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects()))
            if len(counts) == len(steps):
                raise SimulatedKill

        settings = TRAINING.model_copy(update={"epochs": max(steps), "batch_size": BATCH // 2})
        source = ConversationBatches(life.model, life.samples[: BATCH // 2], settings, 0)
        try:
            fit(source, InjectionLoss(life.model, life.method), life.groups, settings, device=CPU, on_step=count)
        except SimulatedKill:
            return counts[0], counts[1]
        raise Inconclusive("the training ended early")

    def comparable(self) -> None:
        """Refuse to compare lives where even two of the same seed differ."""
        if not self.repeatable:
            raise Inconclusive("two trainings with the same seed differ, so nothing can be compared")


def put_in(method: InjectionMethod, model: Any, tensors: Tensors) -> torch.Tensor:
    """Restore an adapter and look at the logits."""
    with calling("restore"):
        method.restore(model, dict(tensors))
    return logits(model)


def diagnostics(steps: list[LoggedStep]) -> list[tuple[float, float, float]]:
    """Loss, penalty and gradient norm of each step."""
    return [(step.loss, step.penalty, step.grad_norm) for step in steps]


def differing(one: Tensors, other: Any) -> list[str]:
    """Names of exported tensors that are not the same."""
    return changes(one, other) if isinstance(other, dict) else ["everything"]
