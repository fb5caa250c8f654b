"""A rank given as ``parity:ROW``: the one at which a method trains as many parameters as that row."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmarks.errors import UserError

if TYPE_CHECKING:
    from methods.base import InjectionMethod, LinearShapes

RANK = "rank"
"""The setting that may be given so."""
PREFIX = "parity:"
Layers = Callable[[], "LinearShapes"]
"""Returns the shapes of the decoder's linear layers; called only where a rank needs them."""


def reference_row(rank: object) -> str:
    """The row that ``parity:ROW`` names; empty for every other value."""
    return rank.removeprefix(PREFIX) if isinstance(rank, str) and rank.startswith(PREFIX) else ""


def no_layers() -> LinearShapes:
    """Stands for the layers where a rank has to be a number.

    Raises:
        UserError: Always.
    """
    raise UserError(
        f"a rank by {PREFIX}ROW cannot be resolved here: the model is not known",
        location=RANK,
        hint="give the rank as a number",
    )


def refuse_chain(row: str, location: str) -> Layers:
    """Stands for the layers where the rank of a row that ``parity:ROW`` names is resolved: it has to be a number."""

    def refuse() -> LinearShapes:
        raise UserError(
            f"{PREFIX}{row}: {row}'s own rank is given by parity",
            location=location,
            hint="name a row whose rank is a number",
        )

    return refuse


def equal_rank(make: Callable[[int], InjectionMethod], reference: InjectionMethod, layers: LinearShapes) -> int:
    """The rank at which an adapter's size is nearest to the reference's; the smaller of two equally near.

    Args:
        make: The method at a rank; a UserError says that it does not accept this rank.
        reference: The method that is matched.
        layers: Of the decoder; those that the method adapts have both d_in and d_out of at least the rank.

    Raises:
        UserError: One of the two has no adapter, its targets are no layers of the model, or no rank is accepted.
    """
    wanted = _size(reference, layers)
    distances: dict[int, int] = {}
    refused: UserError | None = None
    for rank in range(1, max(map(min, layers)) + 1):
        try:
            method = make(rank)
            if rank > min(map(min, method.adapted(layers))):
                break
            size = _size(method, layers)
        except UserError as error:  # such as a rank that a number of experts does not divide
            refused = error
            continue
        distances[rank] = abs(size - wanted)
        if size >= wanted:
            break
    if not distances:
        raise refused or UserError("no rank fits the model", location=RANK, hint="give the rank as a number")
    return min(distances, key=lambda rank: distances[rank])


def _size(method: InjectionMethod, layers: LinearShapes) -> int:
    if not hasattr(method.settings, RANK):
        raise UserError(
            f"{method.name} has no rank, so {PREFIX}{method.name} says nothing", location=RANK, hint="name another row"
        )
    return method.adapter_parameters(method.adapted(layers))
