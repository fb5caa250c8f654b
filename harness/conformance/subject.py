"""Who is being checked: a method or one of its variants, with settings that fit the tiny world."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from typing import Any

from benchmarks.errors import UserError
from methods.base import InjectionMethod
from methods.interfaces import MethodSettings

RANK = 8
"""Of the tiny model's 32 hidden coordinates."""
SAMPLES = 8
FASTER = 50
"""A few steps must show something, so learning rates are so many times larger."""


@dataclass(frozen=True)
class MethodUnderTest:
    """A method with settings that its variant changes; ``method`` need not be registered."""

    method: type[InjectionMethod]
    variant: str = ""

    @property
    def name(self) -> str:
        """As the user writes it."""
        return f"{self.method.name}:{self.variant}" if self.variant else self.method.name

    def as_asked(self) -> MethodSettings:
        """The settings as a user gets them, unchanged.

        Raises:
            UserError: The defaults of the method are refused by its own checks, or the variant sets what is no setting.
        """
        found = self.method.variant(self.variant) if self.variant else None
        changes = dict(found.settings) if found else {}
        known = [field.name for field in dataclasses.fields(self.method.Settings)]
        for name in changes.keys() - set(known):
            near = difflib.get_close_matches(name, known, n=1)
            raise UserError(
                f"the variant sets {name!r}, which is no setting",
                location=self.name,
                hint=f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}",
            )
        return self.method.Settings(**changes)

    def settings(self, **changes: Any) -> MethodSettings:
        """As asked, but small: rank, samples and epochs cut, learning rates raised, no dropout; then ``changes``."""
        asked = self.as_asked()
        small = {field.name: _small(field, getattr(asked, field.name)) for field in dataclasses.fields(asked)}
        return dataclasses.replace(asked, **{**small, **changes})

    def make(self, **changes: Any) -> InjectionMethod:
        """A fresh instance with small settings."""
        return self.method(self.settings(**changes))


def _small(field: dataclasses.Field[Any], value: Any) -> Any:
    limits = {"rank": RANK, "alpha": 2.0 * RANK, "projector_learning_rate": 1e-3, "dropout": 0.0}
    units = {"samples": SAMPLES, "epochs": 1}
    if field.name == "learning_rate":
        return min(FASTER * value, 1e-2)
    limit = limits.get(field.name, units.get(field.metadata.get("unit", "")))
    return value if limit is None else min(value, limit)
