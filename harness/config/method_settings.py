"""A method's settings, from preset, command line and variant, each value with its origin."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from benchmarks.errors import UserError
from harness.config.overrides import invalid_value, unknown_name
from harness.config.settings import CLI_SET, EVERY_METHOD, ResolvedSettings
from harness.config.sweep import axis_origin

if TYPE_CHECKING:
    from methods.base import MethodSettings, Variant


@dataclass(frozen=True)
class ResolvedMethodSettings:
    """A method's settings: an instance of its ``Settings`` class, and the origin of each field."""

    values: Any
    origins: Mapping[str, str]


def method_settings(
    resolved: ResolvedSettings, name: str, variant: str = "", crossed: Mapping[str, Any] = MappingProxyType({})
) -> ResolvedMethodSettings:
    """Resolve a method's settings.

    In rising precedence: class default, preset's ``*``, its ``method``, its ``method:variant``, ``--set``, crossed
    values, and the variant, because a row must be what its name says. Neither the method's own default nor a preset's
    value for the plain method applies to settings in the variant's ``retune``: they were chosen for something else.

    Args:
        resolved: The settings of the run.
        name: The method.
        variant: Its variant, if any.
        crossed: Values of ``--data`` and ``--sweep``.

    Raises:
        UserError: The method has no such field, its value is wrong, or the preset contradicts the variant.
    """
    from methods.base import Variant
    from methods.registry import registered

    method = registered()[name]
    chosen = method.get_variant(variant) or Variant({}, "")
    fields = {field.name for field in dataclasses.fields(method.Settings)}
    values: dict[str, Any] = _general_defaults(method.Settings, chosen.retune)
    origins: dict[str, str] = {}
    for from_cli in (False, True):
        for section in (EVERY_METHOD, name, f"{name}:{variant}"):
            for key, value in resolved.settings.methods.get(section, {}).items():
                origin = resolved.origin(f"methods.{section}.{key}")
                _check_field(section, key, fields, chosen, name)
                if key not in fields or (origin == CLI_SET) != from_cli:
                    continue
                if from_cli or section != name or key not in chosen.retune:
                    values[key], origins[key] = value, origin
    for key, value in crossed.items():
        values[key], origins[key] = value, axis_origin(key)
    for key, value in variant_settings(resolved, chosen).items():
        values[key], origins[key] = value, f"variant {variant}"
    try:
        validated = TypeAdapter(method.Settings).validate_python(values)
    except ValidationError as error:
        raise invalid_value(error, lambda field: f"methods.{name}.{field} ({origins.get(field, 'default')})") from error
    return ResolvedMethodSettings(validated, {field: origins.get(field, "default") for field in sorted(fields)})


def variant_settings(resolved: ResolvedSettings, variant: Variant) -> dict[str, Any]:
    """A variant's settings; what is the same as another method's has the value that this method has in the run.

    Raises:
        UserError: The other method's settings are wrong.
    """
    return variant.values(lambda same: getattr(method_settings(resolved, same.method).values, same.setting))


def _general_defaults(settings: type[MethodSettings], names: Iterable[str]) -> dict[str, Any]:
    """Defaults before the method's own: those of the settings class that its class extends."""
    bases = filter(dataclasses.is_dataclass, settings.__bases__)
    general = {field.name: field.default for base in bases for field in dataclasses.fields(base)}
    return {name: general[name] for name in names if name in general}


def _check_field(section: str, key: str, fields: set[str], variant: Variant, name: str) -> None:
    """Refuse a setting that the method does not have, or that the section's own variant defines."""
    if section == EVERY_METHOD:
        return
    if key not in fields:
        raise unknown_name(f"setting of {name}", key, fields, where=f"methods.{section}.{key}")
    if section != name and key in variant.settings:
        raise UserError(
            f"the variant itself defines {key}",
            location=f"methods.{section}.{key}",
            hint="leave it out, or set the method's",
        )
