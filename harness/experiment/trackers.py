"""Losses and scores for those who watch them elsewhere: TensorBoard, Weights & Biases, MLflow, trackio.

Through Accelerate's trackers, only when asked (``--set track=[tensorboard]``), and offline: everything is written below
the run's folder. Each cell is one run of the tracker: its losses while it trains, its scores when they are known.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.errors import UserError
from harness.storage.store import atomic_write

if TYPE_CHECKING:
    from harness.training.loop import LoggedStep
    from reports.record import CellResult, Run

FOLDER, SEEN = "trackers", "seen.json"
PROJECT = "knowledge-injection"


@dataclass
class Trackers:
    """Passes on what happens; does nothing where no tracker was asked for.

    Args:
        names: As Accelerate knows them.
        out: Folder of the run.
        cpu: Whether the run computes on the CPU; the first to ask settles Accelerate's state for the whole process.
    """

    names: tuple[str, ...] = ()
    out: Path = field(default_factory=Path)
    cpu: bool = True

    def __post_init__(self) -> None:
        if self.names:
            from accelerate.tracking import get_available_trackers

            there = {str(getattr(name, "value", name)) for name in get_available_trackers()}
            for name in self.names:
                if name not in there:
                    raise UserError(f"{name} is not installed", location="track", hint=f"pip install {name}")

    @contextlib.contextmanager
    def losses(self, title: str, settings: Mapping[str, Any]) -> Iterator[Callable[[LoggedStep], None] | None]:
        """A function that takes each step of one cell's training while it happens; None without trackers.

        Args:
            title: Of the cell; the same title goes on in the same run of the tracker.
            settings: What the cell was trained with.
        """
        if not self.names:
            yield None
            return
        with self._open(title, settings) as trackers:

            def take(step: LoggedStep) -> None:
                _log(trackers, {"loss": step.loss, "penalty": step.penalty, "learning_rate": step.learning_rate,
                                "grad_norm": step.grad_norm}, step.step)  # fmt: skip

            yield take
        self._remember({f"{title}: losses": True})

    def scores(self, run: Run) -> None:
        """The scores of every cell, and the losses of those that were trained before anybody watched; each once."""
        if not self.names:
            return
        seen = self._seen()
        for cell in run.cells:
            title = f"{cell.label} seed {cell.seed}" if cell.settings else cell.label
            values = _values(cell)
            mark = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
            if not values or seen.get(f"{title}: scores") == mark:
                continue
            with self._open(title, {name: one.value for name, one in cell.settings.items()}) as trackers:
                for step in () if seen.get(f"{title}: losses") else cell.training:
                    _log(trackers, {"loss": step.loss, "learning_rate": step.learning_rate}, step.step)
                _log(trackers, values, cell.training[-1].step + 1 if cell.training else 0)
            self._remember({f"{title}: losses": True, f"{title}: scores": mark})

    @contextlib.contextmanager
    def _open(self, title: str, settings: Mapping[str, Any]) -> Iterator[list[Any]]:
        """One run in each tracker, made or gone on with. What trackers print is not shown."""
        from accelerate import PartialState
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        PartialState(cpu=self.cpu)
        place = (self.out / FOLDER).resolve()
        place.mkdir(parents=True, exist_ok=True)
        _keep_offline(place)
        known = hashlib.sha256(f"{place}\n{title}".encode()).hexdigest()[:16]
        safe = "".join(sign if sign.isalnum() else "-" for sign in title)[:80]
        arguments: dict[str, dict[str, Any]] = {
            "tensorboard": {"run_name": f"{safe}-{known[:6]}", "logging_dir": place / "tensorboard"},
            "wandb": {"run_name": PROJECT, "id": known, "name": title, "dir": str(place), "resume": "allow"},
            "mlflow": {"experiment_name": PROJECT, "run_name": title, "run_id": self._seen().get(f"{title}: mlflow")},
            "trackio": {"run_name": PROJECT, "name": title, "resume": "allow"},
        }
        config = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in settings.items()
        }
        with contextlib.redirect_stdout(io.StringIO()):
            made = [LOGGER_TYPE_TO_CLASS[name](**arguments[name]) for name in self.names]
            for tracker in made:
                tracker.start()
                tracker.store_init_configuration(config)
                if tracker.name == "mlflow":
                    self._remember({f"{title}: mlflow": tracker.tracker.info.run_id})
        try:
            yield made
        finally:
            with contextlib.redirect_stdout(io.StringIO()):
                for tracker in made:
                    tracker.finish()

    def _seen(self) -> dict[str, Any]:
        path = self.out / FOLDER / SEEN
        return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}

    def _remember(self, more: Mapping[str, Any]) -> None:
        atomic_write(self.out / FOLDER / SEEN, json.dumps(self._seen() | dict(more), indent=1) + "\n")


def _log(trackers: list[Any], values: Mapping[str, float], step: int) -> None:
    finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
    for tracker in trackers:
        tracker.log(finite, step=step)


def _values(cell: CellResult) -> dict[str, float]:
    """Each headline by its benchmark, and the metrics of the adaptation benchmark."""
    found = {f"score/{name}": one.headline for name, one in cell.scores.items() if one.headline is not None}
    for name, one in cell.scores.items():
        found |= {f"score/{name}/{metric}": one.metrics[metric] for metric in ("CEM", "F1") if metric in one.metrics}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _keep_offline(place: Path) -> None:
    """Below the run's folder and silent, unless the user's environment says otherwise."""
    for name, value in {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "MLFLOW_TRACKING_URI": f"sqlite:///{place / 'mlflow.db'}",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "TRACKIO_DIR": str(place / "trackio"),
    }.items():
        os.environ.setdefault(name, value)
