"""A method's settings, from preset, command line and variant, each value with its origin."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from benchmarks.errors import UserError
from harness.config.overrides import flatten, unknown_name
from harness.config.parity import PREFIX, RANK, Layers, equal_rank, no_layers, reference_row, refuse_chain
from harness.config.settings import CLI_SET, EVERY_METHOD, ResolvedSettings
from harness.config.sweep import TRAINING_FIELDS, TRAINING_PREFIX, axis_origin, split_point, training_overrides
from harness.config.value_errors import invalid_value

if TYPE_CHECKING:
    from methods.base import InjectionMethod, MethodSettings, Variant

TARGETS = "targets"
"""The setting that names the layers which an adapter changes."""


@dataclass(frozen=True)
class ResolvedMethodSettings:
    """A method's settings, and those of the training loop that are its own.

    Args:
        values: An instance of its ``Settings`` class.
        origins: The origin of each field.
        training: Settings of the training loop that differ from the run's, as JSON values.
        training_origins: The origin of each that is given for the method, whether or not it differs.
    """

    values: Any
    origins: Mapping[str, str]
    training: Mapping[str, Any] = field(default_factory=dict)
    training_origins: Mapping[str, str] = field(default_factory=dict)


def method_settings(
    resolved: ResolvedSettings,
    name: str,
    variant: str = "",
    crossed: Mapping[str, Any] = MappingProxyType({}),
    layers: Layers = no_layers,
) -> ResolvedMethodSettings:
    """Resolve a method's settings, and below ``training`` its own values for the training loop.

    In rising precedence: class default, preset's ``*``, its ``method``, its ``method:variant``, ``--set``, crossed
    values, and the variant, because a row must be what its name says. Neither the method's own default nor a preset's
    value for the plain method applies to settings in the variant's ``retune``: they were chosen for something else.
    ``--set training.epochs`` overrides a preset's ``methods.lora.training.epochs``, as it does the preset's own.

    Args:
        resolved: The settings of the run.
        name: The method.
        variant: Its variant, if any.
        crossed: Values of ``--data`` and ``--sweep``.
        layers: Of the run's model; called if the rank is given as ``parity:ROW``.

    Raises:
        UserError: There is no such setting, its value is wrong, or the preset contradicts the variant.
    """
    from methods.base import Variant
    from methods.registry import registered

    method = registered()[name]
    chosen = method.get_variant(variant) or Variant({}, "")
    own = {each.name for each in dataclasses.fields(method.Settings)}
    given = _configured(resolved, name, variant, chosen, own | TRAINING_FIELDS)
    given |= {key: (value, axis_origin(key)) for key, value in crossed.items()}
    given |= {key: (value, f"variant {variant}") for key, value in variant_settings(resolved, chosen, layers).items()}
    origins = {key: origin for key, (_, origin) in given.items()}
    values = _general_defaults(method.Settings, chosen.retune) | {key: value for key, (value, _) in given.items()}
    training, settings = split_point(values)

    def locate(field: str) -> str:
        return f"methods.{name}.{field} ({origins.get(field, 'default')})"

    adapter = TypeAdapter(method.Settings)  # made once, since a search tries hundreds of ranks

    def validate(**changes: Any) -> Any:
        try:
            return adapter.validate_python({**settings, **changes})
        except ValidationError as error:
            raise invalid_value(error, method.Settings, locate) from error
        except UserError as error:
            raise _located(error, locate) from error

    if row := reference_row(settings.get(RANK)):
        reference = partial(_row_without_parity, resolved, row, locate(RANK), crossed)
        settings[RANK] = _rank_by_parity(reference, lambda rank: method(validate(rank=rank)), layers, locate(RANK))
        origins[RANK] += f", {PREFIX}{row}"
    return ResolvedMethodSettings(
        validate(),
        {key: origins.get(key, "default") for key in sorted(own)},
        training_overrides(resolved.settings.training, training, locate),
        {field: origins[f"{TRAINING_PREFIX}{field}"] for field in training},
    )


def _located(error: UserError, locate: Callable[[str], str]) -> UserError:
    """An error about a method's setting, such as of a rule over several, with the place where it was given."""
    from methods.interfaces import SETTING

    if not error.location.startswith(SETTING):
        return error
    return UserError(error.message, location=locate(error.location.removeprefix(SETTING)), hint=error.hint)


def _configured(
    resolved: ResolvedSettings, name: str, variant: str, chosen: Variant, fields: set[str]
) -> dict[str, tuple[Any, str]]:
    """Value and origin of each of the fields that preset and ``--set`` give to a row.

    Raises:
        UserError: They give something that is no field, or that the variant itself defines.
    """
    configured = {}
    for section, key, value, origin in _given(resolved, (EVERY_METHOD, name, f"{name}:{variant}")):
        _check_field(section, key, fields, chosen, name)
        if key in fields and (origin == CLI_SET or section != name or key not in chosen.retune):
            configured[key] = value, origin
    return configured


def _given(resolved: ResolvedSettings, sections: Sequence[str]) -> list[tuple[str, str, Any, str]]:
    """Section, setting, value and origin of all that is given in the sections, in rising precedence."""
    found = [
        (section, key, value, resolved.origin(f"methods.{section}.{key}"))
        for section in sections
        for key, value in flatten(resolved.settings.methods.get(section, {})).items()
    ]
    overridden = {key for key in TRAINING_FIELDS if resolved.origin(key) == CLI_SET}
    preset = [each for each in found if each[3] != CLI_SET and each[1] not in overridden]
    return preset + [each for each in found if each[3] == CLI_SET]


def _rank_by_parity(
    reference: Callable[[], InjectionMethod], make: Callable[[int], InjectionMethod], layers: Layers, location: str
) -> int:
    """The rank that ``parity:ROW`` stands for; an error names the ``location`` where it was given."""
    try:
        shapes = layers()  # first, since it refuses a reference whose own rank is given so
        return equal_rank(make, reference(), shapes)
    except UserError as error:
        place = location if error.location == RANK else error.location
        raise UserError(error.message, location=place, hint=error.hint) from error


def _row_without_parity(
    resolved: ResolvedSettings, row: str, location: str, crossed: Mapping[str, Any]
) -> InjectionMethod:
    """The method of a row whose rank, if it has one, must be a number; ``location`` is where the row is named.

    It has the swept ``targets`` of the row that is matched with it: with fewer layers, both have fewer.
    """
    from methods.registry import get_method

    method, _ = get_method(row, location)
    own = {each.name for each in dataclasses.fields(method.Settings)}
    shared = {key: value for key, value in crossed.items() if key == TARGETS and key in own}
    layers = refuse_chain(row, location)
    return method(method_settings(resolved, method.name, row.partition(":")[2], shared, layers).values)


def variant_settings(resolved: ResolvedSettings, variant: Variant, layers: Layers = no_layers) -> dict[str, Any]:
    """A variant's settings; what is the same as another method's has the value that this method has in the run.

    Raises:
        UserError: The other method's settings are wrong.
    """
    return variant.values(
        lambda same: getattr(method_settings(resolved, same.method, layers=layers).values, same.setting)
    )


def _general_defaults(settings: type[MethodSettings], names: Iterable[str]) -> dict[str, Any]:
    """Defaults before the method's own: those of the settings class that its class extends."""
    bases = filter(dataclasses.is_dataclass, settings.__bases__)
    general = {field.name: field.default for base in bases for field in dataclasses.fields(base)}
    return {name: general[name] for name in names if name in general}


def _check_field(section: str, key: str, fields: set[str], variant: Variant, name: str) -> None:
    """Refuse a setting that the method does not have, or that the section's own variant defines."""
    if section == EVERY_METHOD and not key.startswith(TRAINING_PREFIX):
        return
    if key not in fields:
        raise unknown_name(f"setting of {name}", key, fields, where=f"methods.{section}.{key}")
    if section != name and key in variant.settings:
        raise UserError(
            f"the variant itself defines {key}",
            location=f"methods.{section}.{key}",
            hint="leave it out, or set the method's",
        )
