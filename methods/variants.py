"""Variants of a method: named settings that are worth a row of their own, one by one or as a family."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Variant:
    """Named settings of a method that are worth a row of their own."""

    settings: Mapping[str, Any]
    help: str
    transductive: bool = False
    """Uses inputs of an evaluation benchmark; shown, never ranked."""
    retune: tuple[str, ...] = ()
    """Settings whose meaning the variant changes: a value that was tuned for the method does not hold for it."""


@dataclasses.dataclass(frozen=True)
class VariantFamily:
    """A family of variants, told apart by the end of their names: ``rank-64``, ``rank-256``, ...

    Args:
        prefix: What all names begin with.
        placeholder: Stands for the rest in a listing.
        field: The setting that takes the rest as its value.
        help: What such a variant is; ``{}`` is the value.
        values: Full-match pattern of the rest.
        parse: From the rest to the value.
        examples: The few that ``--methods all`` runs.
        transductive: As a variant's.
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
        """As a listing shows it."""
        return f"{self.prefix}{self.placeholder}"

    def variant(self, name: str) -> Variant | None:
        """The member of this name, or None."""
        value = name.removeprefix(self.prefix)
        if value == name or not re.fullmatch(self.values, value):
            return None
        return Variant({self.field: self.parse(value)}, self.help.format(value), self.transductive)


@dataclasses.dataclass(frozen=True)
class Coefficient:
    """The setting, besides the learning rate, that decides how a method trades learning against keeping.

    Args:
        setting: Its name.
        grid: Values worth trying, the default among them; ``tune`` tries them.
    """

    setting: str
    grid: tuple[float, ...]
