"""A training small enough to be run many times: a noisy linear regression with dropout."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from harness.config.schema import TrainingSettings
from harness.training.loop import LoggedStep, StepLoss, TrainingLog, fit

CPU = torch.device("cpu")


@dataclass
class ToySource:
    """Rows that depend on the step alone."""

    steps: int = 12
    rows: int = 8
    limits: list[int] = field(default_factory=list)

    def micro_batches(self, step: int, limit: int) -> Iterable[dict[str, torch.Tensor]]:
        self.limits.append(limit)
        draw = torch.Generator().manual_seed(step)
        x = torch.randn(self.rows, 6, generator=draw)
        weight = torch.randint(1, 4, (self.rows,), generator=draw)  # supervised tokens of each row
        for start in range(0, self.rows, limit):
            yield {"x": x[start : start + limit], "tokens": weight[start : start + limit]}


class Toy:
    """A small network with its loss. ``penalty`` is a mean over tokens, as a distillation loss is."""

    def __init__(self, *, dropout: float = 0.0, penalty: float = 0.0, dtype: torch.dtype = torch.float32) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            layers = [torch.nn.Linear(6, 8), torch.nn.GELU(), torch.nn.Dropout(dropout), torch.nn.Linear(8, 1)]
        self.net = torch.nn.Sequential(*layers).to(dtype)
        self.weight, self.dtype = penalty, dtype

    def __call__(self, batch: dict[str, torch.Tensor]) -> StepLoss:
        x, tokens = batch["x"].to(self.dtype), batch["tokens"]
        output = self.net(x).squeeze(-1)
        loss = ((output - x.sum(-1)).square() * tokens).sum()
        penalty = self.weight * (output.square() * tokens).sum() / tokens.sum() if self.weight else None
        return StepLoss(loss, int(tokens.sum()), penalty)

    def groups(self, rate: float = 1e-2) -> list[dict[str, Any]]:
        named = list(self.net.named_parameters())
        return [
            {
                "params": [p for n, p in named if n[0] == layer],
                "names": [n for n, _ in named if n[0] == layer],
                "lr": lr,
            }
            for layer, lr in (("0", rate), ("3", rate / 10))
        ]

    def parameters(self) -> torch.Tensor:
        return torch.cat([parameter.detach().reshape(-1) for parameter in self.net.parameters()])


def train(toy: Any, source: ToySource | None = None, **changes: Any) -> TrainingLog:
    """Fit in float32; keyword arguments are settings, or ``checkpoint``, ``on_step``, ``rate``."""
    rate = changes.pop("rate", 1e-2)
    extra = {key: changes.pop(key) for key in ("checkpoint", "on_step", "precision") if key in changes}
    settings = TrainingSettings(**changes)
    return fit(source or ToySource(), toy, toy.groups(rate), settings, device=CPU, **{"precision": "float32", **extra})


def what_counts(steps: list[LoggedStep]) -> list[tuple[float, ...]]:
    """A log without its seconds."""
    return [(s.step, s.loss, s.penalty, s.learning_rate, s.grad_norm, s.tokens) for s in steps]
