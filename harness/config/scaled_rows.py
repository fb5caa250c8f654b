"""Rows that reuse another row's adapter with its update scaled: ``lora:scaled-0.5``, ``kore:rank-64:scaled-0.75``."""

from __future__ import annotations

import math

from benchmarks.errors import UserError

MARK = ":scaled-"
"""What stands between a row and the factor of its update."""


def split_scaled(name: str) -> tuple[str, float | None]:
    """The row whose adapter a name means, and the factor of its update; None for the row itself.

    Raises:
        UserError: The factor is not a number above 0.
    """
    row, mark, text = name.rpartition(MARK)
    if not mark:
        return name, None
    try:
        factor = float(text)
    except ValueError:
        factor = math.nan
    if not 0 <= factor < math.inf:
        hint = f"write it like {row}{MARK}0.5"
        raise UserError("the factor of an update must be a number above 0", location=f"--methods {name}", hint=hint)
    if factor == 0:
        hint = "leave it out: vanilla is that row"
        raise UserError("scaled to 0, it changes no logit", location=f"--methods {name}", hint=hint)
    return row, factor


def refuse_scaled(name: str, location: str) -> None:
    """Refuse a row without a training of its own where a method's own settings or code are asked for.

    Raises:
        UserError: It is a scaled row.
    """
    row, factor = split_scaled(name)
    if factor is not None:
        problem = f"{name} is the trained update of {row} times {factor:g}, and has no training of its own"
        raise UserError(problem, location=location, hint=f"name {row} instead")
