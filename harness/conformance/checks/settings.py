"""Checks of a method's settings, variants and coefficient."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from pydantic import TypeAdapter, ValidationError

from benchmarks.errors import UserError
from harness.conformance.registry import NotApplicable, check, require
from harness.conformance.scenarios import Scenarios
from methods.base import InjectionMethod
from methods.interfaces import MethodSettings


@check(
    "settings-are-fields",
    reason="Only fields of a frozen dataclass can be set, are recorded, and identify a result.",
    hint="Put @dataclasses.dataclass(frozen=True) above the Settings class, and a type after each setting's name.",
)
def settings_are_fields(seen: Scenarios) -> None:
    """A frozen dataclass in which every public name is a field."""
    kind = seen.subject.method.Settings
    require(issubclass(kind, MethodSettings), f"{kind.__name__} is no MethodSettings")
    fields = {field.name for field in dataclasses.fields(kind)}
    annotated = {
        name: str(type) for each in kind.__mro__ for name, type in vars(each).get("__annotations__", {}).items()
    }
    public = {name for name, type in annotated.items() if not name.startswith("_") and "ClassVar" not in type}
    require(public <= fields, f"{', '.join(sorted(public - fields))} of {kind.__name__} is no field")
    require(kind.__dataclass_params__.frozen, f"{kind.__name__} is not frozen")  # type: ignore[attr-defined]


@check(
    "settings-explained",
    reason="`list`, the presets and the report show what each setting means and where its value comes from.",
    hint="Make the field with `setting(default, help, source=...)` of methods.base; 'ours' is a source.",
)
def settings_explained(seen: Scenarios) -> None:
    """Help and source for each field."""
    for field in dataclasses.fields(seen.subject.method.Settings):
        require(field.metadata.get("help"), f"{field.name} has no help")
        require(field.metadata.get("source"), f"{field.name} has no source")


@check(
    "settings-round-trip",
    reason="Settings are stored as JSON beside each result, and read back to verify it.",
    hint="Use numbers, texts, booleans, None, and tuples of these.",
)
def settings_round_trip(seen: Scenarios) -> None:
    """To JSON and back gives the same."""
    made = seen.subject.as_asked()
    try:
        text = json.dumps(dataclasses.asdict(made), allow_nan=False)
        back = TypeAdapter(type(made)).validate_python(json.loads(text))
    except (TypeError, ValueError, ValidationError, UserError) as error:
        require(False, f"it cannot be read back: {str(error).splitlines()[0]}")
    else:
        require(back == made, f"{made} came back as {back}")


@check(
    "variant-differs",
    reason="A row of its own must be a run of its own.",
    hint="Give the variant a setting that is not the default, and a help text; or drop it.",
)
def variant_differs(seen: Scenarios) -> None:
    """A variant changes a setting and says what it is."""
    subject = seen.subject
    if not subject.variant:
        raise NotApplicable("it is no variant")
    found = subject.method.variant(subject.variant)
    require(found is not None and found.help, "it has no help text")
    require(subject.as_asked() != subject.method.Settings(), "its settings are the method's own")


@check(
    "coefficient-real",
    reason="`tune` searches the coefficient over the values that the method declares.",
    hint="Name a setting, and list at least three allowed values with the default among them.",
)
def coefficient_real(seen: Scenarios) -> None:
    """It names a setting, and its values are allowed."""
    method = seen.subject.method
    if method.coefficient is None:
        raise NotApplicable("it declares no coefficient")
    name, grid = method.coefficient.setting, method.coefficient.grid
    default = getattr(method.Settings(), name, None)
    require(default is not None, f"there is no setting {name!r}")
    require(default in grid and len(set(grid)) >= 3, f"{name} is {default} by default, and its values are {grid}")
    for value in grid:
        _allowed(method, name, value)


def _allowed(method: type[InjectionMethod], name: str, value: float) -> None:
    values: dict[str, Any] = {name: value}
    try:
        method.Settings(**values)
    except UserError as error:
        require(False, f"{name} = {value} is refused: {error.message}")
