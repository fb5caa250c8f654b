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
from harness.config.schema import TrainingSettings
from harness.console import progress
from harness.distributed.failures import OutOfMemoryError, PeerProcessError, is_allocation_failure, mark_shared
from harness.distributed.process_group import ProcessGroup
from harness.training.checkpoint import Checkpoint, State, random_state, set_random_state, trained_parameters
from harness.training.hardware import Precision, release_freed_memory, resolve_precision
from harness.training.step_hook import StepHook
from harness.training.strategies.ddp import TrainingStrategy

if TYPE_CHECKING:
    from harness.models.base import Batch


RELEASE_EVERY = 16
"""Steps after which freed memory is given back to the system; after each one it would cost several per cent."""


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
    """The training data, step by step."""

    steps: int
    """Optimiser steps in total."""

    def micro_batches(self, step: int, limit: int) -> Iterable[Batch]:
        """This process's rows of optimiser step ``step``, at most ``limit`` at a time; the same at each call.

        Every process gets the same number of micro-batches, if necessary some without supervised tokens.
        """


Objective = Callable[["Batch"], StepLoss]
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
    """The steps of a training, those before an interruption included."""

    precision: Precision
    micro_batch: int
    """Rows in one forward pass at the end; smaller than the setting if memory ran out."""
    steps: list[LoggedStep] = field(default_factory=list)


class DivergenceError(UserError):
    """The loss or its gradient is not finite. The parameters are as they were before the step.

    Args:
        step: The step that failed, from 0.
        loss: Its loss, without the penalty.
        grad_norm: Norm of its gradient.
        last: The step before.
        penalty: The method's penalty.
    """

    def __init__(self, step: int, loss: float, grad_norm: float, last: LoggedStep | None, penalty: float = 0.0) -> None:
        self.step, self.loss, self.grad_norm, self.last, self.penalty = step, loss, grad_norm, last, penalty
        before = f"; the step before had loss {last.loss:.4g}, gradient {last.grad_norm:.4g}" if last else ""
        by_penalty = math.isfinite(loss) and not math.isfinite(penalty)
        cause = f"the method's penalty is {penalty:.4g}, " if by_penalty else ""
        super().__init__(
            f"the training diverged: {cause}loss {loss:.4g}, gradient norm {grad_norm:.4g}{before}",
            location=f"step {step}",
            hint="fix the method's penalty" if by_penalty else "lower the learning rate, or raise the warm-up",
        )


def lr_multiplier(step: int, steps: int, warmup: float, *, from_zero: bool = False) -> float:
    """Share of the peak learning rate at ``step``, from 0: a linear rise, then half a cosine that ends at ``steps``.

    With ``from_zero`` the first step of the rise has learning rate 0, so that only AdamW's moments change in it; that
    is ``transformers.get_cosine_schedule_with_warmup``. Otherwise the first step learns already.
    """
    rising = math.ceil(warmup * steps)
    if step < rising:
        return (step if from_zero else step + 1) / rising
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
    strategy: TrainingStrategy | None = None,
    after_step: StepHook | None = None,
) -> TrainingLog:
    """Minimise the objective by AdamW with warm-up and cosine.

    The gradient of a step is that of (sum of the token losses) / (number of supervised tokens of the step) + penalty,
    for every division of the step into micro-batches.

    Args:
        source: The batches.
        objective: The loss.
        groups: AdamW groups with ``params``, ``names``, ``lr`` (peak) and perhaps ``weight_decay``.
        settings: How to train; the source has applied ``epochs`` and ``batch_size``.
        device: Where the parameters are.
        checkpoint: Where to continue from and save to; it is not discarded at the end.
        precision: Type of the matrix products.
        on_step: Called after each step.
        title: For the progress bar.
        strategy: How several processes share the training; without it, this process trains alone.
        after_step: Called after each optimiser step; its state is part of the checkpoint.

    Returns:
        The log, with the precision and the micro-batch that were used.

    Raises:
        DivergenceError: The loss is not finite.
        OutOfMemoryError: A single row does not fit into memory.
        PeerProcessError: Another process failed.
        UserError: The checkpoint belongs to another training.
    """
    strategy, resolved = strategy or TrainingStrategy(), resolve_precision(device, precision)
    loop, process_group = _Loop(source, objective, groups, settings, device, resolved, strategy), strategy.process_group
    loop.after_step = after_step
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
            due = partial(bool, time.monotonic() - last_save >= settings.save_every)
            if checkpoint and (loop.done == source.steps or process_group.broadcast_from_main(due)):
                _save(checkpoint, process_group, *loop.state())
                last_save = time.monotonic()
    return loop.log


def _resume(loop: _Loop, checkpoint: Checkpoint, process_group: ProcessGroup, title: str) -> None:
    """Continue from what was saved; rank 0 loads it first, because a damaged state is quarantined."""
    with process_group.synchronized(main_process_first=True):
        saved = checkpoint.load()
    with process_group.synchronized():
        if saved:
            loop.restore(*saved)
    process_group.assert_equal(loop.done, f"{title}: the checkpoint")


def _save(checkpoint: Checkpoint, process_group: ProcessGroup, tensors: dict[str, torch.Tensor], state: State) -> None:
    with process_group.synchronized():
        if process_group.is_main_process:
            checkpoint.save(tensors, state)


class _Loop:
    """The state of one training."""

    def __init__(
        self,
        source: BatchSource,
        objective: Objective,
        groups: Sequence[dict[str, Any]],
        settings: TrainingSettings,
        device: torch.device,
        precision: Precision,
        strategy: TrainingStrategy,
    ) -> None:
        self.after_step: StepHook | None = None
        self._source, self._objective, self._settings, self._device = source, objective, settings, device
        self._strategy, self._process_group = strategy, strategy.process_group
        self._strategy.build_optimizer(groups, settings)
        self._peaks = [float(group["lr"]) for group in strategy.optimizer.param_groups]
        self.log = TrainingLog(precision, settings.micro_batch)

    @property
    def done(self) -> int:
        """Number of optimiser steps so far."""
        return len(self.log.steps)

    def step(self) -> LoggedStep:
        """Run one optimiser step."""
        started, step = time.perf_counter(), self.done
        loss, penalty, tokens = self._compute_gradient(step)
        norm = self._strategy.reduce_and_clip(tokens)
        if not (math.isfinite(loss + penalty) and math.isfinite(norm)):
            self._strategy.zero_grad()
            raise DivergenceError(step, loss, norm, self.log.steps[-1] if self.log.steps else None, penalty)
        settings = self._settings
        factor = lr_multiplier(step, self._source.steps, settings.warmup, from_zero=settings.warmup_from_zero)
        for group, peak in zip(self._strategy.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor
        self._strategy.step()
        if self.after_step:
            self.after_step(step)
        seconds = time.perf_counter() - started
        logged = LoggedStep(step, loss, penalty, self._peaks[0] * factor, norm, tokens, seconds)
        self.log.steps.append(logged)
        if self.done % RELEASE_EVERY == 0:
            release_freed_memory()
        return logged

    def _compute_gradient(self, step: int) -> tuple[float, float, float]:
        """Accumulate the step's gradient in the parameters; halve the micro-batch until it fits into memory.

        Returns:
            Mean token loss, penalty, and number of supervised tokens, over all processes.
        """
        before = random_state(self._device)
        while (sums := self._try_step(step)) is None:
            half = (self.log.micro_batch + 1) // 2
            if self.log.micro_batch == 1:
                problem = "memory does not suffice for a single row"
                hint = "use a smaller model, shorter texts, or a machine with more memory"
                raise mark_shared(OutOfMemoryError(problem, location=f"step {step}", hint=hint))
            if self._strategy.invalidates_model:  # an aborted pass leaves weights gathered and gradients incomplete
                problem = f"memory does not suffice for {self.log.micro_batch} rows at a time"
                hint = f"run it again with --set training.micro_batch={half}"
                raise mark_shared(OutOfMemoryError(problem, location=f"step {step}", hint=hint))
            # Nothing refers to the failed graph any more, so its memory can be released.
            self.log.micro_batch = half
            self._strategy.zero_grad()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            set_random_state(before, self._device)
        loss, penalty, tokens = sums
        if tokens <= 0:
            hint = "give answers that are not empty"
            raise mark_shared(UserError("there is nothing to learn from", location=f"step {step}", hint=hint))
        return loss / tokens, penalty / tokens, tokens

    def _try_step(self, step: int) -> tuple[float, float, float] | None:
        """Sums of loss, penalty and supervised tokens over all processes; None if memory ran out in any of them."""
        sums, out_of_memory = (0.0, 0.0, 0.0), False
        failure: Exception | None = None
        try:
            sums = self._accumulate(step)
        except Exception as error:
            failure = error
        if self._strategy.synchronous:
            self._process_group.barrier(failure)
        if failure is not None and is_allocation_failure(failure):
            out_of_memory, failure = True, None  # the error refers to the failed graph
        loss, penalty, tokens, any_out_of_memory, any_failed = self._process_group.all_reduce_sum(
            [*sums, float(out_of_memory), float(failure is not None)]
        )
        if failure is not None:
            raise mark_shared(failure)
        if any_failed:
            raise PeerProcessError(f"step {step} failed; see that process's output")
        return None if any_out_of_memory else (loss, penalty, tokens)

    def _accumulate(self, step: int) -> tuple[float, float, float]:
        """This process's sums of loss, penalty and supervised tokens; adds up their gradient in the parameters."""
        loss = penalty = torch.zeros((), device=self._device)
        tokens = 0.0
        for batch in self._source.micro_batches(step, self.log.micro_batch):
            with self._autocast():
                part = self._objective(send_to_device(batch, self._device))
                total = part.loss_sum
                if part.penalty is not None and part.tokens:
                    total = total + part.penalty * part.tokens
                    penalty = penalty + part.penalty.detach() * part.tokens
            if total.requires_grad:  # without pictures it does not, if only the projector is trained
                self._strategy.backward(total)
            loss, tokens = loss + part.loss_sum.detach(), tokens + part.tokens
        return float(loss), float(penalty), tokens

    def _autocast(self) -> torch.autocast:
        # Without the cache: weights cast under no_grad (a frozen teacher) must not be reused for gradients.
        half = self.log.precision == "bfloat16"
        return torch.autocast(self._device.type, torch.bfloat16, enabled=half, cache_enabled=False)

    def state(self) -> tuple[dict[str, torch.Tensor], State]:
        """Everything that the remaining steps depend on."""
        random = self._process_group.all_gather(random_state(self._device))
        tensors = self._strategy.state_dict()
        if self.after_step:
            self._check_equal_processes()
            tensors |= self.after_step.state_dict() if self._process_group.is_main_process else {}
        return tensors, {"log": dataclasses.asdict(self.log), "random": random}

    def _check_equal_processes(self) -> None:
        """Stop unless the step hook has left the same parameters and state in all processes: only one is saved."""
        if not self.after_step or self._process_group.world_size == 1:
            return
        from harness.models.loading import tensors_digest

        parameters = trained_parameters(self._strategy.optimizer.param_groups)
        values = tensors_digest(dict(parameters)) + tensors_digest(self.after_step.state)
        self._process_group.assert_equal(values, f"after_step of step {self.done - 1}")

    def restore(self, tensors: dict[str, torch.Tensor], state: State) -> None:
        """Continue from what ``state`` gave."""
        log = state["log"]
        if log["precision"] != self.log.precision:
            raise UserError(
                f"it was made in {log['precision']}, this is {self.log.precision}",
                location="checkpoint",
                hint=f"set precision to {log['precision']}, or delete the checkpoint",
            )
        if self.after_step:
            tensors = self.after_step.load_state_dict(tensors)
        self._strategy.load_state_dict(tensors)
        steps = [LoggedStep(**step) for step in log["steps"]]
        self.log = TrainingLog(log["precision"], log["micro_batch"], steps)
        set_random_state(state["random"][self._process_group.rank], self._device)
