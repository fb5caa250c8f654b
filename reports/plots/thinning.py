"""Few points out of many, where more could not be told apart."""

from __future__ import annotations


def subsample(count: int, most: int) -> list[int]:
    """At most ``most`` numbers out of ``range(count)``, evenly apart, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [round(place * (count - 1) / (most - 1)) for place in range(most)]
