"""Which cells a run has: each requested row, with each combination of swept values and each seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from benchmarks.errors import UserError
from harness.config import sweep
from harness.config.method_settings import ResolvedMethodSettings, method_settings, variant_settings
from harness.config.parity import RANK, Layers, reference_row
from harness.config.scaled_rows import split_scaled
from harness.config.settings import ResolvedSettings
from harness.experiment.cell import Cell
from harness.storage.digests import digest
from reports.record import SCALED, VANILLA

if TYPE_CHECKING:
    from methods.base import InjectionMethod, LinearShapes


def list_cells(names: Sequence[str], resolved: ResolvedSettings, layers: Layers | None = None) -> list[Cell]:
    """The untouched base, then each named method with each combination of crossed values and each seed.

    Rows that result in the same method with the same settings are one cell, named by the first of them.

    Args:
        names: As in ``--methods``.
        resolved: The settings of the run.
        layers: For ranks given as ``parity:ROW`` [default: those of the run's model].

    Raises:
        UserError: A method or variant is unknown, or its settings are wrong.
    """
    from methods.registry import expand_names, get_method

    rows = [name for name in expand_names(names) if name != VANILLA]
    sources = [split_scaled(name)[0] for name in rows]
    sweep.check_axes(resolved.settings.cross, [_fields(get_method(name)[0]) for name in sources])
    distinct: dict[str, Cell] = {}
    shapes = cache(layers or (lambda: _layers(resolved)))
    for cell in (cell for name in rows for cell in _row(name, resolved, shapes)):
        key = digest([cell.method, cell.plain_settings, dict(cell.training), cell.scale])
        first = distinct.get(key)
        if first is None:
            distinct[key] = cell
        elif cell.label != first.label:
            distinct[key] = dataclasses.replace(first, also=(*first.also, cell.label))
    cells = [
        dataclasses.replace(cell, seed=seed)
        for cell in _joined(list(distinct.values()))
        for seed in resolved.settings.seeds
    ]
    return [Cell(VANILLA, "", 0, None), *cells, *_external_cells(resolved, {cell.label for cell in cells})]


def _joined(cells: Sequence[Cell]) -> Iterator[Cell]:
    """The cells, those that use the same adapter as points of one curve unless a setting is swept."""
    scaled = {cell.source for cell in cells if cell.scale is not None}
    for cell in cells:
        joined = cell.source in scaled and (cell.scale is not None or not cell.swept)
        yield dataclasses.replace(cell, swept=SCALED) if joined else cell


def _external_cells(resolved: ResolvedSettings, labels: Container[str]) -> Iterator[Cell]:
    """The rows from elsewhere, each once: their seeds are not known.

    Raises:
        UserError: A row of this name exists already.
    """
    from methods.external import EXTERNAL
    from methods.registry import registered

    for name, row in resolved.settings.rows.items():
        method = EXTERNAL[row.kind]
        if name in labels or name in registered() or name == VANILLA:
            flag = f"--{row.flag} {name}={row.folder}"
            raise UserError("there is a row of this name already", location=flag, hint="give it another name")
        values: dict[str, Any] = {method.place: str(row.folder)}
        settings = ResolvedMethodSettings(method.Settings(**values), {method.place: f"--{row.flag}"})
        yield Cell(method.name, "", 0, settings, row=name)


def _layers(resolved: ResolvedSettings) -> LinearShapes:
    from harness.models.registry import target_shapes

    return target_shapes(resolved.settings.model)


def _row(name: str, resolved: ResolvedSettings, layers: Layers) -> Iterator[Cell]:
    """A requested row with each combination of crossed values, at seed 0."""
    from methods.registry import get_method

    source, scale = split_scaled(name)
    method, variant = get_method(source)
    variant_name, cross = source.partition(":")[2], resolved.settings.cross
    plain = method_settings(resolved, method.name, variant_name, layers=layers).values
    for point in sweep.grid(cross, _fields(method), variant.settings if variant else {}):
        chosen = variant_name or _equivalent_variant(resolved, method, plain, point, layers)
        settings = method_settings(resolved, method.name, chosen, point, layers)
        by_parity = {RANK: settings.values.rank} if reference_row(point.get(RANK)) else {}
        yield Cell(
            method.name,
            chosen,
            0,
            settings,
            row=name,
            crossed={**point, **by_parity},
            swept=sweep.sweep_axis(cross, point),
            scale=scale,
        )


def _equivalent_variant(
    resolved: ResolvedSettings, method: type[InjectionMethod], plain: Any, point: Mapping[str, Any], layers: Layers
) -> str:
    """The variant that the method becomes with these values, so that the preset's section for it applies."""
    for name, variant in method.variants.items():
        if not variant.settings.keys() <= point.keys():
            continue
        values = variant_settings(resolved, variant, layers)
        differs = any(getattr(plain, key) != value for key, value in values.items())
        if differs and values.items() <= point.items():
            return name
    return ""


def _fields(method: type[InjectionMethod]) -> frozenset[str]:
    """What can be swept: the method's own settings and those of the training loop, if it is trained."""
    own = {each.name for each in dataclasses.fields(method.Settings)}
    return sweep.TRAINING_FIELDS | own if method.trains else frozenset(own) - _training_settings()


def _training_settings() -> set[str]:
    """The settings of every method, which concern its training."""
    from methods.base import MethodSettings

    return {each.name for each in dataclasses.fields(MethodSettings)}
