"""The method or variant that is checked, with settings that suit a tiny model."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from benchmarks.errors import UserError, suggest
from methods.base import InjectionMethod
from methods.interfaces import MethodSettings
from methods.registry import default_settings

RANK = 8
"""Largest rank; the tiny model's hidden size is 32."""
SAMPLES = 8
"""Largest value of a setting that counts samples."""
LEARNING_RATE_FACTOR = 50
"""Learning rates are raised by this factor, so that a few steps have an effect."""


@dataclass(frozen=True)
class MethodUnderTest:
    """A method, registered or not, or one of its variants."""

    method: type[InjectionMethod]
    variant: str = ""

    @property
    def name(self) -> str:
        """As written in ``--methods``."""
        return f"{self.method.name}:{self.variant}" if self.variant else self.method.name

    def user_settings(self) -> MethodSettings:
        """The settings that a user gets.

        Raises:
            UserError: The method refuses its own defaults, or the variant sets something that is not a setting.
        """
        variant = self.method.get_variant(self.variant) if self.variant else None
        values = default_settings(variant) if variant else {}
        names = [field.name for field in dataclasses.fields(self.method.Settings)]
        for name in values.keys() - set(names):
            raise UserError(
                f"the variant sets {name!r}, which is not a setting",
                location=self.name,
                hint=suggest(name, names).rstrip() or f"choose from {', '.join(names)}",
            )
        return self.method.Settings(**values)

    def small_settings(self, **changes: Any) -> MethodSettings:
        """The user's settings, reduced to suit the tiny model and a few steps, with ``changes``."""
        settings = self.user_settings()
        small = {field.name: _small(field, getattr(settings, field.name)) for field in dataclasses.fields(settings)}
        return dataclasses.replace(settings, **{**small, **changes})

    def build(self, **changes: Any) -> InjectionMethod:
        """A new instance with small settings."""
        return self.method(self.small_settings(**changes))


def _small(field: dataclasses.Field[Any], value: Any) -> Any:
    if field.name == "learning_rate":
        return min(LEARNING_RATE_FACTOR * value, 1e-2)
    limits = {"rank": RANK, "alpha": 2.0 * RANK, "projector_learning_rate": 1e-3, "dropout": 0.0}
    limits_by_unit = {"samples": SAMPLES, "epochs": 1}
    limit = limits.get(field.name, limits_by_unit.get(field.metadata.get("unit", "")))
    return value if limit is None else min(value, limit)
