"""What the checks look at: the reference run, and runs that must give the same result or must not interfere."""

from __future__ import annotations

import gc
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from benchmarks.errors import UserError
from benchmarks.records import Conversation
from harness.conformance.errors import Inconclusive, NotApplicable, SimulatedKill, hook_errors
from harness.conformance.fakes import CPU, FakeResources, InMemoryCheckpoint
from harness.conformance.lifecycle import (
    BATCH_SIZE,
    TRAINING,
    MethodLifecycle,
    Tensors,
    knowledge_items,
    supervised_logits,
)
from harness.conformance.reference_run import ReferenceRun, probe
from harness.conformance.snapshot import Snapshot, snapshot
from harness.conformance.step_hook import StepHookState, step_hook_state
from harness.training.conversation_batches import ConversationBatches
from harness.training.gradient_checkpointing import gradient_checkpointing
from harness.training.injection_loss import InjectionLoss
from harness.training.loop import LoggedStep, fit
from harness.training.step_hook import make_step_hook
from methods.base import InjectionMethod
from methods.interfaces import AdapterSettings

if TYPE_CHECKING:
    from harness.models.base import LanguageVisionModel

HALF = 2
"""Steps after which a training is killed."""
FEW_STEPS = 2
"""Enough to compare two runs: the second step depends on what the first one learned."""


class ResumedRun(NamedTuple):
    """A run that resumed another one's checkpoint, its steps, and those of the killed run."""

    lifecycle: MethodLifecycle
    steps: list[LoggedStep]
    killed_steps: list[LoggedStep]


class TrainingData(NamedTuple):
    """Training data of two instances with the same seed, and the benchmarks and pools that they asked for."""

    first: list[Conversation]
    second: list[Conversation]
    benchmarks_read: list[str]
    pools_read: set[str]


class OtherSeed(NamedTuple):
    """The adapter of a run with another seed; its loss and penalty before and after a further run starts."""

    adapter: Tensors
    before: tuple[float, float]
    after: tuple[float, float]


@dataclass(frozen=True)
class RestoreState:
    """A new instance and model with a restored adapter.

    Attributes:
        model: The model; the adapter was detached again.
        logits: Logits with the adapter.
        exported: What ``export`` returned then.
        base: The base before ``restore``.
        detached: The base after ``detach``.
    """

    model: LanguageVisionModel
    logits: torch.Tensor
    exported: Any
    base: Snapshot
    detached: Snapshot


@dataclass(frozen=True)
class SecondStage:
    """A second injection stage.

    Attributes:
        start_logits: Logits before its first step.
        end_logits: Logits after its last step.
        restored_logits: Logits of a new model with its adapter; None if that cannot be restored.
        restore_error: Why it cannot be restored.
    """

    start_logits: torch.Tensor
    end_logits: torch.Tensor
    restored_logits: torch.Tensor | None
    restore_error: str


class Scenarios(ReferenceRun):
    """Everything that checks look at, computed when first needed."""

    def new_run(self, **options: Any) -> MethodLifecycle:
        """Another run, which shares the statistics of the reference run unless ``options`` say otherwise."""
        self.finish()
        with hook_errors("__init__"):
            return MethodLifecycle(
                self.subject.build(), **{"cache": self.cache, "folder": self.subject.folder, **options}
            )

    @probe
    def narrowed_run(self) -> MethodLifecycle:
        """A run that is attached to the linear layers of the last decoder layer alone, with statistics of its own."""
        with hook_errors("__init__"):
            method = self.subject.build(targets="last-1")
        return MethodLifecycle(method, folder=self.subject.folder).start()

    @probe
    def slower_steps(self) -> list[LoggedStep]:
        """Train at a tenth of the learning rate, with statistics of its own; at the same rate if it is no setting."""
        rate = getattr(self.subject.small_settings(), "learning_rate", None)
        with hook_errors("__init__"):
            method = self.subject.build(**({} if rate is None else {"learning_rate": rate / 10}))
        return MethodLifecycle(method, folder=self.subject.folder).start().fit()

    @probe
    def resumed_run(self) -> ResumedRun:
        """Kill a run halfway and resume it with an instance that computes its own statistics."""
        _ = self.train_state
        killed = InMemoryCheckpoint(kill_after=HALF)
        killed_steps = self.new_run().start().fit(checkpoint=killed)
        lifecycle = self.new_run(cache={}).start()
        steps = lifecycle.fit(checkpoint=InMemoryCheckpoint(saved=killed.saved))
        return ResumedRun(lifecycle, steps, killed_steps)

    @probe
    def is_repeatable(self) -> bool:
        """Whether two runs with the same seed are equal; otherwise differences between runs mean nothing."""
        killed_steps = self.resumed_run.killed_steps
        return loss_values(killed_steps) == loss_values(self.train_state.steps[: len(killed_steps)])

    @probe
    def single_row_steps(self) -> list[LoggedStep]:
        """Train with one row per micro-batch."""
        self.require_repeatable()
        return self.new_run().start().fit(FEW_STEPS, micro_batch=1)

    @probe
    def checkpointed_steps(self) -> list[LoggedStep]:
        """Train with gradient checkpointing."""
        self.require_repeatable()
        lifecycle = self.new_run()
        with gradient_checkpointing(lifecycle.model.module):
            return lifecycle.start().fit(FEW_STEPS)

    @probe
    def step_hook_state(self) -> StepHookState:
        """Call ``after_step`` of two new instances."""
        return step_hook_state(lambda: self.new_run().start())

    @probe
    def half_precision(self) -> tuple[MethodLifecycle, list[LoggedStep]]:
        """Train on a base in half precision."""
        _ = self.train_state
        lifecycle = self.new_run(dtype="bfloat16", cache={}).start()
        return lifecycle, lifecycle.fit(1, precision="bfloat16")

    @probe
    def other_seed(self) -> OtherSeed:
        """Train with another seed, then start a third run beside it."""
        _ = self.adapter
        lifecycle = self.new_run(seed=1).start()
        lifecycle.fit(FEW_STEPS)
        with hook_errors("export"):
            adapter = lifecycle.method.export(lifecycle.model)
        batch = lifecycle.model.training_batch(lifecycle.samples[:FEW_STEPS])
        before = lifecycle.measure(batch)
        self.new_run().start()
        return OtherSeed(adapter, before, lifecycle.measure(batch))

    @probe
    def restore_state(self) -> RestoreState:
        """Restore the reference run's adapter in a new model."""
        adapter = self.adapter
        run = self.new_run()
        method, model = run.method, run.model
        base = snapshot(model.module)
        logits = restored_logits(method, model, adapter)
        with hook_errors("export"):
            exported = method.export(model)
        with hook_errors("detach"):
            method.detach(model)
        return RestoreState(model, logits, exported, base, snapshot(model.module))

    @probe
    def scaled_update(self) -> tuple[Tensors, torch.Tensor]:
        """The adapter scaled by 1, and the logits of the adapter scaled by 0."""
        adapter = self.adapter
        run = self.new_run()
        with hook_errors("scale_update"):
            same, nothing = (run.method.scale_update(run.model, dict(adapter), factor) for factor in (1.0, 0.0))
        return same, restored_logits(run.method, run.model, nothing)

    @probe
    def swapped_adapters(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Logits of two adapters, restored one after the other in one model, and each in a new model."""
        model = self.restore_state.model
        swapped = []
        for adapter in (self.other_seed.adapter, self.adapter):
            method = self.subject.build()
            swapped.append(restored_logits(method, model, adapter))
            with hook_errors("detach"):
                method.detach(model)
        other = restored_logits(self.subject.build(), self.fresh_model(), self.other_seed.adapter)
        return swapped, [other, self.restore_state.logits]

    @probe
    def second_stage(self) -> SecondStage:
        """Train a second stage on the adapter and the stage state of the first."""
        lifecycle = self.new_run(previous=(self.adapter, self.stage_state)).start()
        start_logits = lifecycle.logits()
        lifecycle.fit(FEW_STEPS)
        end_logits = lifecycle.logits()
        with hook_errors("export"):
            adapter = lifecycle.method.export(lifecycle.model)
        try:
            restored = restored_logits(self.subject.build(), self.fresh_model(), adapter)
        except Inconclusive as error:
            return SecondStage(start_logits, end_logits, None, str(error))
        return SecondStage(start_logits, end_logits, restored, "")

    @probe
    def training_data(self) -> TrainingData:
        """Call ``training_data`` of two instances, unless nothing is trained."""
        if not self.subject.method.trains:
            return TrainingData([], [], [], set())
        data, benchmarks_read, pools_read = [], [], set()
        for _ in range(2):
            resources = FakeResources(0, {})
            with hook_errors("training_data"):
                data.append(self.subject.build().training_data(knowledge_items(), resources))
            benchmarks_read += resources.benchmarks_read
            pools_read |= resources.pools_read
        return TrainingData(data[0], data[1], benchmarks_read, pools_read)

    def compare_with_lora(self) -> tuple[list[LoggedStep], list[LoggedStep], list[str]]:
        """Train with the coefficient at zero, and LoRA on the same samples.

        Returns:
            The steps of both, and the ids of training samples that LoRA would not have.

        Raises:
            NotApplicable: The method has no coefficient, or one that cannot be zero.
        """
        coefficient = self.subject.method.coefficient
        if coefficient is None:
            raise NotApplicable("it declares no coefficient")
        try:
            method = self.subject.build(**{coefficient.setting: 0.0})
        except (UserError, TypeError) as error:
            raise NotApplicable(f"{coefficient.setting} cannot be 0") from error
        if not isinstance(method.settings, AdapterSettings):
            raise NotApplicable("it has no adapter to compare with LoRA's")
        self.require_repeatable()
        names = [field.name for field in fields(AdapterSettings)]
        shared = {name: getattr(method.settings, name) for name in names}
        lora = InjectionMethod(AdapterSettings(**shared))
        folder = self.subject.folder
        run = MethodLifecycle(method, cache={}, folder=folder).start()
        lora_run = MethodLifecycle(lora, samples=run.samples, folder=folder).start()
        usual_data, data, lora_data = (
            each.training_data(knowledge_items(), FakeResources(0, {})) for each in (self.subject.build(), method, lora)
        )
        # Data that the coefficient does not change are an ordinary setting, which LoRA could have as well.
        extra = [sample.id for sample in data if sample not in lora_data] if usual_data != data else []
        return run.fit(HALF), lora_run.fit(HALF), extra

    def count_live_tensors(self, steps: tuple[int, int]) -> tuple[int, int]:
        """Numbers of tensors in memory after two numbers of steps of one training."""
        _ = self.train_state
        lifecycle, counts = self.new_run().start(), []

        def count(step: LoggedStep) -> None:
            if step.step + 1 in steps:
                gc.collect()
                counts.append(sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects()))
            if len(counts) == len(steps):
                raise SimulatedKill

        settings = TRAINING.model_copy(update={"epochs": max(steps), "batch_size": BATCH_SIZE // 2})
        source = ConversationBatches(lifecycle.model, lifecycle.samples[: BATCH_SIZE // 2], settings, 0)
        objective = InjectionLoss(lifecycle.model, lifecycle.method)
        try:
            hook = make_step_hook(lifecycle.model, lifecycle.method)
            fit(source, objective, lifecycle.groups, settings, device=CPU, on_step=count, after_step=hook)
        except SimulatedKill:
            return counts[0], counts[1]
        raise Inconclusive("the training ended early")

    def require_repeatable(self) -> None:
        """Stop unless two trainings with the same seed are equal.

        Raises:
            Inconclusive: They are not.
        """
        if not self.is_repeatable:
            raise Inconclusive("two trainings with the same seed differ, so nothing can be compared")


def restored_logits(method: InjectionMethod, model: LanguageVisionModel, adapter: Tensors) -> torch.Tensor:
    """Restore an adapter and compute the logits of the probe samples."""
    with hook_errors("restore"):
        method.restore(model, dict(adapter))
    return supervised_logits(model)


def loss_values(steps: list[LoggedStep]) -> list[tuple[float, float, float]]:
    """Loss, penalty and gradient norm of each step."""
    return [(step.loss, step.penalty, step.grad_norm) for step in steps]
