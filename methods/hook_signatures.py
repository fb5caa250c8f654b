"""Checks made when a method class is defined: a misspelt, renamed or misshapen hook is refused at once."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping

from benchmarks.errors import UserError, suggest

RENAMED: Mapping[str, str] = {
    "go_on": "load_previous_stage",
    "after_training": "export_stage_state",
    "figures": "diagnostics",
    "our_reading": "interpretation",
    "known_exceptions": "expected_failures",
    "worth_a_row": "default_rows",
    "patterns": "variant_families",
    "variant": "get_variant",
    "adapter": "adapter_settings",
}
"""Hooks and attributes that had another name before the first release."""
SIMILARITY = 0.75
"""How similar a name must be to a hook's, from 0 to 1, to count as a misspelling of it."""


def unknown_hooks(subclass: type, base: type) -> Iterator[str]:
    """Public functions of ``subclass`` and its parents below ``base`` that override nothing, so nothing calls them."""
    known = set(dir(base))
    for parent in reversed(subclass.__mro__):
        if parent is not base and issubclass(parent, base):
            functions = (name for name, value in vars(parent).items() if inspect.isfunction(value))
            yield from (name for name in functions if name not in known and not name.startswith("_"))


def source_file(cls: type) -> str:
    """The file that defines a class, or its module's name if there is no file."""
    return getattr(sys.modules.get(cls.__module__), "__file__", None) or cls.__module__


def validate_subclass(subclass: type, base: type) -> None:
    """Refuse a new subclass with a hook that is renamed, misspelt or cannot be called as ``base`` defines it.

    Raises:
        UserError: It says what the hook is called, or with which arguments it is called.
    """
    inherited = {name for parent in subclass.__mro__[1:] for name in vars(parent) if not name.startswith("_")}
    for name, value in vars(subclass).items():
        if name.startswith("_"):
            continue
        if name in RENAMED:
            problem, hint = f"{name!r} is now called {RENAMED[name]!r}", "rename it"
        elif inspect.isfunction(vars(base).get(name)):
            problem, hint = _signature_problem(name, value, base), "methods/base.py says what each hook is given"
        elif name not in inherited and not name.isupper():
            hint = suggest(name, inherited, SIMILARITY)
            problem = f"{name!r} is not a hook; nothing would ever call it" if hint else ""
            hint += f"If it is a helper, call it '_{name}'"
        else:
            continue
        if problem:
            raise UserError(problem, location=f"{source_file(subclass)}, class {subclass.__qualname__}", hint=hint)


def _signature_problem(name: str, value: object, base: type) -> str:
    """Why ``value`` cannot be called like the hook ``name`` of ``base``; "" if it can."""
    if isinstance(value, classmethod | staticmethod | property) or not callable(value):
        return f"the hook {name!r} must be a plain function of the class"
    parameters = inspect.signature(getattr(base, name)).parameters
    try:
        inspect.signature(value).bind(*parameters)
    except TypeError as error:
        return f"the hook {name!r} is called with {', '.join(parameters)}, which does not fit: {error}"
    return ""
