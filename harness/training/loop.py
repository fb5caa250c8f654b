"""The training core: one loop for every method and for pre-training, deterministic and resumable."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from accelerate.utils import send_to_device

from benchmarks.errors import UserError
from harness.config.training import TrainingSettings as TrainingSettings
from harness.distributed.failures import PeerProcessError, mark_shared
from harness.distributed.process_group import ProcessGroup
from harness.progress import progress
from harness.training.checkpoint import Checkpoint, State, random_state, set_random_state
from harness.training.memory import OutOfMemoryError, out_of_memory
from harness.training.precision import Precision, resolve_precision
from harness.training.strategies.ddp import DDPStrategy

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


class BatchSource(Protocol):
    """What to learn from, step by step."""

    steps: int
    """Optimiser steps in total."""

    def micro_batches(self, step: int, limit: int) -> Iterable[Batch]:
        """This process's rows of optimiser step ``step``, at most ``limit`` at a time. Asked twice, it gives the same.

        Every process of a crew gives as many micro-batches, if need be some with nothing to learn.
        """


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


class DivergenceError(UserError):
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
            location=f"step {step}",
            hint="mend the method's penalty" if own else "lower the learning rate, or raise the warm-up",
        )


def lr_multiplier(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate at ``step``, from 0: a linear rise, then half a cosine that ends at ``steps``."""
    rising = math.ceil(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def fit(
    source: BatchSource,
    objective: Objective,
    groups: Sequence[dict[str, Any]],
    settings: TrainingSettings,
    *,
    device: torch.device,
    checkpoint: Checkpoint | None = None,
    precision: Literal["auto"] | Precision = "auto",
    on_step: Callable[[LoggedStep], None] | None = None,
    title: str = "training",
    sharing: DDPStrategy | None = None,
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
        sharing: What the processes that train together share; without it, this process trains alone.

    Returns:
        The log, with the precision and the micro-batch that were used.

    Raises:
        Diverged: The loss is not finite.
        OutOfMemoryError: One row is too much.
        ElsewhereError: Another process failed.
        UserError: The checkpoint belongs to another training.
    """
    sharing = sharing or DDPStrategy()
    loop = _Loop(source, objective, groups, settings, device, resolve_precision(device, precision), sharing)
    process_group = sharing.process_group
    if checkpoint:
        _resume(loop, checkpoint, process_group, title)
    if checkpoint and loop.done == source.steps:
        return loop.log
    last_save = time.monotonic()
    with progress(title, source.steps, loop.done) as bar:
        while loop.done < source.steps:
            logged = loop.step()
            if on_step:
                on_step(logged)
            bar(f"loss {logged.loss:.3f}")
            late = time.monotonic() - last_save >= settings.save_every
            if checkpoint and (loop.done == source.steps or process_group.broadcast_from_main(partial(bool, late))):
                _save(checkpoint, process_group, *loop.state())
                last_save = time.monotonic()
    return loop.log


def _resume(loop: _Loop, checkpoint: Checkpoint, process_group: ProcessGroup, title: str) -> None:
    """Go on from what was saved; the leader looks first, for a damaged state is set aside."""
    with process_group.synchronized(leader_first=True):
        saved = checkpoint.load()
    with process_group.synchronized():
        if saved:
            loop.restore(*saved)
    process_group.assert_equal(loop.done, f"{title}: the checkpoint")


def _save(checkpoint: Checkpoint, process_group: ProcessGroup, tensors: dict[str, torch.Tensor], state: State) -> None:
    """The leader writes for all."""
    with process_group.synchronized():
        if process_group.is_main_process:
            checkpoint.save(tensors, state)


class _Loop:
    """The moving parts of one training."""

    def __init__(
        self,
        source: BatchSource,
        objective: Objective,
        groups: Sequence[dict[str, Any]],
        settings: TrainingSettings,
        device: torch.device,
        precision: Precision,
        sharing: DDPStrategy,
    ) -> None:
        self._source, self._objective, self._settings, self._device = source, objective, settings, device
        self._sharing, self._process_group = sharing, sharing.process_group
        self._sharing.begin(groups, settings)
        self._peaks = [float(group["lr"]) for group in sharing.optimizer.param_groups]
        self.log = TrainingLog(precision, settings.micro_batch)

    @property
    def done(self) -> int:
        """Optimiser steps made so far."""
        return len(self.log.steps)

    def step(self) -> LoggedStep:
        """Make one optimiser step."""
        started, step = time.perf_counter(), self.done
        loss, penalty, tokens = self._gradient(step)
        norm = self._sharing.gradient(tokens)
        if not (math.isfinite(loss + penalty) and math.isfinite(norm)):
            self._sharing.forget()
            raise DivergenceError(step, loss, norm, self.log.steps[-1] if self.log.steps else None, penalty)
        factor = lr_multiplier(step, self._source.steps, self._settings.warmup)
        for group, peak in zip(self._sharing.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor
        self._sharing.step()
        seconds = time.perf_counter() - started
        logged = LoggedStep(step, loss, penalty, self._peaks[0] * factor, norm, tokens, seconds)
        self.log.steps.append(logged)
        return logged

    def _gradient(self, step: int) -> tuple[float, float, float]:
        """Leave the step's gradient in the parameters; halve the micro-batch until memory suffices.

        Returns:
            Mean token loss, penalty, and number of supervised tokens, over all processes.
        """
        before = random_state(self._device)
        while True:
            sums = self._tried(step)
            if sums is not None:
                loss, penalty, tokens = sums
                break
            if self.log.micro_batch == 1:
                error = OutOfMemoryError(
                    "memory does not suffice for a single row",
                    location=f"step {step}",
                    hint="take a smaller model, shorter texts, or a machine with more memory",
                )
                raise mark_shared(error)
            if (
                self._sharing.invalidates_model
            ):  # a pass that was broken off leaves weights gathered and gradients half added up
                error = OutOfMemoryError(
                    f"memory does not suffice for {self.log.micro_batch} rows at a time",
                    location=f"step {step}",
                    hint=f"run it again with --set training.micro_batch={(self.log.micro_batch + 1) // 2}",
                )
                raise mark_shared(error)
            # Out here nothing holds the failed graph any more, so its memory can be given back.
            self.log.micro_batch = (self.log.micro_batch + 1) // 2
            self._sharing.forget()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            set_random_state(before, self._device)
        if tokens <= 0:
            raise mark_shared(
                UserError(
                    "there is nothing to learn from", location=f"step {step}", hint="give answers that are not empty"
                )
            )
        return loss / tokens, penalty / tokens, tokens

    def _tried(self, step: int) -> tuple[float, float, float] | None:
        """Sums of loss, penalty and supervised tokens over all processes; None where memory did not suffice in one."""
        sums, starved = (0.0, 0.0, 0.0), False
        failed: Exception | None = None
        try:
            sums = self._accumulate(step)
        except Exception as error:
            failed = error
        if self._sharing.synchronous:
            self._process_group.barrier(failed)
        if isinstance(failed, RuntimeError) and out_of_memory(failed):
            starved, failed = True, None  # nothing holds the failed graph any more
        loss, penalty, tokens, short, broken = self._process_group.all_reduce_sum(
            [*sums, float(starved), float(failed is not None)]
        )
        if failed is not None:
            raise mark_shared(failed)
        if broken:
            raise PeerProcessError(f"step {step} failed; its own output says how")
        return None if short else (loss, penalty, tokens)

    def _accumulate(self, step: int) -> tuple[float, float, float]:
        """This process's sums of loss, penalty and supervised tokens; their gradient is left in the parameters."""
        loss = penalty = torch.zeros((), device=self._device)
        tokens = 0.0
        for batch in self._source.micro_batches(step, self.log.micro_batch):
            with self._autocast():
                part = self._objective(send_to_device(batch, self._device))
                total = part.loss_sum
                if part.penalty is not None and part.tokens:
                    total = total + part.penalty * part.tokens
                    penalty = penalty + part.penalty.detach() * part.tokens
            if total.requires_grad:  # texts alone say nothing about a projector, where nothing else is trained
                self._sharing.backward(total)
            loss, tokens = loss + part.loss_sum.detach(), tokens + part.tokens
        return float(loss), float(penalty), tokens

    def _autocast(self) -> torch.autocast:
        """Weights cast inside a no_grad block (a frozen teacher) must not be reused where gradients are needed."""
        half = self.log.precision == "bfloat16"
        return torch.autocast(self._device.type, torch.bfloat16, enabled=half, cache_enabled=False)

    def state(self) -> tuple[dict[str, torch.Tensor], State]:
        """Everything that the steps to come depend on."""
        random = self._process_group.all_gather(random_state(self._device))
        return self._sharing.take(), {"log": dataclasses.asdict(self.log), "random": random}

    def restore(self, tensors: dict[str, torch.Tensor], state: State) -> None:
        """Go on from what ``state`` gave."""
        log = state["log"]
        if log["precision"] != self.log.precision:
            raise UserError(
                f"it was made in {log['precision']}, this is {self.log.precision}",
                location="checkpoint",
                hint=f"set precision to {log['precision']}, or delete the checkpoint",
            )
        self._sharing.load_state_dict(tensors)
        steps = [LoggedStep(**step) for step in log["steps"]]
        self.log = TrainingLog(log["precision"], log["micro_batch"], steps)
        set_random_state(state["random"][self._process_group.rank], self._device)
