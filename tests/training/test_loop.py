"""The training loop, on a toy problem."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import get_cosine_schedule_with_warmup

from benchmarks.errors import UserError
from harness.distributed.failures import OutOfMemoryError
from harness.training.hardware import resolve_precision
from harness.training.loop import DivergenceError, StepLoss, lr_multiplier
from helpers.toy_methods import Toy, ToySource, train, what_counts


def test_the_loss_falls():
    log = train(Toy(), ToySource(steps=200), rate=3e-2)
    assert log.steps[-1].loss < 0.1 * log.steps[0].loss
    assert [step.step for step in log.steps] == list(range(200))
    assert log.precision == "float32"


@pytest.mark.parametrize("penalty", [0.0, 0.7])
def test_a_step_does_not_depend_on_the_micro_batches(penalty):
    """1 x 8, 2 x 4, 3 + 3 + 2 and 8 x 1 rows give one gradient, penalty included."""
    results = []
    for micro_batch in (8, 4, 3, 1):
        toy = Toy(penalty=penalty, dtype=torch.float64)
        log = train(toy, micro_batch=micro_batch)
        results.append((toy.parameters(), log.steps))
    (reference, steps), *others = results
    for parameters, cut in others:
        torch.testing.assert_close(parameters, reference, rtol=1e-9, atol=1e-12)
        assert [step.penalty for step in cut] == pytest.approx([step.penalty for step in steps], rel=1e-5)
        assert [step.loss for step in cut] == pytest.approx([step.loss for step in steps], rel=1e-5)


def test_summing_penalties_would_be_detected():
    """Positive control: a penalty that grows with the number of micro-batches changes the result."""

    class Naive(Toy):
        def __call__(self, batch):
            part = super().__call__(batch)
            return StepLoss(part.loss_sum, part.tokens, part.penalty * 8 / len(batch["x"]))

    uncut, cut = Naive(penalty=0.7), Naive(penalty=0.7)
    train(uncut, micro_batch=8)
    train(cut, micro_batch=2)
    assert not torch.allclose(uncut.parameters(), cut.parameters(), rtol=1e-3)


def test_a_zero_penalty_changes_no_bit():
    """I8: a coefficient of zero equals no penalty."""

    class Zero(Toy):
        def __call__(self, batch):
            part = super().__call__(batch)
            return StepLoss(part.loss_sum, part.tokens, 0.0 * self.net[0].weight.square().sum())

    plain, zero = Toy(), Zero()
    train(plain)
    train(zero)
    assert torch.equal(plain.parameters(), zero.parameters())


def test_everything_depends_on_the_seed():
    logs, ends = [], []
    for seed in (1, 1, 2):
        toy = Toy(dropout=0.5)
        torch.manual_seed(seed)
        logs.append(what_counts(train(toy).steps))
        ends.append(toy.parameters())
    assert logs[0] == logs[1]
    assert torch.equal(ends[0], ends[1])
    assert logs[0] != logs[2]


@given(steps=st.integers(1, 500), warmup=st.floats(0, 1))
def test_the_schedule(steps, warmup):
    factors = [lr_multiplier(step, steps, warmup) for step in range(steps)]
    rising = math.ceil(warmup * steps)
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[:rising] == sorted(factors[:rising])
    assert factors[rising:] == sorted(factors[rising:], reverse=True)
    assert max(factors) == 1
    assert rising == steps or lr_multiplier(steps, steps, warmup) == pytest.approx(0, abs=1e-12)


@given(steps=st.integers(1, 300), warmup=st.floats(0, 1))
def test_a_warm_up_from_zero_is_hugging_faces_schedule(steps, warmup):
    """Every learning rate of the trainer's cosine schedule, whose first step has 0."""
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    rising = math.ceil(warmup * steps)  # as TrainingArguments.get_warmup_steps
    schedule = get_cosine_schedule_with_warmup(optimizer, rising, steps)
    for step in range(steps):
        expected = pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12, abs=1e-15)
        assert lr_multiplier(step, steps, warmup, from_zero=True) == expected
        optimizer.step()
        schedule.step()
    if rising:
        assert lr_multiplier(0, steps, warmup, from_zero=True) == 0 < lr_multiplier(0, steps, warmup)  # control


def test_the_loop_takes_the_warm_up_from_zero_from_its_settings():
    rates = {from_zero: [] for from_zero in (False, True)}
    for from_zero, seen in rates.items():
        train(Toy(), on_step=lambda step, seen=seen: seen.append(step.learning_rate), warmup_from_zero=from_zero)
    assert rates[True][0] == 0 < rates[False][0]


def test_each_group_has_its_own_peak():
    toy, seen = Toy(), []
    groups = toy.groups(1e-2)
    log = train(toy, on_step=seen.append, warmup=0.25)
    assert max(step.learning_rate for step in log.steps) == 1e-2
    assert seen == log.steps
    assert groups[0]["lr"] == 1e-2, "the caller's groups are not changed"


def failing(toy: Toy, calls: set[int], error: Exception) -> Toy:
    """The toy, whose objective raises at the given calls, counted from 0."""
    count = iter(range(10_000))

    class Failing(Toy):
        def __call__(self, batch):
            part = toy(batch)
            if next(count) in calls:
                (part.loss_sum * 1e6).backward()  # as a pass that fails half way leaves it
                raise error
            return part

    wrapped = Failing()
    wrapped.net = toy.net
    return wrapped


OOM = (
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory"),
)


@pytest.mark.parametrize("error", OOM, ids=["gpu", "cpu"])
def test_out_of_memory_halves_the_rows_and_keeps_the_batch(error):
    reference = Toy(dtype=torch.float64)
    train(reference, micro_batch=8)
    toy, source = Toy(dtype=torch.float64), ToySource()
    log = train(failing(toy, {3, 5}, error), source, micro_batch=8)
    assert source.limits[:6] == [8, 8, 8, 8, 4, 2], "the failed step is repeated with fewer rows at a time"
    assert source.limits[-1] == 2, "and so are the later steps"
    assert log.micro_batch == 2
    torch.testing.assert_close(toy.parameters(), reference.parameters(), rtol=1e-9, atol=1e-12)


def test_out_of_memory_draws_no_random_number():
    plain, limited = Toy(dropout=0.5), Toy(dropout=0.5)
    torch.manual_seed(5)
    train(plain, ToySource(steps=1), micro_batch=4)
    torch.manual_seed(5)
    train(failing(limited, {0}, OOM[0]), ToySource(steps=1), micro_batch=8)
    # The failed pass drew a dropout mask for 8 rows; repeated with 4 + 4 rows it must draw as the plain one does.
    assert torch.equal(plain.parameters(), limited.parameters())


def test_one_row_that_does_not_fit_is_an_error():
    with pytest.raises(OutOfMemoryError, match="single row"):
        train(failing(Toy(), set(range(100)), OOM[0]), micro_batch=4)


def test_other_errors_are_not_out_of_memory():
    with pytest.raises(RuntimeError, match="shape mismatch"):
        train(failing(Toy(), {2}, RuntimeError("shape mismatch")))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_divergence_has_its_own_error_and_keeps_the_parameters(value):
    seen: list[torch.Tensor] = []

    class Diverging(Toy):
        def __call__(self, batch):
            part = super().__call__(batch)
            return StepLoss(part.loss_sum * (value if len(seen) == 5 else 1.0), part.tokens)

    toy = Diverging()
    with pytest.raises(DivergenceError, match="step 5: the training diverged") as caught:
        train(toy, on_step=lambda _: seen.append(toy.parameters()))
    assert caught.value.step == 5
    assert not math.isfinite(caught.value.loss)
    assert caught.value.last.step == 4
    assert torch.equal(toy.parameters(), seen[-1])


def test_a_gradient_that_is_not_finite_diverges_too():
    class Kink(Toy):
        def __call__(self, batch):
            part = super().__call__(batch)
            return StepLoss(part.loss_sum + torch.sqrt(self.net[0].weight.sum() * 0), part.tokens)

    with pytest.raises(DivergenceError):
        train(Kink())


def test_nothing_supervised_is_an_error():
    class Silent(Toy):
        def __call__(self, batch):
            return StepLoss(super().__call__(batch).loss_sum * 0, 0)

    with pytest.raises(UserError, match="nothing to learn from"):
        train(Silent())


def test_precision_is_resolved_and_reported():
    cpu = torch.device("cpu")
    assert resolve_precision(cpu, "float32") == "float32"
    assert resolve_precision(cpu, "bfloat16") == "bfloat16"
    assert resolve_precision(cpu) in ("float32", "bfloat16")
    assert resolve_precision(torch.device("meta")) == "float32"
    half, full = Toy(), Toy()
    assert train(half, precision="bfloat16").precision == "bfloat16"
    train(full)
    assert all(parameter.dtype == torch.float32 for parameter in half.net.parameters())
    assert not torch.equal(half.parameters(), full.parameters()), "autocast was not enabled"
