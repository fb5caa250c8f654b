"""What the cells of a run share: settings, data, store, and one base model that is loaded when first needed."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.errors import UserError
from harness.config.settings import Request, Settings
from harness.config.training import TrainingSettings
from harness.data.inputs import RunInputs, load_sources
from harness.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from harness.experiment.cell import CacheInputs, Cell, Precision, cells_of
from harness.experiment.stages import check_stages
from harness.experiment.trackers import Trackers
from harness.storage.digests import model_digest, questions_digest
from harness.storage.store import Store, translate_os_errors

if TYPE_CHECKING:
    import torch

    from harness.models.base import LanguageVisionModel

Say = Callable[[str], None]
"""Tells the user one line about what is going on."""

STORE = "store"
LEFT_OUT = ("save_every",)
"""Settings of the training core that change nothing in what is learnt."""


class IntegrityError(UserError):
    """A cell that does not do what its row would claim (invariant I4)."""


@dataclass
class RunContext:
    """Everything that a cell needs."""

    request: Request
    store: Store
    sources: RunInputs
    cache_inputs: CacheInputs
    cells: list[Cell]
    say: Say
    process_group: ProcessGroup = SINGLE_PROCESS
    """The processes that compute each cell together."""
    trackers: Trackers = field(default_factory=Trackers)
    """Told of losses and scores; nobody unless asked for."""
    _model: LanguageVisionModel | None = None
    _fingerprint: str = ""
    reused: dict[str, int] = field(default_factory=dict)
    """How many products of each kind were there already."""

    @property
    def settings(self) -> Settings:
        """The run's settings."""
        return self.request.resolved.settings

    def training_of(self, cell: Cell) -> TrainingSettings:
        """How a cell is trained: as the run says, but for what it is swept over."""
        return self.settings.training.model_copy(update=dict(cell.training))

    def count_reused(self, kind: str, number: int = 1) -> None:
        """Note that products were there already."""
        self.reused[kind] = self.reused.get(kind, 0) + number

    @property
    def model(self) -> LanguageVisionModel:
        """The base model, loaded once."""
        if self._model is None:
            from harness.models.registry import load_model
            from harness.models.vision import PictureOptions

            self.say(f"loading the base model {self.settings.label or self.settings.model.name}")
            options = PictureOptions(**self.settings.pictures.model_dump())
            self._model = load_model(self.settings.model, self.device, self._dtype(), options)
            self._fingerprint = self._model.fingerprint()
        return self._model

    @property
    def device(self) -> torch.device:
        """Where to compute."""
        import torch

        return torch.device(self.cache_inputs.device)

    def unload_model(self) -> None:
        """Forget the base model after something that may have left a trace in it."""
        self._model = None
        gc.collect()  # what wrapped it refers to itself
        if self.cache_inputs.device == "cuda":
            import torch

            torch.cuda.empty_cache()

    def verify_base_unchanged(self, after: str) -> None:
        """Compare the base with what was loaded, bit for bit.

        Raises:
            Untrue: It has changed.
        """
        if self._model is not None and self._model.fingerprint() != self._fingerprint:
            self.unload_model()
            raise IntegrityError(
                "the base model is not what it was before; nothing that came after can be trusted",
                location=after,
                hint="have the method's detach undo everything that attach and restore do",
            )

    def _dtype(self) -> torch.dtype:
        """Frozen weights are kept in half precision on an accelerator only; on the CPU they stay exact."""
        import torch

        half = self.cache_inputs.precision == "bfloat16" and self.cache_inputs.device != "cpu"
        return torch.bfloat16 if half else torch.float32


def build_context(request: Request, say: Say) -> RunContext:
    """Read and check everything that a run needs, before anything is computed.

    Raises:
        UserError: A setting, a file or the machine does not allow the run.
    """
    resolved = request.resolved
    cells = cells_of(request.methods, resolved)
    store = Store(request.out / STORE)
    base = model_digest(resolved.settings.model, resolved.settings.pictures.model_dump(exclude_defaults=True))
    reads = {name for cell in cells if cell.settings for name in cell.make().evaluation_inputs}
    sources = load_sources(resolved.settings, store, sorted(reads))
    check_stages(sources, resolved.settings.stages)
    device, precision = _device(resolved.settings)
    training = resolved.settings.training.model_dump(mode="json")
    cache_inputs = CacheInputs(
        base=base,
        knowledge=sources.knowledge_digest,
        old_data=sources.old.fingerprint(),
        training={name: value for name, value in training.items() if name not in LEFT_OUT},
        batch_size=resolved.settings.answering.batch_size,
        device=device,
        precision=precision,
        processes=resolved.settings.processes,
        sharding=resolved.settings.sharding,
        inputs={name: questions_digest(questions) for name, questions in sources.inputs.items()},
    )
    return RunContext(request, store, sources, cache_inputs, cells, say)


def _device(settings: Settings) -> tuple[str, Precision]:
    """Where to compute and in which precision. Torch is asked only where the settings leave it open."""
    if settings.device == "cpu" and settings.precision != "auto":
        return "cpu", settings.precision
    import torch

    from harness.training.precision import resolve_precision

    there = torch.cuda.is_available()
    if settings.device == "cuda" and not there:
        raise UserError(
            "there is no GPU that torch can use", location="device", hint="set device=cpu, or mend the driver"
        )
    device = "cuda" if there and settings.device != "cpu" else "cpu"
    return device, resolve_precision(torch.device(device), settings.precision)


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the run's folder, so that two commands do not write into it at once. A kill releases it.

    Raises:
        UserError: Another command holds it, or it cannot be written.
    """
    from filelock import FileLock, Timeout

    with translate_os_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        lock: Any = FileLock(out / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise UserError(
                "another command is at work in this folder",
                location=str(out),
                hint="wait for it, or give another folder with --out",
            ) from error
    try:
        yield
    finally:
        lock.release()
