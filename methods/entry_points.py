"""What installed packages add: methods, and families of models, each in a group of entry points."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from benchmarks.errors import UserError


@cache
def load_installed(group: str) -> tuple[UserError, ...]:
    """Import what installed packages declare in a group of entry points, once per process.

    Args:
        group: Of methods or of families; importing one registers it.

    Returns:
        One error for each entry point that does not load; the others are available all the same.
    """
    errors = []
    for entry in entry_points(group=group):
        try:
            entry.load()
        except Exception as error:  # another package's code may raise anything; the user must learn which package
            errors.append(
                UserError(
                    f"it does not load ({type(error).__name__}: {error})",
                    location=f"entry point {entry.name} = {entry.value}",
                    hint="fix or uninstall the package that declares it",
                )
            )
    return tuple(errors)
