"""The method or variant that is checked, with settings that suit a tiny model."""

from __future__ import annotations

import dataclasses
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.errors import UserError, suggest
from methods.base import InjectionMethod
from methods.interfaces import MethodSettings
from methods.registry import default_settings

RANK = 8
"""Largest rank; the tiny model's hidden size is 32."""
COMPONENTS = 4
"""Largest value of a setting that counts components of a layer; the smallest layer of a tiny model has as many."""
SAMPLES = 8
"""Largest value of a setting that counts samples."""
LAYERS = 1
"""Largest value of a setting that counts decoder layers; the tiny model has 2."""
STEPS = 2
"""Largest value of a setting that counts optimiser steps; the tiny model takes 4, and is killed after 2."""
MODEL = "model folder"
"""Unit of a setting that names a model's folder; a variant that needs one is checked with a tiny model's."""
LEARNING_RATE_FACTOR = 50
"""Learning rates are raised by this factor, so that a few steps have an effect."""


@dataclass(frozen=True)
class MethodUnderTest:
    """A method, registered or not, or one of its variants.

    Attributes:
        method: The method's class.
        variant: The variant's name; "" for the method itself.
        folder: Of the small model that it is checked on, of any family; None for a tiny LLaVA.
    """

    method: type[InjectionMethod]
    variant: str = ""
    folder: Path | None = None

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
        fields = dataclasses.fields(self.method.Settings)
        names = [field.name for field in fields]
        needed = variant.needs if variant else {}
        folders = (field.name for field in fields if field.name in needed and field.metadata.get("unit") == MODEL)
        values |= dict.fromkeys(folders, str(language_model_folder(self.folder)))
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
        if "rank" not in small or "rank" in changes:
            return dataclasses.replace(settings, **{**small, **changes})
        for rank in range(small["rank"], 1, -1):  # a method may accept the multiples of a number only
            with suppress(UserError):
                return dataclasses.replace(settings, **{**small, "rank": rank, **changes})
        return dataclasses.replace(settings, **{**small, **changes})

    def build(self, **changes: Any) -> InjectionMethod:
        """A new instance with small settings."""
        return self.method(self.small_settings(**changes))


def _small(field: dataclasses.Field[Any], value: Any) -> Any:
    if field.name == "learning_rate":
        return min(LEARNING_RATE_FACTOR * value, 1e-2)
    limits = {"rank": RANK, "alpha": 2.0 * RANK, "projector_learning_rate": 1e-3, "dropout": 0.0}
    limits_by_unit = {"samples": SAMPLES, "components": COMPONENTS, "layers": LAYERS, "steps": STEPS, "epochs": 1}
    limit = limits.get(field.name, limits_by_unit.get(field.metadata.get("unit", "")))
    return value if limit is None else min(value, limit)


@cache
def language_model_folder(model: Path | None) -> Path:
    """The folder of a model with the shapes of this one and other weights, which is deleted at the end."""
    from harness.conformance.tiny_model import write_other_weights, write_tiny_model

    folder = tempfile.TemporaryDirectory()
    _FOLDERS.append(folder)
    if model is None:
        return write_tiny_model(Path(folder.name), seed=1, tower_layers=1)
    return write_other_weights(model, Path(folder.name))


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []
"""Kept, since an object that is dropped deletes its folder."""
