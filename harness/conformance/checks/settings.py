"""Checks of a method's settings, variants and coefficient."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from pydantic import TypeAdapter, ValidationError

from benchmarks.errors import UserError, first_line
from harness.conformance.errors import NotApplicable
from harness.conformance.registry import check, require
from harness.conformance.scenarios import Scenarios
from methods.interfaces import MethodSettings


@check(
    reason="Only fields of a frozen dataclass can be set, are recorded, and identify a result.",
    hint="Decorate the Settings class with @dataclasses.dataclass(frozen=True), and annotate each setting.",
)
def check_settings_are_fields(scenarios: Scenarios) -> None:
    """The settings are a frozen dataclass in which every public name is a field."""
    settings = scenarios.subject.method.Settings
    name = settings.__name__
    require(issubclass(settings, MethodSettings), f"{name} is not a subclass of MethodSettings")
    fields = {field.name for field in dataclasses.fields(settings)}
    annotated = {
        name: str(type) for parent in settings.__mro__ for name, type in vars(parent).get("__annotations__", {}).items()
    }
    public = {name for name, type in annotated.items() if not name.startswith("_") and "ClassVar" not in type}
    require(public <= fields, f"{', '.join(sorted(public - fields))} of {name} is not a field")
    require(settings.__dataclass_params__.frozen, f"{name} is not frozen")  # type: ignore[attr-defined]


@check(
    reason="`list`, the presets and the report show what each setting means and where its value comes from.",
    hint="Declare each field with `setting(default, help, source=...)` of methods.base; 'ours' is a valid source.",
)
def check_settings_documented(scenarios: Scenarios) -> None:
    """Each field has a help text and a source."""
    for field in dataclasses.fields(scenarios.subject.method.Settings):
        require(field.metadata.get("help"), f"{field.name} has no help")
        require(field.metadata.get("source"), f"{field.name} has no source")


@check(
    reason="Settings are stored as JSON with each result, and read back to verify it.",
    hint="Use numbers, strings, booleans, None, and tuples of these.",
)
def check_settings_json_round_trip(scenarios: Scenarios) -> None:
    """Settings written to JSON and read back are equal."""
    settings = scenarios.subject.user_settings()
    try:
        text = json.dumps(dataclasses.asdict(settings), allow_nan=False)
        read_back = TypeAdapter(type(settings)).validate_python(json.loads(text))
    except (TypeError, ValueError, ValidationError, UserError) as error:
        require(False, f"they cannot be read back: {first_line(error)}")
    else:
        require(read_back == settings, f"{settings} is read back as {read_back}")


@check(
    reason="A row of its own in a table must be a different run.",
    hint="Give the variant a value that is not the default, and a help text; or remove it.",
)
def check_variant_differs(scenarios: Scenarios) -> None:
    """A variant changes a setting and has a help text."""
    subject = scenarios.subject
    if not subject.variant:
        raise NotApplicable("it is not a variant")
    variant = subject.method.get_variant(subject.variant)
    require(variant is not None and variant.help, "it has no help text")
    require(subject.user_settings() != subject.method.Settings(), "its settings are the method's defaults")


@check(
    reason="`tune` searches the coefficient over the values that the method declares.",
    hint="Name a setting, and list at least three allowed values with the default among them.",
)
def check_coefficient(scenarios: Scenarios) -> None:
    """The coefficient names a setting, and the setting accepts the declared values."""
    method = scenarios.subject.method
    if method.coefficient is None:
        raise NotApplicable("it declares no coefficient")
    name, grid = method.coefficient.setting, method.coefficient.grid
    default = getattr(method.Settings(), name, None)
    require(default is not None, f"there is no setting {name!r}")
    require(default in grid and len(set(grid)) >= 3, f"the default of {name} is {default}, and its values are {grid}")
    for value in grid:
        values: dict[str, Any] = {name: value}
        try:
            method.Settings(**values)
        except UserError as error:
            require(False, f"{name} = {value} is refused: {error.message}")
