"""Experiment trackers for losses and scores: TensorBoard, Weights & Biases, MLflow, trackio.

They are Accelerate's, are used only on request (``--set track=[tensorboard]``), and write offline below the run's
folder. Each cell is one run of the tracker, with losses during training and scores at the end.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from benchmarks.errors import UserError, one_line
from harness.storage.files import atomic_write

if TYPE_CHECKING:
    from harness.training.loop import LoggedStep
    from reports.record import CellResult, Run

logger = logging.getLogger(__name__)
T = TypeVar("T")

FOLDER = "trackers"
LOGGED = "seen.json"
"""What has been logged already, so that a later run does not repeat it."""
PROJECT = "knowledge-injection"


@dataclass
class Trackers:
    """The trackers of a run; without names, all methods do nothing.

    Args:
        names: Accelerate's names of the trackers.
        out: Folder of the run.
        cpu: Whether the run computes on the CPU: Accelerate's state is fixed for the whole process by its first use.
    """

    names: tuple[str, ...] = ()
    out: Path = field(default_factory=Path)
    cpu: bool = True
    _failed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if self.names:
            from accelerate.tracking import get_available_trackers

            available = {str(getattr(name, "value", name)) for name in get_available_trackers()}
            for name in self.names:
                if name not in available:
                    raise UserError(f"{name} is not installed", location="track", hint=f"pip install {name}")

    @contextlib.contextmanager
    def losses(self, title: str, settings: Mapping[str, Any]) -> Iterator[Callable[[LoggedStep], None] | None]:
        """Yield a function that logs each step of one cell's training; None without trackers.

        Args:
            title: The cell's title; the same title continues the same run of the tracker.
            settings: The cell's settings.
        """
        if not self.names:
            yield None
            return
        with self._open(title, settings) as trackers:

            def log_step(step: LoggedStep) -> None:
                names = ("loss", "penalty", "learning_rate", "grad_norm")
                self._log(trackers, {name: getattr(step, name) for name in names}, step.step)

            yield log_step
        self._remember({f"{title}: losses": True})

    def scores(self, run: Run) -> None:
        """Log the scores of every cell once, and the losses of cells that were trained without trackers."""
        if not self.names:
            return
        logged = self._logged()
        for cell in run.cells:
            title = f"{cell.label} seed {cell.seed}" if cell.settings else cell.label
            values = _values(cell)
            mark = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
            if not values or logged.get(f"{title}: scores") == mark:
                continue
            with self._open(title, {name: setting.value for name, setting in cell.settings.items()}) as trackers:
                for step in () if logged.get(f"{title}: losses") else cell.training:
                    self._log(trackers, {"loss": step.loss, "learning_rate": step.learning_rate}, step.step)
                self._log(trackers, values, cell.training[-1].step + 1 if cell.training else 0)
            self._remember({f"{title}: losses": True, f"{title}: scores": mark})

    @contextlib.contextmanager
    def _open(self, title: str, settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Create or continue one run in each tracker. What trackers print is suppressed."""
        folder = (self.out / FOLDER).resolve()
        run_id = hashlib.sha256(f"{folder}\n{title}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
        safe_title = "".join(character if character.isalnum() else "-" for character in title)[:80]
        arguments: dict[str, dict[str, Any]] = {
            "tensorboard": {"run_name": f"{safe_title}-{run_id[:6]}", "logging_dir": folder / "tensorboard"},
            "wandb": {"run_name": PROJECT, "id": run_id, "name": title, "dir": str(folder), "resume": "allow"},
            "mlflow": {"experiment_name": PROJECT, "run_name": title, "run_id": self._logged().get(f"{title}: mlflow")},
            "trackio": {"run_name": PROJECT, "name": title, "resume": "allow"},
        }
        config = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in settings.items()
        }

        def start(name: str) -> Any:
            from accelerate import PartialState
            from accelerate.tracking import LOGGER_TYPE_TO_CLASS

            PartialState(cpu=self.cpu)
            folder.mkdir(parents=True, exist_ok=True)
            _keep_offline(folder)
            tracker = LOGGER_TYPE_TO_CLASS[name](**arguments[name])
            tracker.start()
            tracker.store_init_configuration(config)
            if name == "mlflow":
                self._remember({f"{title}: mlflow": tracker.tracker.info.run_id})
            return tracker

        started = {name: self._attempt(name, partial(start, name)) for name in self.names}
        trackers = {name: tracker for name, tracker in started.items() if tracker is not None}
        try:
            yield trackers
        finally:
            for name, tracker in trackers.items():
                self._attempt(name, tracker.finish)

    def _log(self, trackers: Mapping[str, Any], values: Mapping[str, float], step: int) -> None:
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        for name, tracker in trackers.items():
            self._attempt(name, partial(tracker.log, finite, step=step))

    def _attempt(self, name: str, action: Callable[[], T]) -> T | None:
        """Call a tracker without its output; one that fails is reported, and not used again: it only shows the run."""
        if name in self._failed:
            return None
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                return action()
        except (Exception, SystemExit) as error:
            self._failed.add(name)
            logger.warning("%s failed and is not used any more in this run (%s)", name, one_line(error))
            return None

    def _logged(self) -> dict[str, Any]:
        path = self.out / FOLDER / LOGGED
        try:
            return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}
        except (OSError, ValueError, TypeError) as error:
            logger.warning("%s cannot be read, so all is logged again (%s)", path, one_line(error))
            return {}

    def _remember(self, more: Mapping[str, Any]) -> None:
        if self._failed:
            return  # a later run logs again what did not arrive
        path = self.out / FOLDER / LOGGED
        try:
            atomic_write(path, json.dumps(self._logged() | dict(more), indent=1) + "\n")
        except UserError as error:
            logger.warning("%s cannot be written, so the next run logs all again (%s)", path, one_line(error))


def _values(cell: CellResult) -> dict[str, float]:
    """The headline of each benchmark, and the metrics of the adaptation benchmark."""
    values = {f"score/{name}": score.headline for name, score in cell.scores.items() if score.headline is not None}
    for name, score in cell.scores.items():
        values |= {
            f"score/{name}/{metric}": score.metrics[metric] for metric in ("CEM", "F1") if metric in score.metrics
        }
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _keep_offline(folder: Path) -> None:
    """Have trackers write below the run's folder, silently, unless the user's environment says otherwise."""
    for name, value in {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "TRACKIO_DIR": str(folder / "trackio"),
    }.items():
        os.environ.setdefault(name, value)
