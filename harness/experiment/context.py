"""What the cells of a run share: settings, data, store, and one base model that is loaded when first needed."""

from __future__ import annotations

import gc
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import UserError
from harness.config.extras import BUILTIN, check_extras
from harness.config.schema import NO_EFFECT, PictureSettings, Settings, TrainingSettings
from harness.config.settings import Request
from harness.data.answering import template_protocols
from harness.data.inputs import RunInputs, load_inputs
from harness.data.knowledge_split import check_stages
from harness.data.picture_check import check_pictures
from harness.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from harness.experiment.cell import CacheInputs, Cell
from harness.experiment.rows import list_cells
from harness.experiment.trackers import Trackers
from harness.models import GROUP
from harness.storage.digests import digest, knowledge_digest, model_digest, questions_digest
from harness.storage.source_code import code_digest
from harness.storage.store import Store
from harness.training.hardware import Precision, WeightPrecision, compute_precision, resolve_precision
from methods.targets import ALL

if TYPE_CHECKING:
    import torch

    from harness.models.base import LanguageVisionModel
    from harness.models.vision import PictureOptions

logger = logging.getLogger(__name__)

STORE = "store"


class IntegrityError(UserError):
    """A cell violates an invariant: its row would not be what it claims to be (I4)."""


@dataclass
class RunContext:
    """Everything that a cell needs."""

    request: Request
    store: Store
    inputs: RunInputs
    cache_inputs: CacheInputs
    cells: list[Cell]
    process_group: ProcessGroup = SINGLE_PROCESS
    """The processes that compute each cell together."""
    trackers: Trackers = field(default_factory=Trackers)
    """Experiment trackers; by default none."""
    _model: LanguageVisionModel | None = None
    _fingerprint: str = ""
    base_digest: str = ""
    """Digest of the loaded base's own parameters, where another engine than the built-in one has to know it."""
    reused: dict[str, int] = field(default_factory=dict)
    """Number of stored results that were reused, by kind."""

    @property
    def settings(self) -> Settings:
        """The run's settings."""
        return self.request.resolved.settings

    def training_of(self, cell: Cell) -> TrainingSettings:
        """The run's training settings with the cell's changes."""
        return TrainingSettings.model_validate(self.settings.training.model_dump() | dict(cell.training))

    def count_reused(self, kind: str, number: int = 1) -> None:
        """Count stored results that were reused."""
        self.reused[kind] = self.reused.get(kind, 0) + number

    @property
    def model(self) -> LanguageVisionModel:
        """The base model, loaded once."""
        if self._model is None:
            from harness.models.registry import load_model

            logger.info("loading the base model %s", self.settings.label or self.settings.model.name)
            options = picture_options(self.settings.pictures)
            quantized = self.cache_inputs.precision == "nf4"
            model = load_model(self.settings.model, self.device, self._dtype(), options, quantized=quantized)
            for task in self.inputs.tasks:  # so that what the model does not support is refused now
                model.encoder_for(picture_options(task.pictures))
            self._model = model
            self._fingerprint = self._model.fingerprint()
            if self.settings.answering.engine != BUILTIN:
                from harness.serving.adapter import base_digest

                self.base_digest = base_digest(self._model)
        return self._model

    @property
    def device(self) -> torch.device:
        """Where to compute."""
        import torch

        return torch.device(self.cache_inputs.device)

    def unload_model(self) -> None:
        """Drop the base model, after something that may have changed it."""
        self._model = None
        gc.collect()  # wrapped models contain reference cycles
        if self.cache_inputs.device == "cuda":
            import torch

            torch.cuda.empty_cache()

    def verify_base_unchanged(self, after: str) -> None:
        """Compare the base bit for bit with what was loaded.

        Raises:
            IntegrityError: It has changed.
        """
        if self._model is not None and self._model.fingerprint() != self._fingerprint:
            self.unload_model()
            raise IntegrityError(
                "the base model has changed; results computed since then cannot be trusted",
                location=after,
                hint="have the method's detach undo everything that attach and restore do",
            )

    @property
    def dtype(self) -> Precision:
        """The type of frozen weights: half precision only on a GPU; on the CPU they stay exact."""
        device = self.cache_inputs.device
        half = compute_precision(device, self.cache_inputs.precision) == "bfloat16" and device != "cpu"
        return "bfloat16" if half else "float32"

    def _dtype(self) -> torch.dtype:
        import torch

        return torch.bfloat16 if self.dtype == "bfloat16" else torch.float32


def build_context(request: Request, scratch: Path | None = None) -> RunContext:
    """Read and check everything that a run needs, before anything is computed.

    Args:
        request: Methods, settings and folder.
        scratch: A folder for temporary files, so that the run's folder is only read.

    Raises:
        UserError: A setting or a file is wrong, or the machine cannot do the run.
    """
    settings = request.resolved.settings
    cells = list_cells(request.methods, request.resolved)
    store = Store(request.out / STORE, scratch)
    check_extras(settings, [cell.training for cell in cells])
    base = _base_digest(request)
    if protocols := template_protocols(settings):
        from harness.models.registry import check_protocols

        check_protocols(settings.model, protocols)
    read_by_methods = {name for cell in cells if cell.settings for name in cell.make().evaluation_inputs}
    inputs = load_inputs(settings, store, sorted(read_by_methods), {pool for cell in cells for pool in cell.pools})
    if scratch is None:
        check_pictures(inputs, store)
    check_stages(inputs, settings.stage_count)
    divided = inputs.all_items if settings.stage_count > 1 or len(inputs.knowledge) < len(inputs.all_items) else ()
    for cell in {cell.label: cell for cell in cells if cell.settings}.values():
        cell.make().check_data(inputs.knowledge, divided)
    _check_layers(cells, settings.model)
    device, precision = _device(settings)
    cache_inputs = CacheInputs(
        base=base,
        knowledge=knowledge_digest(inputs.knowledge),
        pools=inputs.pools.fingerprints(),
        training=settings.training.model_dump(mode="json", exclude=set(NO_EFFECT)),
        batch_size=settings.answering.batch_size,
        device=device,
        precision=precision,
        processes=settings.processes,
        sharding=settings.sharding,
        evaluation_inputs={
            name: digest([questions_digest(questions), [question.table_text for question in questions]])
            for name, questions in inputs.evaluation_inputs.items()
        },
    )
    return RunContext(request, store, inputs, cache_inputs, cells)


def _check_layers(cells: Sequence[Cell], model: Path) -> None:
    """Refuse rows whose settings do not fit the model's layers, which are read only if a row depends on them.

    Without layers, as of a decoder that adapters would leave a part of, each row that needs them fails for that reason.
    """
    methods = {cell.label: cell.make() for cell in cells if cell.settings}
    narrowed = {
        label: method
        for label, method in methods.items()
        if method.overrides("validate_layers") or getattr(method.settings, "targets", ALL) != ALL
    }
    if not narrowed:
        return
    from harness.models.registry import target_shapes

    try:
        layers = target_shapes(model)
    except UserError:
        return
    for label, method in narrowed.items():
        try:
            method.validate_layers(layers)
        except UserError as error:
            raise UserError(error.message, location=f"{label}, {error.location}", hint=error.hint) from error


def _base_digest(request: Request) -> str:
    """Digest of the base: its files, how it takes pictures, and the code of its family if that is a user's own."""
    settings = request.resolved.settings
    base = model_digest(settings.model, settings.pictures.model_dump(exclude_defaults=True))
    if not request.plugins and not entry_points(group=GROUP):
        return base
    from harness.models.registry import family_files

    files = family_files(settings.model)
    return digest([base, code_digest(*files)]) if files else base


def picture_options(settings: PictureSettings) -> PictureOptions:
    """The settings as a model takes them."""
    from harness.models.vision import PictureOptions

    return PictureOptions(**settings.model_dump())


def _device(settings: Settings) -> tuple[str, WeightPrecision]:
    """Where to compute, and in which precision. Torch is imported only if the settings leave that open."""
    if settings.device == "cpu" and settings.precision != "auto":
        return "cpu", settings.precision
    import torch

    available = torch.cuda.is_available()
    if settings.device == "cuda" and not available:
        raise UserError("torch finds no GPU", location="device", hint="set device=cpu, or fix the driver")
    device = "cuda" if available and settings.device != "cpu" else "cpu"
    if settings.precision == "nf4":
        return device, "nf4"
    return device, resolve_precision(torch.device(device), settings.precision)
