"""Variants: named settings of a method that get a row of their own, one by one or as a family."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class SameAs:
    """A variant's value that is whatever another method's setting is in the run, from preset or command line."""

    method: str
    setting: str


def same_as(method: str, setting: str = "data") -> SameAs:
    """The value of a method's setting, for the controls that are compared with it."""
    return SameAs(method, setting)


@dataclasses.dataclass(frozen=True)
class Variant:
    """Named settings of a method that get a row of their own, selected as ``METHOD:VARIANT``."""

    settings: Mapping[str, Any]
    """Changes to the method's default settings; a value may be ``same_as`` another method's setting."""
    help: str
    transductive: bool = False
    """Whether it uses inputs of an evaluation benchmark; such a row is shown, but never ranked."""
    retune: tuple[str, ...] = ()
    """Settings whose meaning the variant changes: the method's own defaults and values tuned for it do not apply."""
    needs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Settings that a preset or the user must give, with values to try the variant with; ``all`` leaves it out."""

    def values(self, look_up: Callable[[SameAs], Any]) -> dict[str, Any]:
        """The settings, with the values that are the same as another method's looked up."""
        return {name: look_up(value) if isinstance(value, SameAs) else value for name, value in self.settings.items()}


@dataclasses.dataclass(frozen=True)
class VariantFamily:
    """Variants whose names share a prefix and end in a value: ``rank-64``, ``rank-256``, ...

    Args:
        prefix: Start of all names.
        placeholder: Stands for the value in a listing.
        field: The setting that takes the value.
        help: Description of such a variant; ``{}`` is replaced by the value.
        values: Regular expression that the whole value must match.
        parse: Converts the text of a value.
        examples: The values that ``--methods all-variants`` runs.
        transductive: As for a variant.
    """

    prefix: str
    placeholder: str
    field: str
    help: str
    values: str
    parse: Callable[[str], Any] = str
    examples: tuple[str, ...] = ()
    transductive: bool = False

    @property
    def name(self) -> str:
        """The family's name in a listing."""
        return f"{self.prefix}{self.placeholder}"

    def match(self, name: str) -> Variant | None:
        """The variant of this name, or None if the name does not belong to the family."""
        value = name.removeprefix(self.prefix)
        if value == name or not re.fullmatch(self.values, value):
            return None
        return Variant({self.field: self.parse(value)}, self.help.format(value), self.transductive)


@dataclasses.dataclass(frozen=True)
class Coefficient:
    """The setting, besides the learning rate, that trades adaptation against retention.

    Args:
        setting: Its name.
        grid: Values that ``tune`` tries; the default should be among them.
    """

    setting: str
    grid: tuple[float, ...]
