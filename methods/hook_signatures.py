"""What a class may override: a misspelt or misshapen hook is refused when the class is defined, not found out later."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Iterator

from benchmarks.errors import UserError

NEAR = 0.75
"""How alike two names must be, from 0 to 1, for one to be taken as the other misspelt."""


def hooks_of(base: type) -> tuple[str, ...]:
    """The methods of the class that subclasses may override, in the order of their definition."""
    return tuple(name for name, value in vars(base).items() if inspect.isfunction(value) and not name.startswith("_"))


def unknown_hooks(kind: type, base: type) -> Iterator[str]:
    """Public functions of ``kind`` and its bases below ``base`` that override nothing: nobody calls them."""
    known = set(dir(base))
    for each in reversed(kind.__mro__):
        if each is not base and issubclass(each, base):
            own = (name for name, value in vars(each).items() if inspect.isfunction(value))
            yield from (name for name in own if name not in known and not name.startswith("_"))


def origin(kind: type) -> str:
    """The file that a class was defined in, or its module where that has none."""
    return getattr(sys.modules.get(kind.__module__), "__file__", None) or kind.__module__


def validate_subclass(kind: type, base: type) -> None:
    """Refuse a class whose own names are nearly, but not quite, those that ``base`` gives a meaning to.

    Args:
        kind: The class just defined.
        base: The class that defines the hooks.

    Raises:
        UserError: A name is misspelt, or a hook is no function or takes other arguments.
    """
    hooks, inherited = hooks_of(base), {name for each in kind.__mro__[1:] for name in vars(each)}
    for name, value in vars(kind).items():
        if name.startswith("_"):
            continue
        if name in hooks:
            _check_shape(kind, name, value, base)
        elif name not in inherited:
            _check_name(kind, name, [known for known in inherited if not known.startswith("_")])


def _check_name(kind: type, name: str, known: list[str]) -> None:
    near = difflib.get_close_matches(name, known, n=1, cutoff=NEAR)
    if near:
        raise UserError(
            f"{name!r} is no hook; nothing would ever call it",
            location=f"{origin(kind)}, class {kind.__qualname__}",
            hint=f"did you mean {near[0]!r}? If it is a helper of your own, call it '_{name}'",
        )


def _check_shape(kind: type, name: str, value: object, base: type) -> None:
    if isinstance(value, classmethod | staticmethod | property) or not callable(value):
        problem = f"the hook {name!r} must be a plain function of the class"
    else:
        wanted = inspect.signature(getattr(base, name))
        try:
            inspect.signature(value).bind(*wanted.parameters)
            return
        except TypeError as error:
            problem = f"the hook {name!r} is called with {', '.join(wanted.parameters)}, which does not fit: {error}"
    raise UserError(
        problem,
        location=f"{origin(kind)}, class {kind.__qualname__}",
        hint="see methods/base.py for what each hook is given",
    )
