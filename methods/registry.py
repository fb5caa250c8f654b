"""All methods by name: those of this package, those of installed packages, and those in a user's own file."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.errors import UserError, suggest

# Importing a method registers it.
from methods import (  # noqa: F401
    adept,
    astra,
    base,
    co_svd,
    corda,
    ewc,
    full_ft,
    golden_context,
    in_context,
    kore,
    lapael,
    lora,
    lora_null,
    lwf,
    memit,
    moelora,
    nusa_cl,
    o_lora,
    oft,
    oplora,
    osf,
    replay,
    retrieval,
    sdft,
    sefe,
    sr_ki,
    thanora,
)
from methods.base import InjectionMethod, Variant
from methods.entry_points import load_installed
from methods.external import EXTERNAL

logger = logging.getLogger(__name__)

GROUP = "harness.methods"
"""Entry points of this group name a module or a class that defines a method."""
ALL = "all"
"""Stands for every method, without its variants."""
ALL_VARIANTS = "all-variants"
"""Stands for every default row of every method."""
PAPER = "paper"
PAPER_ROWS = (
    *("kore", "full-ft", "lora", "replay", "ewc", "lwf", "moelora", "o-lora", "sefe"),
    *("kore:no-augmentation", "kore:no-constraint", "kore:unfrozen-a", "kore:random-subspace", "kore:top-subspace"),
    *("kore:rank-64", "kore:rank-128", "kore:constraint-MME"),
    *("lora:kore-data", "lora:equal-steps", "lora:scaled-0.5"),
)
"""The rows that the KORE paper's claims and the controls beside them are about; ``paper`` stands for them."""


def registered() -> dict[str, type[InjectionMethod]]:
    """All methods by name, those of this package first, then those of installed packages."""
    load_installed(GROUP)
    return dict(base.METHODS)


def get_method(text: str, location: str = "--methods") -> tuple[type[InjectionMethod], Variant | None]:
    """The method and the variant behind a name such as "kore" or "kore:no-constraint".

    Args:
        text: The name.
        location: Where it was given, for the error.

    Raises:
        UserError: There is no such method or variant; the hint suggests the closest name.
    """
    methods = registered()
    name, colon, variant_name = text.partition(":")
    if name in methods and not colon:
        return methods[name], None
    if name in methods and (variant := methods[name].get_variant(variant_name)):
        return methods[name], variant
    broken = "".join(f"; {error.location} does not load" for error in load_installed(GROUP))
    raise UserError(f"no method is named {text!r}", location=location, hint=f"{_names_hint(text, methods)}{broken}")


def _names_hint(text: str, methods: Mapping[str, type[InjectionMethod]]) -> str:
    """What to write in place of a name that does not exist: a variant of its method, the closest row, or any method."""
    name = text.partition(":")[0]
    if " " in text.strip():
        return "separate names by commas"
    if name in methods:
        rows = list(methods[name].row_names())
        return f"{suggest(text, [row for row in rows if row != name])}choose from {', '.join(rows)}"
    rows = [row for method in methods.values() for row in method.row_names()]
    closest = suggest(text, rows) or suggest(name, methods)
    return f"{closest}`python -m harness list` shows all" if closest else f"choose from {', '.join(rows)}"


def get_class(name: str) -> type[InjectionMethod]:
    """The class of a method by name, also of the kinds of rows that were trained elsewhere.

    Raises:
        KeyError: There is none.
    """
    external = {kind.name: kind for kind in EXTERNAL.values()}
    return external.get(name) or registered()[name]


def default_settings(variant: Variant) -> dict[str, Any]:
    """A variant's settings where nothing else is set: what is the same as another method's has that one's default.

    What the variant needs has the value that it gives to be tried with.
    """
    complete = {**variant.needs, **variant.settings}
    return dataclasses.replace(variant, settings=complete).values(
        lambda same: getattr(registered()[same.method].Settings(), same.setting)
    )


def expand_names(names: Sequence[str]) -> list[str]:
    """Each name once, with ``all`` replaced by every method, and ``all-variants`` and ``paper`` by their rows."""
    methods = registered()
    every_row = [row for method in methods.values() for row in method.default_rows()]
    groups = {ALL: methods, ALL_VARIANTS: every_row, PAPER: PAPER_ROWS}
    return list(dict.fromkeys(row for name in names for row in groups.get(name, [name])))


def load_plugins(files: Iterable[str | Path]) -> tuple[Path, ...]:
    """Load the methods of files and of installed packages; a package that does not load is a warning.

    Returns:
        The files' paths.

    Raises:
        UserError: A file is missing, fails, or defines neither a method nor a family of models.
    """
    paths = tuple(Path(file) for file in files)
    for path in paths:
        load_file(path)
    for error in load_installed(GROUP):
        logger.warning("%s", error)
    return paths


def load_file(path: Path) -> None:
    """Run a user's Python file that defines a method, or a family of models (``harness.models.base``).

    Raises:
        UserError: The file is missing, fails, or defines neither.
    """
    before = registered()
    # Files with the same name in two folders are two modules; the same file loaded again is the same module.
    suffix = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]
    spec = importlib.util.spec_from_file_location(f"plugin_{path.stem}_{suffix}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError("no Python file", location=str(path), hint="give the path of a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pydantic look up annotations there
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except Exception as error:  # a user's code may raise anything: name the file, keep the traceback as the cause
        raise UserError(
            f"the file fails ({type(error).__name__}: {error})", location=str(path), hint="fix the file"
        ) from error
    after = registered()
    if after.keys() == before.keys() and not _defines_something(module, after.values()):
        raise UserError(
            "the file defines neither a method nor a family of models",
            location=str(path),
            hint="subclass InjectionMethod and set a name, or LanguageVisionModel and set an architecture",
        )


def _defines_something(module: ModuleType, methods: Iterable[type[InjectionMethod]]) -> bool:
    """Whether a method is from this module, or a class of it names the architecture of models that it serves."""
    classes = [each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module.__name__]
    return any(method.__module__ == module.__name__ for method in methods) or any(
        vars(each).get("architecture") for each in classes
    )
