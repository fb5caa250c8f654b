"""One life of a method: trained on a tiny model of its own, hook by hook, in the order in which the conductor calls."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.records import Conversation, KnowledgeItem
from harness.conformance.fakes import CPU, Dtype, FakeResources, SimulatedKill, fresh_model
from harness.conformance.registry import HookError, Inconclusive
from harness.conformance.tiny_model import conversation, knowledge
from harness.experiment.train import seed_everything
from harness.training.conversation_batches import ConversationBatches, InjectionLoss
from harness.training.loop import DivergenceError, LoggedStep, TrainingSettings, fit

if TYPE_CHECKING:
    from harness.conformance.fakes import InMemoryCheckpoint
    from harness.models.base import Batch, LanguageVisionModel
    from methods.base import InjectionMethod

BATCH = 4
TRAINING = TrainingSettings(epochs=2, batch_size=BATCH, micro_batch=BATCH, warmup=0.0, save_every=0.0)
STEPS = 4
"""Two epochs of two batches."""
PROBE = (conversation(1, words=3), conversation(2, words=9), conversation(3, words=5, pictures=0))
"""What logits are compared on: rows of different lengths, one of them without a picture."""
Earlier = tuple[Mapping[str, torch.Tensor], Mapping[str, torch.Tensor]]
"""What the stage before left: its export, and what it carried over."""


def items() -> list[KnowledgeItem]:
    """Eight things to learn, described at different length."""
    return [
        dataclasses.replace(item, text=f"{item.text}{' It is yellow.' * (index % 3)}")
        for index, item in enumerate(knowledge(2 * BATCH))
    ]


@contextmanager
def calling(hook: str) -> Iterator[None]:
    """Whatever the method raises in the block is its own affair, and is told as such.

    Raises:
        Crashed: It raised something.
    """
    try:
        yield
    except (Inconclusive, SimulatedKill):
        raise
    except Exception as error:
        raise HookError(hook, error) from error


class MethodLifecycle:
    """A fresh instance on a fresh model.

    Args:
        method: The instance.
        seed: Of the cell.
        dtype: Of the frozen weights.
        cached: Statistics computed already.
        earlier: What the first stage left; makes this the second.
        samples: What to train on; the method's own data where left out.
    """

    def __init__(
        self,
        method: InjectionMethod,
        *,
        seed: int = 0,
        dtype: Dtype = "float32",
        cached: dict[str, dict[str, torch.Tensor]] | None = None,
        earlier: Earlier | None = None,
        samples: Sequence[Conversation] | None = None,
    ) -> None:
        self.method, self.seed, self._earlier = method, seed, earlier
        self.model: LanguageVisionModel = fresh_model(dtype)
        stage_state = earlier[1] if earlier else {}
        self.resources = FakeResources(seed, {} if cached is None else cached, 2 if earlier else 1, stage_state)
        self.samples: Sequence[Conversation] = samples or ()
        self.prepared: dict[str, torch.Tensor] = {}
        self.groups: list[dict[str, Any]] = []

    def prepare(self) -> None:
        """Ask for the training data and the statistics."""
        with calling("training_data"):
            data = self.method.training_data(items(), self.resources)
            self.samples = self.samples or data[:: max(1, len(data) // (2 * BATCH))][: 2 * BATCH]
        seed_everything(self.seed)
        with calling("prepare"):
            self.prepared = self.method.prepare(self.model, self.resources)

    def attach(self) -> None:
        """Attach, go on from the stage before, and ask for the parameter groups."""
        seed_everything(self.seed)
        with calling("attach"):
            self.method.attach(self.model, self.prepared)
        if self._earlier:
            with calling("load_previous_stage"):
                self.method.load_previous_stage(self.model, dict(self._earlier[0]))
        with calling("parameter_groups"):
            self.groups = list(self.method.parameter_groups(self.model))

    def begin(self) -> MethodLifecycle:
        """Everything up to the training."""
        self.prepare()
        self.attach()
        return self

    def fit(
        self,
        steps: int = STEPS,
        *,
        micro_batch: int = BATCH,
        checkpoint: InMemoryCheckpoint | None = None,
        precision: Dtype = "float32",
    ) -> list[LoggedStep]:
        """Train by the conductor's own core, at most ``steps`` steps; the model is in eval mode afterwards.

        Raises:
            Unreached: Nothing is trained, or the training diverges.
        """
        if not any(group["params"] for group in self.groups):
            raise Inconclusive("it trains nothing")
        logged: list[LoggedStep] = []
        settings = TRAINING.model_copy(update={"micro_batch": micro_batch})
        objective = InjectionLoss(self.model, self.method)

        def count(step: LoggedStep) -> None:
            logged.append(step)
            if len(logged) == steps < STEPS:
                raise SimulatedKill

        with suppress(SimulatedKill), _training():
            source = ConversationBatches(self.model, self.samples, settings, self.seed)
            log = fit(
                source, objective, self.groups, settings,
                device=CPU, checkpoint=checkpoint, precision=precision, on_step=count,
            )  # fmt: skip
            logged = log.steps
        self.model.module.eval()
        return logged

    def logits(self) -> torch.Tensor:
        """At the supervised positions of the probe, in eval mode."""
        return logits(self.model)

    def learnt(self) -> dict[str, torch.nn.Parameter]:
        """The parameters in the groups, by the names they have in the model."""
        declared = {id(parameter) for group in self.groups for parameter in group["params"]}
        return {name: each for name, each in self.model.module.named_parameters() if id(each) in declared}

    def measure(self, batch: Batch) -> tuple[float, float]:
        """Mean token loss and penalty of a batch as in training, without a step."""
        with calling("penalty"):
            part = InjectionLoss(self.model, self.method)(batch)
            penalty = 0.0 if part.penalty is None else float(part.penalty.detach())
        self.model.module.eval()
        return float(part.loss_sum.detach()) / part.tokens, penalty


@torch.no_grad()
def logits(model: LanguageVisionModel, samples: Sequence[Conversation] = PROBE) -> torch.Tensor:
    """Logits (n, vocabulary) at the n supervised positions, in eval mode."""
    model.module.eval()
    return model.supervised(model.training_batch(samples))[0].clone()


@contextmanager
def _training() -> Iterator[None]:
    """As ``calling``; a training that diverges is no crash, but nothing can be said about it."""
    try:
        with calling("penalty, or the training,"):
            yield
    except HookError as crash:
        if not isinstance(crash.error, DivergenceError):
            raise
        what = "the training diverged" if math.isfinite(crash.error.penalty) else "the penalty is not finite"
        raise Inconclusive(f"{what} at step {crash.error.step}") from crash
