"""Sweeps: every method with each of several values of a setting, from ``--data``, ``--sweep`` or ``cross``.

A method that lacks the setting, or a variant that is defined by it, gets a single row.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from pydantic import ValidationError

from benchmarks.errors import UserError
from harness.config.overrides import unknown_name
from harness.config.parity import RANK, reference_row
from harness.config.schema import NO_EFFECT, SweepAxis, SweepValue, TrainingSettings
from harness.config.value_errors import invalid_value

DATA = "data"
"""The setting that names a method's training data."""
TRAINING_PREFIX = "training."
"""Prefix of the settings of the training loop."""
TRAINING_FIELDS = frozenset(f"{TRAINING_PREFIX}{name}" for name in TrainingSettings.model_fields.keys() - NO_EFFECT)
"""Those that affect what is learned."""


def axis_origin(setting: str) -> str:
    """The origin that reports show for a value of this axis."""
    return "--data" if setting == DATA else "--sweep"


def parse_axes(data: str | None, sweeps: Sequence[str]) -> tuple[SweepAxis, ...] | None:
    """Parse the values of ``--data`` and ``--sweep``; None if neither is given.

    Raises:
        UserError: A flag cannot be parsed.
    """
    axes = [] if data is None else [make_axis(DATA, [part.strip() for part in data.split(",")], f"--data {data}")]
    return join_axes([*axes, *(parse_sweep(text) for text in sweeps)])


def join_axes(axes: Sequence[SweepAxis]) -> tuple[SweepAxis, ...] | None:
    """The axes as one setting, or None if there are none.

    Raises:
        UserError: Two of them are of the same setting.
    """
    names = [axis.setting for axis in axes]
    if len(set(names)) < len(names):
        raise UserError("a setting is swept twice", location="--sweep", hint="give all its values at once, by comma")
    return tuple(axes) or None


def parse_sweep(text: str) -> SweepAxis:
    """Parse ``learning_rate=1e-3,3e-3``, ``rank=64,parity:lora``, ``targets=attention,mlp`` or ``freeze_a=true,false``.

    Raises:
        UserError: There is no setting, or its values are not different ones of its kind.
    """
    name, _, values = text.partition("=")
    name, parts = name.strip(), [part.strip() for part in values.split(",")]
    kind = _kind(name)
    try:
        read = [part if name == RANK and reference_row(part) else _value(part, kind) for part in parts]
    except (ValueError, KeyError) as error:
        numbers = "write --sweep learning_rate=1e-3,3e-3,1e-2; a value is a number, or for rank also parity:ROW"
        hint = "write true or false" if kind is bool else numbers
        raise UserError("this is not a sweep", location=f"--sweep {text}", hint=hint) from error
    return make_axis(name, read, f"--sweep {text}")


def grid(cross: Sequence[SweepAxis], fields: Collection[str], fixed: Collection[str]) -> list[dict[str, SweepValue]]:
    """Every combination of the values, by setting; one empty combination if no axis applies.

    Args:
        cross: The axes.
        fields: Settings that the method has.
        fixed: Those among them that define its variant.
    """
    axes = [axis for axis in cross if axis.setting in fields and axis.setting not in fixed]
    names = [axis.setting for axis in axes]
    return [dict(zip(names, values, strict=True)) for values in product(*(axis.values for axis in axes))]


def split_point(point: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split a combination of values into settings of the training loop, without their prefix, and of the method."""
    training = {
        name.removeprefix(TRAINING_PREFIX): value for name, value in point.items() if name.startswith(TRAINING_PREFIX)
    }
    return training, {name: value for name, value in point.items() if not name.startswith(TRAINING_PREFIX)}


def training_overrides(
    settings: TrainingSettings, given: Mapping[str, Any], locate: Callable[[str], str]
) -> dict[str, Any]:
    """A method's given settings of the training loop that differ from the run's, as JSON values.

    Args:
        settings: The run's.
        given: The method's, without prefix.
        locate: Turns a setting, with its prefix, into the location of an error.

    Raises:
        UserError: A value does not fit.
    """
    usual = settings.model_dump(mode="json")
    try:
        changed = TrainingSettings.model_validate({**usual, **given}).model_dump(mode="json")
    except ValidationError as error:
        raise invalid_value(
            error, TrainingSettings, lambda key: locate(f"{TRAINING_PREFIX}{key.split('.')[0]}")
        ) from error
    return {name: changed[name] for name in given if changed[name] != usual[name]}


def row_label(name: str, crossed: Mapping[str, Any]) -> str:
    """A row's name with its values: "name (data kore, learning_rate 0.003)"."""
    values = {key: display_value(key, value) for key, value in crossed.items()}
    parts = [f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items()]
    return f"{name} ({', '.join(parts)})" if parts else name


def display_value(setting: str, value: Any) -> Any:
    """A setting's value as a report may show it: training data by what identifies it, never by its path."""
    from methods.augmentation import datasets

    return datasets.identity(str(value)) if setting == DATA else value


def sweep_axis(cross: Sequence[SweepAxis], crossed: Mapping[str, Any]) -> str:
    """The setting along which a row is one point of a curve: the last with numbers that is swept; empty if none is."""
    swept = [axis.setting for axis in cross if axis.setting in crossed and not _names_something(axis)]
    return swept[-1] if swept else ""


def check_axes(cross: Sequence[SweepAxis], fields: Iterable[Collection[str]]) -> None:
    """Refuse an axis that none of the chosen methods has.

    Raises:
        UserError: It suggests the closest setting.
    """
    known = {field for method_fields in fields for field in method_fields}
    for axis in cross:
        if known and axis.setting not in known:
            raise unknown_name("setting of any chosen method", axis.setting, known, where=axis_origin(axis.setting))


def make_axis(name: str, values: Sequence[SweepValue], where: str) -> SweepAxis:
    """A setting with its values.

    Raises:
        UserError: There is no name, no value, or a value is given twice.
    """
    if not name or not values or not all(value != "" for value in values) or len(set(values)) < len(values):
        raise UserError("a name and different values are needed", location=where, hint="give each value once, by comma")
    return SweepAxis(setting=name, values=tuple(values))


def _names_something(axis: SweepAxis) -> bool:
    """Whether the values have no order: names, patterns, or yes and no."""
    return any(
        isinstance(value, bool) or (isinstance(value, str) and not reference_row(value)) for value in axis.values
    )


def _kind(setting: str) -> type:
    """The type of a setting's default, of the first method that has the setting; float if none has."""
    from methods.registry import registered

    fields = (field for method in registered().values() for field in dataclasses.fields(method.Settings))
    return next((type(field.default) for field in fields if field.name == setting), float)


def _value(text: str, kind: type) -> SweepValue:
    if kind is bool:
        return {"true": True, "false": False}[text.casefold()]
    return text if kind is str else _number(text)


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value
