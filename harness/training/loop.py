"""The training core: one loop for every method and for pre-training, deterministic and resumable."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import AutocastKwargs, send_to_device

from benchmarks.errors import UserError
from harness.progress import progress
from harness.training.checkpoint import (
    Checkpoint,
    State,
    put_back,
    random_state,
    set_random_state,
    take,
    trained_parameters,
)
from harness.training.precision import Precision, resolve_precision
from harness.training.settings import TrainingSettings as TrainingSettings

if TYPE_CHECKING:
    from harness.models.base import Batch


@dataclass(frozen=True)
class StepLoss:
    """The loss of one micro-batch.

    Attributes:
        loss_sum: Scalar; the sum over supervised tokens.
        tokens: Number (or total weight) of supervised tokens.
        penalty: Scalar added to the mean token loss of the step, or None. Over several micro-batches it is averaged,
            weighted by their tokens.
    """

    loss_sum: torch.Tensor
    tokens: float
    penalty: torch.Tensor | None = None


class StepSource(Protocol):
    """What to learn from, step by step."""

    steps: int
    """Optimiser steps in total."""

    def micro_batches(self, step: int, limit: int) -> Iterable[Batch]:
        """The batch of optimiser step ``step``, at most ``limit`` rows at a time. Asked twice, it gives the same."""


class Objective(Protocol):
    """What to minimise."""

    def __call__(self, batch: Batch) -> StepLoss:
        """The loss of one micro-batch, with a graph."""


@dataclass(frozen=True)
class LoggedStep:
    """One optimiser step. ``loss`` is the mean over supervised tokens in nats, without the penalty.

    ``learning_rate`` is that of the first group; ``grad_norm`` is the norm before clipping.
    """

    step: int
    loss: float
    penalty: float
    learning_rate: float
    grad_norm: float
    tokens: float
    seconds: float


@dataclass
class TrainingLog:
    """What happened in a training, over all its lives."""

    precision: Precision
    micro_batch: int
    """Rows in one forward pass at the end; smaller than the setting where memory did not suffice."""
    steps: list[LoggedStep] = field(default_factory=list)


class Diverged(UserError):
    """The loss or its gradient is not finite. The parameters are as they were before the step.

    Args:
        step: The step that failed, from 0.
        loss: Its loss, without the penalty.
        grad_norm: Norm of its gradient.
        last: The step before.
        penalty: What the method added to the loss.
    """

    def __init__(self, step: int, loss: float, grad_norm: float, last: LoggedStep | None, penalty: float = 0.0) -> None:
        self.step, self.loss, self.grad_norm, self.last, self.penalty = step, loss, grad_norm, last, penalty
        before = f"; the step before had loss {last.loss:.4g}, gradient {last.grad_norm:.4g}" if last else ""
        own = math.isfinite(loss) and not math.isfinite(penalty)
        blame = f"the method's penalty is {penalty:.4g}, " if own else ""
        super().__init__(
            f"the training diverged: {blame}loss {loss:.4g}, gradient norm {grad_norm:.4g}{before}",
            where=f"step {step}",
            mend="mend the method's penalty" if own else "lower the learning rate, or raise the warm-up",
        )


class OutOfMemory(UserError):
    """Memory does not even suffice for one row."""


def learning_rate_factor(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate at ``step``, from 0: a linear rise, then half a cosine that ends at ``steps``."""
    rising = math.ceil(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an allocation failed, on a GPU or on the CPU."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in text or "not enough memory" in text


def fit(
    source: StepSource,
    objective: Objective,
    groups: Sequence[dict[str, Any]],
    settings: TrainingSettings,
    *,
    device: torch.device,
    checkpoint: Checkpoint | None = None,
    precision: Literal["auto"] | Precision = "auto",
    on_step: Callable[[LoggedStep], None] | None = None,
    title: str = "training",
) -> TrainingLog:
    """Minimise the objective by AdamW with warm-up and cosine.

    The gradient of a step is that of (sum of the token losses) / (number of supervised tokens of the step) + penalty,
    however the step is cut into micro-batches.

    Args:
        source: The batches.
        objective: The loss.
        groups: AdamW groups with ``params``, ``names``, ``lr`` (peak) and perhaps ``weight_decay``.
        settings: How to train. ``epochs`` and ``batch_size`` are the source's business.
        device: Where the parameters are.
        checkpoint: Where to go on from, and where to save to; it is not discarded at the end.
        precision: Type of the matrix products.
        on_step: Called after each step.
        title: What the progress bar says.

    Returns:
        The log, with the precision and the micro-batch that were used.

    Raises:
        Diverged: The loss is not finite.
        OutOfMemory: One row is too much.
        UserError: The checkpoint belongs to another training.
    """
    loop = _Loop(source, objective, groups, settings, device, resolve_precision(device, precision))
    saved = checkpoint.load() if checkpoint else None
    if saved:
        loop.restore(*saved)
    if checkpoint and loop.done == source.steps:
        return loop.log
    last_save = time.monotonic()
    with progress(title, source.steps, loop.done) as bar:
        while loop.done < source.steps:
            logged = loop.step()
            if on_step:
                on_step(logged)
            bar(f"loss {logged.loss:.3f}")
            if checkpoint and (time.monotonic() - last_save >= settings.save_every or loop.done == source.steps):
                checkpoint.save(*loop.state())
                last_save = time.monotonic()
    return loop.log


class _Loop:
    """The moving parts of one training."""

    def __init__(
        self,
        source: StepSource,
        objective: Objective,
        groups: Sequence[dict[str, Any]],
        settings: TrainingSettings,
        device: torch.device,
        precision: Precision,
    ) -> None:
        self._source, self._objective, self._settings, self._device = source, objective, settings, device
        self._accelerator = _accelerator(device, precision)
        self._optimizer = torch.optim.AdamW(
            [dict(group) for group in groups], betas=settings.betas, eps=settings.epsilon, fused=_can_fuse(groups)
        )
        self._peaks = [float(group["lr"]) for group in self._optimizer.param_groups]
        self._parameters = [parameter for _, parameter in trained_parameters(self._optimizer.param_groups)]
        self.log = TrainingLog(precision, settings.micro_batch)

    @property
    def done(self) -> int:
        """Optimiser steps made so far."""
        return len(self.log.steps)

    def step(self) -> LoggedStep:
        """Make one optimiser step."""
        started, step = time.perf_counter(), self.done
        loss, penalty, tokens = self._gradient(step)
        norm = float(self._accelerator.clip_grad_norm_(self._parameters, self._settings.clip_norm))
        if not (math.isfinite(loss + penalty) and math.isfinite(norm)):
            self._optimizer.zero_grad()
            raise Diverged(step, loss, norm, self.log.steps[-1] if self.log.steps else None, penalty)
        factor = learning_rate_factor(step, self._source.steps, self._settings.warmup)
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor
        self._optimizer.step()
        self._optimizer.zero_grad()
        seconds = time.perf_counter() - started
        logged = LoggedStep(step, loss, penalty, self._peaks[0] * factor, norm, tokens, seconds)
        self.log.steps.append(logged)
        return logged

    def _gradient(self, step: int) -> tuple[float, float, float]:
        """Leave the step's gradient in the parameters; halve the micro-batch until memory suffices.

        Returns:
            Mean token loss, penalty, and number of supervised tokens.
        """
        before = random_state(self._device)
        while True:
            try:
                return self._accumulate(step)
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                if self.log.micro_batch == 1:
                    raise OutOfMemory(
                        "memory does not suffice for a single row",
                        where=f"step {step}",
                        mend="take a smaller model, shorter texts, or a machine with more memory",
                    ) from error
            # Outside the except block nothing holds the failed graph any more, so its memory can be given back.
            self.log.micro_batch = (self.log.micro_batch + 1) // 2
            self._optimizer.zero_grad()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            set_random_state(before, self._device)

    def _accumulate(self, step: int) -> tuple[float, float, float]:
        loss = penalty = torch.zeros((), device=self._device)
        tokens = 0.0
        for batch in self._source.micro_batches(step, self.log.micro_batch):
            with self._accelerator.autocast():
                part = self._objective(send_to_device(batch, self._device))
                total = part.loss_sum
                if part.penalty is not None:
                    total = total + part.penalty * part.tokens
                    penalty = penalty + part.penalty.detach() * part.tokens
            if total.requires_grad:  # texts alone say nothing about a projector, where nothing else is trained
                self._accelerator.backward(total)
            loss, tokens = loss + part.loss_sum.detach(), tokens + part.tokens
        if tokens <= 0:
            raise UserError(
                "there is nothing to learn from", where=f"step {step}", mend="give answers that are not empty"
            )
        # Dividing at the end makes the gradient independent of how the step was cut.
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameter.grad.div_(tokens)
        return float(loss) / tokens, float(penalty) / tokens, tokens

    def state(self) -> tuple[dict[str, torch.Tensor], State]:
        """Everything that the steps to come depend on."""
        state = {"log": dataclasses.asdict(self.log), "random": random_state(self._device)}
        return take(self._optimizer), state

    def restore(self, tensors: dict[str, torch.Tensor], state: State) -> None:
        """Go on from what ``state`` gave."""
        log = state["log"]
        if log["precision"] != self.log.precision:
            raise UserError(
                f"it was made in {log['precision']}, this is {self.log.precision}",
                where="checkpoint",
                mend=f"set precision to {log['precision']}, or delete the checkpoint",
            )
        put_back(self._optimizer, tensors)
        steps = [LoggedStep(**step) for step in log["steps"]]
        self.log = TrainingLog(log["precision"], log["micro_batch"], steps)
        set_random_state(state["random"], self._device)


def _accelerator(device: torch.device, precision: Precision) -> Accelerator:
    """A fresh Accelerator: it keeps its precision for the whole process, but trainings may differ in theirs."""
    AcceleratorState._reset_state()
    return Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="bf16" if precision == "bfloat16" else "no",
        # Weights cast inside a no_grad block (a frozen teacher) must not be reused where gradients are needed.
        kwargs_handlers=[AutocastKwargs(cache_enabled=False)],
    )


def _can_fuse(groups: Sequence[dict[str, Any]]) -> bool:
    """Torch's fused AdamW takes floating-point parameters on these devices."""
    parameters = [parameter for group in groups for parameter in group["params"]]
    return all(parameter.device.type in ("cpu", "cuda") and parameter.is_floating_point() for parameter in parameters)
