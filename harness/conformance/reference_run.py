"""The life that most checks look at: one training from the untouched base to the base restored, observed on the way."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.conformance.lifecycle import PROBE, MethodLifecycle, calling
from harness.conformance.padding import alone, merged_logits, widened
from harness.conformance.probes import ProbeHost, probe
from harness.conformance.registry import Inconclusive
from harness.conformance.snapshot import Snapshot, changes, copies, snapshot
from harness.conformance.subject import MethodUnderTest
from harness.training.hook_checks import validate_tensors
from harness.training.loop import LoggedStep

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class AttachState:
    """Up to the moment before the first step."""

    untouched: Snapshot
    """The base as it was loaded."""
    base: Snapshot
    """The base after ``prepare``."""
    base_logits: torch.Tensor
    start_logits: torch.Tensor
    moved: list[str]
    """Weights of the base that ``attach`` changed."""
    names: dict[int, str]
    """The name of each parameter that the model then has, by ``id``."""
    flagged: dict[int, str]
    """Those that require gradients."""
    penalty: Any
    """Whatever ``penalty`` gave for a first batch."""
    side_effects: str
    """What asking for the penalty changed in the model."""
    process: list[str]
    """What the hooks changed in the process."""


@dataclass(frozen=True)
class TrainState:
    """The end of the training."""

    steps: list[LoggedStep]
    unchanged: list[str]
    """Parameters that were to be trained and are as they were."""
    moved: list[str]
    """Parameters and buffers that were not to be trained and are not as they were."""
    logits: torch.Tensor
    rows_alone: torch.Tensor
    merged: torch.Tensor
    measured: dict[str, tuple[float, float]]
    """Mean loss and penalty of one batch, ``plain``, with more padding (``wider``), with padding on the ``left``."""


@dataclass(frozen=True)
class ExportState:
    """What ``export`` gave."""

    raw: Any
    again: Any
    """What a second call gave."""
    shares: list[str]
    """Tensors that are the model's own memory instead of copies."""


@dataclass(frozen=True)
class StageState:
    """What ``export_stage_state`` gave and did."""

    raw: Any
    changed: list[str]
    shows: bool
    """Whether a logit changed."""


@dataclass(frozen=True)
class DetachState:
    """The base afterwards."""

    base: Snapshot
    twice: str
    """What a second ``detach`` raised or changed."""
    again: torch.Tensor
    """Logits after another ``attach`` with the same seed."""


def process_state() -> dict[str, Any]:
    """What a method must leave alone beside the model."""
    return {
        "the working directory": Path.cwd(),
        "an environment variable": dict(os.environ),
        "torch's default type": torch.get_default_dtype(),
        "whether torch records gradients": torch.is_grad_enabled(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
    }


class ReferenceRun(ProbeHost):
    """One life, part by part. Each part first has those before it done, for the model is one and the same.

    Args:
        subject: Whose life it is.
    """

    def __init__(self, subject: MethodUnderTest) -> None:
        super().__init__()
        self.subject = subject
        self.cached: dict[str, Tensors] = {}
        """Statistics of the main life, which other lives need not compute again."""

    @probe
    def life(self) -> MethodLifecycle:
        """The instance and its model; prepared by nobody yet."""
        with calling("__init__"):
            return MethodLifecycle(self.subject.make(), cached=self.cached)

    @probe
    def begun(self) -> AttachState:
        """Training data, statistics, adapter, first penalty."""
        life = self.life
        module = life.model.module
        untouched, process = snapshot(module), process_state()
        life.prepare()
        base, base_logits = snapshot(module), life.logits()
        own = dict(module.named_parameters())
        values = copies(own)
        life.attach()
        moved = [name for name, parameter in own.items() if not torch.equal(parameter.detach(), values[name])]
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        flagged = {id(each): name for name, each in module.named_parameters() if each.requires_grad}
        start = life.logits()
        module.train()
        batch = life.model.training_batch(life.samples[:2])
        logits, _ = life.model.supervised(batch)
        before, mode = snapshot(module), module.training
        with calling("penalty"):
            penalty = life.method.penalty(life.model, batch, logits)
        effects = before.difference(snapshot(module))
        if module.training != mode:
            effects = effects or "the model was in training mode and is in eval mode"
        now = process_state()
        touched = [what for what, was in process.items() if now[what] != was]
        return AttachState(untouched, base, base_logits, start, moved, names, flagged, penalty, effects, touched)

    @probe
    def fitted(self) -> TrainState:
        """The training, and the trained model from several sides."""
        begun, life = self.begun, self.life
        if begun.penalty is not None and not (isinstance(begun.penalty, torch.Tensor) and begun.penalty.dim() == 0):
            raise Inconclusive("the penalty is no scalar")
        module, learnt = life.model.module, life.learnt()
        wanted, before = copies(learnt), copies(_values(module))
        steps = life.fit()
        after = _values(module)
        touched = changes(before, after)
        batch = life.model.training_batch(PROBE)
        return TrainState(
            steps=steps,
            unchanged=[name for name in wanted if torch.equal(wanted[name], learnt[name].detach())],
            moved=[name for name in touched if name not in learnt],
            logits=life.logits(),
            rows_alone=alone(life.model, PROBE),
            merged=merged_logits(life.model),
            measured={
                "plain": life.measure(batch),
                "wider": life.measure(widened(batch)),
                "left": life.measure(widened(batch, left=True)),
            },
        )

    @probe
    def exported(self) -> ExportState:
        """The adapter, taken out twice."""
        _, life = self.fitted, self.life
        with calling("export"):
            raw = life.method.export(life.model)
            own = {tensor.untyped_storage().data_ptr() for tensor in _values(life.model.module).values()}
            given = [(name, each) for name, each in _tensors(raw) if each.layout == torch.strided]
            shares = [name for name, each in given if each.untyped_storage().data_ptr() in own]
            return ExportState(_kept(raw), _kept(life.method.export(life.model)), shares)

    @probe
    def adapter(self) -> Tensors:
        """The exported tensors, if they can be stored."""
        return _stored(self.exported.raw, "export")

    @probe
    def export_stage_state(self) -> StageState:
        """What is handed on to the next stage, and what asking for it changed."""
        self.tried("exported")
        _, life = self.fitted, self.life
        before, logits = copies(_values(life.model.module)), life.logits()
        with calling("export_stage_state"):
            raw = life.method.export_stage_state(life.model)
        return StageState(raw, changes(before, _values(life.model.module)), not torch.equal(logits, life.logits()))

    @probe
    def stage_state(self) -> Tensors:
        """What is handed on, if it can be stored."""
        return _stored(self.export_stage_state.raw, "export_stage_state")

    @probe
    def detached(self) -> DetachState:
        """The base after ``detach``, after a second one, and with an adapter once more."""
        self.tried("fitted", "exported", "export_stage_state")
        _, life = self.begun, self.life
        module = life.model.module
        with calling("detach"):
            life.method.detach(life.model)
        base = snapshot(module)
        twice = _twice(life, base)
        again = MethodLifecycle(self.subject.make(), cached=self.cached, samples=life.samples)
        again.model = life.model
        again.prepare()
        again.attach()
        return DetachState(base, twice, again.logits())

    def finish(self) -> None:
        """Live this life to its end, before another begins."""
        self.tried("begun", "fitted", "exported", "adapter", "export_stage_state", "stage_state", "detached")


def _values(module: torch.nn.Module) -> Tensors:
    """Parameters and buffers as they are now."""
    return {name: tensor.detach() for name, tensor in (*module.named_parameters(), *module.named_buffers())}


def _tensors(raw: Any) -> list[tuple[str, torch.Tensor]]:
    """Those of what a hook gave that are tensors, by name."""
    given = raw.items() if isinstance(raw, dict) else ()
    return [(name, each) for name, each in given if isinstance(each, torch.Tensor)]


def _kept(raw: Any) -> Any:
    """What a hook gave, its tensors copied: they may be the model's own."""
    return {**raw, **copies(dict(_tensors(raw)))} if isinstance(raw, dict) else raw


def _twice(life: MethodLifecycle, base: Snapshot) -> str:
    try:
        life.method.detach(life.model)
    except Exception as error:  # the method's own; what it was is all that matters
        return f"it raised {type(error).__name__}: {error}"
    return base.difference(snapshot(life.model.module))


def _stored(raw: Any, hook: str) -> Tensors:
    from benchmarks.errors import UserError

    try:
        return validate_tensors(raw, hook)
    except UserError as error:
        raise Inconclusive(error.message) from error
