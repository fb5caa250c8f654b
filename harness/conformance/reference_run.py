"""The run that most checks look at: from the untouched base through one training to the restored base."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from benchmarks.errors import UserError
from harness.conformance.errors import HookError, Inconclusive, hook_errors
from harness.conformance.fakes import fresh_model
from harness.conformance.first_loss import LossState, first_loss
from harness.conformance.lifecycle import MethodLifecycle, Tensors, probe_samples
from harness.conformance.padding import merged_logits, pad, single_row_logits
from harness.conformance.snapshot import Snapshot, changed_tensors, copies, snapshot
from harness.conformance.subject import MethodUnderTest
from harness.training.hook_checks import loss_problem, validate_tensors
from harness.training.loop import LoggedStep

if TYPE_CHECKING:
    from harness.models.base import LanguageVisionModel

T = TypeVar("T")
MEASURED = 3
"""Training samples, of different lengths, in the batch for which loss and penalty are compared."""


class probe(cached_property[T]):
    """A ``cached_property`` of a run that caches failures too: each access raises the same ``Inconclusive``."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        @wraps(compute)
        def compute_once(run: ReferenceRun) -> T:
            if compute.__name__ in run.failures:
                raise run.failures[compute.__name__]
            try:
                return compute(run)
            except Inconclusive as failure:
                run.failures[compute.__name__] = failure
                raise

        super().__init__(compute_once)


@dataclass(frozen=True)
class AttachState:
    """The model before the first step.

    Attributes:
        loaded: The base as it was loaded.
        base: The base after ``prepare``.
        base_logits: Logits of the base.
        start_logits: Logits after ``attach``.
        changed_weights: Weights of the base that ``attach`` changed.
        parameter_names: The name of every parameter after ``attach``, by ``id``.
        trainable_names: The names of those that require gradients, by ``id``.
        loss: What ``loss`` returned for first batches.
        penalty: What ``penalty`` returned for a first batch.
        penalty_side_effect: What calling ``penalty`` changed in the model; "" for nothing.
        process_changes: What the hooks changed in the process.
    """

    loaded: Snapshot
    base: Snapshot
    base_logits: torch.Tensor
    start_logits: torch.Tensor
    changed_weights: list[str]
    parameter_names: dict[int, str]
    trainable_names: dict[int, str]
    loss: LossState
    penalty: Any
    penalty_side_effect: str
    process_changes: list[str]


@dataclass(frozen=True)
class TrainState:
    """The model after the training.

    Attributes:
        steps: The log.
        unchanged: Parameters that were to be trained but did not change.
        changed: Parameters and buffers that were not to be trained but changed.
        logits: Logits of the probe samples.
        single_row_logits: The same, each sample in a batch by itself.
        merged_logits: The same, with each decoder linear as one matrix.
        measured: Mean loss and penalty of one batch: ``plain``, with more padding (``wider``), padded on the ``left``.
    """

    steps: list[LoggedStep]
    unchanged: list[str]
    changed: list[str]
    logits: torch.Tensor
    single_row_logits: torch.Tensor
    merged_logits: torch.Tensor
    measured: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class ExportState:
    """What ``export`` returned the first and the second time, and the tensors that share memory with the model."""

    returned: Any
    returned_again: Any
    shared: list[str]


@dataclass(frozen=True)
class StageExportState:
    """What ``export_stage_state`` returned, and which weights and whether the logits changed."""

    returned: Any
    changed: list[str]
    logits_changed: bool


@dataclass(frozen=True)
class DetachState:
    """The model after ``detach``.

    Attributes:
        base: The base.
        second_detach: What a second ``detach`` raised or changed; "" for nothing.
        logits_attached_again: Logits after another ``attach`` with the same seed.
    """

    base: Snapshot
    second_detach: str
    logits_attached_again: torch.Tensor


def process_state() -> dict[str, Any]:
    """State of the process that a method must not change."""
    return {
        "the working directory": Path.cwd(),
        "an environment variable": dict(os.environ),
        "torch's default type": torch.get_default_dtype(),
        "whether torch records gradients": torch.is_grad_enabled(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
    }


class ReferenceRun:
    """One run, step by step. Each probe first computes those before it, because they share one model.

    Args:
        subject: The method to run.

    Attributes:
        cache: Statistics of this run, which other runs need not compute again.
        failures: Why a probe cannot be computed, by its name.
    """

    def __init__(self, subject: MethodUnderTest) -> None:
        self.subject = subject
        self.cache: dict[str, Tensors] = {}
        self.failures: dict[str, Inconclusive] = {}

    def fresh_model(self) -> LanguageVisionModel:
        """A new model without an adapter."""
        return fresh_model(folder=self.subject.folder)

    def attempt(self, *probes: str) -> None:
        """Compute probes; those that fail are in ``failures`` afterwards."""
        for name in probes:
            with suppress(Inconclusive):
                getattr(self, name)

    @property
    def crashes(self) -> dict[str, HookError]:
        """Each error of a hook once, by the probe in which it occurred."""
        errors: dict[str, HookError] = {}
        for name, failure in self.failures.items():  # the innermost probe comes first
            if isinstance(failure, HookError) and failure not in errors.values():
                errors[name] = failure
        return errors

    @probe
    def lifecycle(self) -> MethodLifecycle:
        """The instance and its model."""
        with hook_errors("__init__"):
            return MethodLifecycle(self.subject.build(), cache=self.cache, folder=self.subject.folder)

    @probe
    def attach_state(self) -> AttachState:
        """Training data, statistics, adapter, first penalty."""
        lifecycle = self.lifecycle
        module = lifecycle.model.module
        loaded, process = snapshot(module), process_state()
        lifecycle.prepare()
        base, base_logits = snapshot(module), lifecycle.logits()
        parameters = dict(module.named_parameters())
        values = copies(parameters)
        lifecycle.attach()
        changed = [name for name, value in values.items() if not torch.equal(parameters[name].detach(), value)]
        names = {id(parameter): name for name, parameter in module.named_parameters()}
        trainable = {id(parameter): name for name, parameter in module.named_parameters() if parameter.requires_grad}
        start_logits = lifecycle.logits()
        loss = first_loss(lifecycle)
        penalty, side_effect = _first_penalty(lifecycle)
        process_now = process_state()
        return AttachState(
            loaded=loaded,
            base=base,
            base_logits=base_logits,
            start_logits=start_logits,
            changed_weights=changed,
            parameter_names=names,
            trainable_names=trainable,
            loss=loss,
            penalty=penalty,
            penalty_side_effect=side_effect,
            process_changes=[what for what, before in process.items() if process_now[what] != before],
        )

    @probe
    def train_state(self) -> TrainState:
        """Train, and measure the trained model in several ways."""
        penalty, lifecycle = self.attach_state.penalty, self.lifecycle
        if penalty is not None and not (isinstance(penalty, torch.Tensor) and penalty.dim() == 0):
            raise Inconclusive("the penalty is not a scalar")
        if loss_problem(self.attach_state.loss.together):
            raise Inconclusive("the loss is not a sum and a number of tokens")
        module, trained = lifecycle.model.module, lifecycle.trained_parameters()
        trained_before, before = copies(trained), copies(_weights(module))
        steps = lifecycle.fit()
        changed = changed_tensors(before, _weights(module))
        batch = lifecycle.model.training_batch(lifecycle.samples[:MEASURED])
        return TrainState(
            steps=steps,
            unchanged=[name for name, value in trained_before.items() if torch.equal(value, trained[name].detach())],
            changed=[name for name in changed if name not in trained],
            logits=lifecycle.logits(),
            single_row_logits=single_row_logits(lifecycle.model, probe_samples(lifecycle.model)),
            merged_logits=merged_logits(lifecycle.model, self.fresh_model()),
            measured={
                "plain": lifecycle.measure(batch),
                "wider": lifecycle.measure(pad(batch)),
                "left": lifecycle.measure(pad(batch, left=True)),
            },
        )

    @probe
    def export_state(self) -> ExportState:
        """Export twice."""
        _, lifecycle = self.train_state, self.lifecycle
        with hook_errors("export"):
            returned = lifecycle.method.export(lifecycle.model)
            memory = {tensor.untyped_storage().data_ptr() for tensor in _weights(lifecycle.model.module).values()}
            dense = {name: each for name, each in _tensors(returned).items() if each.layout == torch.strided}
            shared = [name for name, each in dense.items() if each.untyped_storage().data_ptr() in memory]
            # Copied at once: what is shared with the model may change.
            return ExportState(_copied(returned), _copied(lifecycle.method.export(lifecycle.model)), shared)

    @probe
    def adapter(self) -> Tensors:
        """The exported tensors, if they can be stored."""
        return _storable(self.export_state.returned, "export")

    @probe
    def stage_export_state(self) -> StageExportState:
        """Call ``export_stage_state`` and compare the model before and after."""
        self.attempt("export_state")
        _, lifecycle = self.train_state, self.lifecycle
        module = lifecycle.model.module
        before, logits = copies(_weights(module)), lifecycle.logits()
        with hook_errors("export_stage_state"):
            returned = lifecycle.method.export_stage_state(lifecycle.model)
        changed = changed_tensors(before, _weights(module))
        return StageExportState(returned, changed, not torch.equal(logits, lifecycle.logits()))

    @probe
    def stage_state(self) -> Tensors:
        """What ``export_stage_state`` returned, if it can be stored."""
        return _storable(self.stage_export_state.returned, "export_stage_state")

    @probe
    def detach_state(self) -> DetachState:
        """Detach twice, then attach another instance."""
        self.attempt("train_state", "export_state", "stage_export_state")
        _, lifecycle = self.attach_state, self.lifecycle
        with hook_errors("detach"):
            lifecycle.method.detach(lifecycle.model)
        base = snapshot(lifecycle.model.module)
        second_detach = _detach_again(lifecycle, base)
        again = MethodLifecycle(
            self.subject.build(), cache=self.cache, samples=lifecycle.samples, folder=self.subject.folder
        )
        again.model = lifecycle.model
        return DetachState(base, second_detach, again.start().logits())

    def finish(self) -> None:
        """Compute all probes of this run; needed before another run starts, because methods may keep class state."""
        self.attempt("attach_state", "train_state", "export_state", "adapter", "stage_export_state", "stage_state")
        self.attempt("detach_state")


def _first_penalty(lifecycle: MethodLifecycle) -> tuple[Any, str]:
    """What ``penalty`` returns for a first batch, and what the call changed in the model."""
    model, module = lifecycle.model, lifecycle.model.module
    module.train()
    batch = model.training_batch(lifecycle.samples[:2])
    logits, _ = model.supervised(batch)
    before = snapshot(module)
    with hook_errors("penalty"):
        penalty = lifecycle.method.penalty(model, batch, logits)
    side_effect = before.difference(snapshot(module))
    if not module.training:
        side_effect = side_effect or "the model was in training mode and is in eval mode"
    return penalty, side_effect


def _weights(module: torch.nn.Module) -> Tensors:
    """Parameters and buffers, not copied."""
    return {name: tensor.detach() for name, tensor in (*module.named_parameters(), *module.named_buffers())}


def _tensors(returned: Any) -> Tensors:
    """The tensors among what a hook returned."""
    items = returned.items() if isinstance(returned, dict) else ()
    return {name: value for name, value in items if isinstance(value, torch.Tensor)}


def _copied(returned: Any) -> Any:
    """What a hook returned, with its tensors copied."""
    return {**returned, **copies(_tensors(returned))} if isinstance(returned, dict) else returned


def _detach_again(lifecycle: MethodLifecycle, base: Snapshot) -> str:
    try:
        lifecycle.method.detach(lifecycle.model)
    except Exception as error:  # a method's code may raise anything
        return f"it raised {type(error).__name__}: {error}"
    return base.difference(snapshot(lifecycle.model.module))


def _storable(returned: Any, hook: str) -> Tensors:
    try:
        return validate_tensors(returned, hook)
    except UserError as error:
        raise Inconclusive(error.message) from error
