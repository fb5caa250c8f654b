"""One training of a method on a tiny model; the hooks are called in the same order as in a real run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.errors import UserError
from benchmarks.records import Conversation, KnowledgeItem
from harness.config.schema import TrainingSettings
from harness.conformance.errors import HookError, Inconclusive, SimulatedKill, hook_errors
from harness.conformance.fakes import CPU, Dtype, FakeResources, fresh_model
from harness.conformance.tiny_model import conversation, knowledge
from harness.training.checkpoint import seed_everything
from harness.training.conversation_batches import ConversationBatches
from harness.training.injection_loss import InjectionLoss
from harness.training.loop import DivergenceError, LoggedStep, fit
from harness.training.step_hook import make_step_hook

if TYPE_CHECKING:
    from harness.conformance.fakes import InMemoryCheckpoint
    from harness.models.base import Batch, LanguageVisionModel
    from methods.base import InjectionMethod

Tensors = dict[str, torch.Tensor]
BATCH_SIZE = 4
TRAINING = TrainingSettings(epochs=2, batch_size=BATCH_SIZE, micro_batch=BATCH_SIZE, warmup=0.0, save_every=0.0)
STEPS = 4
"""Two epochs of two batches."""
PROBE_SAMPLES = (conversation(1, words=3), conversation(2, words=9), conversation(3, words=5, pictures=0))
"""Rows of different lengths, one without a picture, for which logits are compared."""
WITH_PICTURES = (*PROBE_SAMPLES[:2], conversation(3, words=5))
"""The same for a model that takes no row without a picture."""


def knowledge_items() -> list[KnowledgeItem]:
    """Eight items with texts of different lengths."""
    return [
        dataclasses.replace(item, text=f"{item.text}{' It is yellow.' * (index % 3)}")
        for index, item in enumerate(knowledge(2 * BATCH_SIZE))
    ]


class MethodLifecycle:
    """A new instance on a new model.

    Args:
        method: The instance.
        seed: Seed of the cell.
        dtype: Type of the frozen weights.
        cache: Statistics that were computed before, by key.
        previous: What the first stage exported, and its stage state; makes this the second stage.
        samples: What to train on instead of the method's own data.
        folder: Of the model; None for a tiny LLaVA.
    """

    def __init__(
        self,
        method: InjectionMethod,
        *,
        seed: int = 0,
        dtype: Dtype = "float32",
        cache: dict[str, Tensors] | None = None,
        previous: tuple[Mapping[str, torch.Tensor], Mapping[str, torch.Tensor]] | None = None,
        samples: Sequence[Conversation] = (),
        folder: Path | None = None,
    ) -> None:
        self.method, self.seed, self.samples = method, seed, samples
        self._previous = previous
        self.model: LanguageVisionModel = fresh_model(dtype, folder)
        stage, stage_state = (2, previous[1]) if previous else (1, {})
        self.resources = FakeResources(seed, {} if cache is None else cache, stage, stage_state)
        self.prepared: Tensors = {}
        self.groups: list[dict[str, Any]] = []

    def prepare(self) -> None:
        """Call ``training_data``, unless nothing is trained, and ``prepare``."""
        with hook_errors("training_data"):
            trains = self.method.trains
            probes = list(probe_samples(self.model))
            data = self.method.training_data(knowledge_items(), self.resources) if trains else probes
            self.samples = self.samples or data[:: max(1, len(data) // (2 * BATCH_SIZE))][: 2 * BATCH_SIZE]
        seed_everything(self.seed)
        with hook_errors("prepare"):
            self.prepared = self.method.prepare(self.model, self.resources)

    def attach(self) -> None:
        """Call ``attach``, and if it trains ``load_previous_stage`` in a second stage, and ``parameter_groups``."""
        seed_everything(self.seed)
        with hook_errors("attach"):
            self.method.attach(self.model, self.prepared)
        if not self.method.trains:
            return
        if self._previous:
            with hook_errors("load_previous_stage"):
                self.method.load_previous_stage(self.model, dict(self._previous[0]))
        with hook_errors("parameter_groups"):
            self.groups = list(self.method.parameter_groups(self.model))

    def start(self) -> MethodLifecycle:
        """Do everything that comes before the training."""
        self.prepare()
        self.attach()
        return self

    def fit(
        self,
        steps: int = STEPS,
        *,
        micro_batch: int = BATCH_SIZE,
        checkpoint: InMemoryCheckpoint | None = None,
        precision: Dtype = "float32",
    ) -> list[LoggedStep]:
        """Train for at most ``steps`` steps with the real training loop; the model is in eval mode afterwards.

        A method that trains nothing takes no step.

        Raises:
            Inconclusive: It has nothing to train, or the training diverges.
        """
        if not self.method.trains:
            self.model.module.eval()
            return []
        if not any(group["params"] for group in self.groups):
            raise Inconclusive("it trains nothing")
        seed_everything(self.seed)
        settings = TRAINING.model_copy(update={"micro_batch": micro_batch})
        logged: list[LoggedStep] = []

        def stop_early(step: LoggedStep) -> None:
            logged.append(step)
            if len(logged) == steps < STEPS:
                raise SimulatedKill

        with suppress(SimulatedKill), _training_errors():
            logged = fit(
                ConversationBatches(self.model, self.samples, settings, self.seed),
                InjectionLoss(self.model, self.method),
                self.groups,
                settings,
                device=CPU,
                checkpoint=checkpoint,
                precision=precision,
                on_step=stop_early,
                after_step=make_step_hook(self.model, self.method),
            ).steps
        self.model.module.eval()
        return logged

    def logits(self) -> torch.Tensor:
        """Logits of the probe samples."""
        return supervised_logits(self.model)

    def trained_parameters(self) -> dict[str, torch.nn.Parameter]:
        """The parameters in the groups, by their names in the model."""
        declared = {id(parameter) for group in self.groups for parameter in group["params"]}
        named = self.model.module.named_parameters()
        return {name: parameter for name, parameter in named if id(parameter) in declared}

    def measure(self, batch: Batch) -> tuple[float, float]:
        """Mean token loss and penalty of a batch, as in training, without a step; always with the same seed."""
        seed_everything(self.seed)
        with hook_errors("loss or penalty"):
            step = InjectionLoss(self.model, self.method)(batch)
            penalty = 0.0 if step.penalty is None else float(step.penalty.detach())
        self.model.module.eval()
        return float(step.loss_sum.detach()) / step.tokens, penalty


@torch.no_grad()
def supervised_logits(model: LanguageVisionModel, samples: Sequence[Conversation] | None = None) -> torch.Tensor:
    """Logits (n, vocabulary) at the n supervised positions, in eval mode; for None of the probe samples."""
    model.module.eval()
    return model.supervised(model.training_batch(probe_samples(model) if samples is None else samples))[0].clone()


def probe_samples(model: LanguageVisionModel) -> Sequence[Conversation]:
    """The samples for which a model's logits are compared."""
    return PROBE_SAMPLES if _takes_text_alone(model.folder) else WITH_PICTURES


@cache
def _takes_text_alone(folder: Path | None) -> bool:
    """Whether the model of a folder, None for the tiny LLaVA, takes a row without a picture."""
    try:
        fresh_model(folder=folder).training_batch(PROBE_SAMPLES[2:])
    except UserError:
        return False
    return True


@contextmanager
def _training_errors() -> Iterator[None]:
    """Like ``hook_errors``, but divergence is not an error of a hook."""
    try:
        with hook_errors("loss, penalty, after_step, or the training,"):
            yield
    except HookError as failure:
        if not isinstance(failure.error, DivergenceError):
            raise
        what = "the training diverged" if math.isfinite(failure.error.penalty) else "the penalty is not finite"
        raise Inconclusive(f"{what} at step {failure.error.step}") from failure
