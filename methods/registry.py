"""Which methods there are: those of this package, those of installed packages, and a user's own file."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from benchmarks.errors import UserError

# A method registers itself when it is defined.
from methods import base, ewc, full_ft, kore, lora, lwf, moelora, o_lora, replay, sefe  # noqa: F401
from methods.base import InjectionMethod, Variant

GROUP = "harness.methods"
"""Entry points of this group name a module or a class that defines a method."""
ALL = "all"
"""Stands for every row that is worth one."""


@cache
def load_installed() -> tuple[UserError, ...]:
    """Import what installed packages offer under the entry point group, once in a process.

    Returns:
        What is wrong with those that do not load; the other methods are there all the same.
    """
    failed = []
    for entry in entry_points(group=GROUP):
        try:
            entry.load()
        except Exception as error:  # whatever a stranger's module raises, the user must learn whose it is
            failed.append(
                UserError(
                    f"the method does not load ({type(error).__name__}: {error})",
                    location=f"entry point {entry.name} = {entry.value}",
                    hint="mend or uninstall the package that declares it",
                )
            )
    return tuple(failed)


def load_file(path: Path) -> None:
    """Run a user's own Python file, which defines a method by subclassing ``InjectionMethod``.

    Raises:
        UserError: The file is missing, fails, or defines no method.
    """
    before = registered()
    # Two files of one name in two folders are two modules; the same file loaded again is the same one.
    place = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    spec = importlib.util.spec_from_file_location(f"plugin_{path.stem}_{place}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError("no Python file", location=str(path), hint="give the path of a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses and pydantic look up what annotations mean
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except Exception as error:  # a user's own code: say which file, keep the traceback as the cause
        raise UserError(
            f"the file fails ({type(error).__name__}: {error})", location=str(path), hint="mend it"
        ) from error
    after = registered()
    if after.keys() == before.keys() and spec.name not in {method.__module__ for method in after.values()}:
        raise UserError(
            "the file defines no method", location=str(path), hint="subclass InjectionMethod and set a name"
        )


def method_named(text: str) -> tuple[type[InjectionMethod], Variant | None]:
    """The method and variant behind "kore" or "kore:no-constraint".

    Raises:
        UserError: There is none of that name; the nearest is offered.
    """
    known = registered()
    name, colon, variant = text.partition(":")
    if name in known and not colon:
        return known[name], None
    if name in known and (found := known[name].variant(variant)):
        return known[name], found
    names = [row for method in known.values() for row in method.default_rows()]
    near = difflib.get_close_matches(text, names, n=1, cutoff=0.5) or difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    broken = "".join(f"; {error.location} does not load" for error in load_installed())
    hint = f"{hint}choose from {', '.join(names)}{broken}"
    raise UserError(f"no method is named {text!r}", location="--methods", hint=hint)


def expanded(names: Sequence[str]) -> list[str]:
    """Each name once, ``all`` replaced by every method and every variant worth a row."""
    rows = [row for method in registered().values() for row in method.default_rows()]
    return list(dict.fromkeys(row for name in names for row in (rows if name == ALL else [name])))


def registered() -> dict[str, type[InjectionMethod]]:
    """All methods by name, those of this package first, then those of installed packages."""
    load_installed()
    return dict(base.METHODS)
