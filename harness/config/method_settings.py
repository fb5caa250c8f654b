"""A method's settings, from preset, command line and variant, each value with its origin."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from benchmarks.errors import UserError
from harness.config.overrides import unknown
from harness.config.settings import CLI_SET, EVERY_METHOD, ResolvedSettings
from harness.config.sweep import axis_origin

if TYPE_CHECKING:
    from methods.base import Variant


@dataclass(frozen=True)
class ResolvedMethodSettings:
    """A method's resolved settings: an instance of its ``Settings`` class, and the origin of each field."""

    values: Any
    origins: Mapping[str, str]


def method_settings(
    resolved: ResolvedSettings, name: str, variant: str = "", crossed: Mapping[str, Any] = MappingProxyType({})
) -> ResolvedMethodSettings:
    """Class default < preset's ``*`` < its ``method`` < its ``method:variant`` < ``--set`` < crossed < the variant.

    The variant comes last: what a row is called must be true of it. Where a variant changes what a setting means (its
    ``retune``), the preset's value for the plain method, tuned for that, is passed over.

    Args:
        resolved: The settings of the run.
        name: The method.
        variant: Its variant, if any.
        crossed: Values of ``--data`` and ``--sweep``.

    Raises:
        UserError: A field is unknown to the method, its value is wrong, or the preset contradicts the variant.
    """
    from methods.base import Variant
    from methods.registry import registered

    method = registered()[name]
    chosen = method.variant(variant) or Variant({}, "")
    fields = {field.name for field in dataclasses.fields(method.Settings)}
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for by_hand in (False, True):
        for section in (EVERY_METHOD, name, f"{name}:{variant}"):
            for key, value in resolved.settings.methods.get(section, {}).items():
                origin = resolved.origin(f"methods.{section}.{key}")
                _check_field(section, key, fields, chosen, name)
                if key not in fields or (origin == CLI_SET) != by_hand:
                    continue
                if by_hand or section != name or key not in chosen.retune:
                    values[key], origins[key] = value, origin
    for origin, last in (("", crossed), (f"variant {variant}", chosen.settings)):
        values |= last
        origins |= {key: origin or axis_origin(key) for key in last}
    try:
        made = TypeAdapter(method.Settings).validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{first['input']!r} does not fit: {first['msg']}",
            location=f"methods.{name}.{field} ({origins.get(field, 'default')})",
            hint="give another value",
        ) from error
    return ResolvedMethodSettings(made, {field: origins.get(field, "default") for field in sorted(fields)})


def _check_field(section: str, key: str, fields: set[str], variant: Variant, name: str) -> None:
    """Refuse a setting that the method does not have, or that the section's own variant decides."""
    if section == EVERY_METHOD:
        return
    if key not in fields:
        raise unknown(f"setting of {name}", key, fields, where=f"methods.{section}.{key}")
    if section != name and key in variant.settings:
        raise UserError(
            f"the variant itself says {key}",
            location=f"methods.{section}.{key}",
            hint="leave it out, or set the method's",
        )
