"""Each method with each of several values of a setting: ``--data`` crosses methods with data, ``--sweep`` any number.

A method that lacks the setting, or a variant that is defined by it, stands as it is, once.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import product
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmarks.errors import UserError
from harness.config.overrides import unknown
from harness.config.training import TrainingSettings

DATA = "data"
"""The setting by which a method names its training data."""
CORE = "training."
"""What the settings of the training core begin with; ``save_every`` among them changes nothing in what is learnt."""
TRAINING_FIELDS = frozenset(f"{CORE}{name}" for name in TrainingSettings.model_fields if name != "save_every")
Value = int | float | str


class SweepAxis(BaseModel):
    """A setting of methods that takes several values in turn."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    setting: str = Field(description="name of the setting")
    values: tuple[Value, ...] = Field(description="what it is set to", min_length=1)


def axis_origin(setting: str) -> str:
    """Where a report says that a crossed value came from."""
    return "--data" if setting == DATA else "--sweep"


def axes(data: str | None, sweeps: Sequence[str]) -> tuple[SweepAxis, ...] | None:
    """What the flags ask for; None where they say nothing.

    Raises:
        UserError: A flag cannot be read.
    """
    found = [] if data is None else [_axis(DATA, [part.strip() for part in data.split(",")], f"--data {data}")]
    found += [parse_sweep(text) for text in sweeps]
    names = [axis.setting for axis in found]
    if len(set(names)) < len(names):
        raise UserError("a setting is swept twice", location="--sweep", hint="give all its values at once, by comma")
    return tuple(found) or None


def parse_sweep(text: str) -> SweepAxis:
    """``learning_rate=1e-3,3e-3``.

    Raises:
        UserError: There is no setting, or its values are no different numbers.
    """
    name, _, values = text.partition("=")
    try:
        numbers = [_number(part) for part in values.split(",")]
    except ValueError as error:
        raise UserError(
            "this is no sweep", location=f"--sweep {text}", hint="write --sweep learning_rate=1e-3,3e-3,1e-2"
        ) from error
    return _axis(name.strip(), numbers, f"--sweep {text}")


def grid(cross: Sequence[SweepAxis], fields: Collection[str], fixed: Collection[str]) -> list[dict[str, Value]]:
    """Every combination of the values, by setting; one empty combination where no axis applies.

    Args:
        cross: The axes.
        fields: Settings that the method has.
        fixed: Those among them that define its variant.
    """
    able = [axis for axis in cross if axis.setting in fields and axis.setting not in fixed]
    return [
        dict(zip([axis.setting for axis in able], values, strict=True))
        for values in product(*(axis.values for axis in able))
    ]


def split_point(point: Mapping[str, Value]) -> tuple[dict[str, Value], dict[str, Value]]:
    """A combination's settings of the training core, without what they begin with, and the method's own."""
    core = {name.removeprefix(CORE): value for name, value in point.items() if name.startswith(CORE)}
    return core, {name: value for name, value in point.items() if not name.startswith(CORE)}


def training_overrides(settings: TrainingSettings, core: Mapping[str, Value]) -> dict[str, Any]:
    """What differs from the run's settings of the training core, as JSON has it.

    Raises:
        UserError: A value does not fit.
    """
    usual = settings.model_dump(mode="json")
    try:
        changed = TrainingSettings.model_validate({**usual, **core}).model_dump(mode="json")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(
            f"{first['input']!r} does not fit: {first['msg']}",
            location=f"--sweep {CORE}{first['loc'][0]}",
            hint="give another value",
        ) from error
    return {name: changed[name] for name in core if changed[name] != usual[name]}


def label(name: str, crossed: Mapping[str, Any]) -> str:
    """What a row is called: "name (data kore, learning_rate 0.003)"."""
    parts = {key: display_value(key, value) for key, value in crossed.items()}
    said = [f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in parts.items()]
    return f"{name} ({', '.join(said)})" if said else name


def display_value(setting: str, value: Any) -> Any:
    """A setting's value as a report may show it: training data by what identifies it, never by its path."""
    from methods.augmentation import datasets as choices

    return choices.identity(str(value)) if setting == DATA else value


def sweep_axis(cross: Sequence[SweepAxis], crossed: Mapping[str, Any]) -> str:
    """The setting along which a row is one point of a curve: the last that is swept; empty where none is."""
    swept = [axis.setting for axis in cross if axis.setting in crossed and axis.setting != DATA]
    return swept[-1] if swept else ""


def check(cross: Sequence[SweepAxis], fields: Iterable[Collection[str]]) -> None:
    """Refuse an axis that no chosen method has.

    Raises:
        UserError: It names the nearest setting.
    """
    known = {field for each in fields for field in each}
    for axis in cross:
        if known and axis.setting not in known:
            raise unknown("setting of any chosen method", axis.setting, known, where=axis_origin(axis.setting))


def _axis(name: str, values: Sequence[Value], where: str) -> SweepAxis:
    if not name or not all(value != "" for value in values) or len(set(values)) < len(values):
        raise UserError("a name and different values are needed", location=where, hint="give each value once, by comma")
    return SweepAxis(setting=name, values=tuple(values))


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value
