"""Properties that are computed once, and fail the same way each time they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

from harness.conformance.registry import HookError, Inconclusive

T = TypeVar("T")


class ProbeHost:
    """Whoever has observed properties.

    Attributes:
        crashes: What hooks raised, each once, by the property that first met it.
        failures: Why a property cannot be computed, by its name.
    """

    def __init__(self) -> None:
        self.crashes: dict[str, HookError] = {}
        self._values: dict[str, Any] = {}
        self.failures: dict[str, Inconclusive] = {}

    def tried(self, *names: str) -> None:
        """Compute properties now, whether or not they fail."""
        for name in names:
            if name not in self.failures:
                try:
                    getattr(self, name)
                except Inconclusive as failure:
                    self.failures[name] = failure


class probe(Generic[T]):
    """A property that is computed once; where that is not possible, it raises the same ``Inconclusive`` each time."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute, self.__doc__ = compute, compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, seen: None, owner: type) -> probe[T]: ...

    @overload
    def __get__(self, seen: ProbeHost, owner: type) -> T: ...

    def __get__(self, seen: ProbeHost | None, owner: type) -> T | probe[T]:
        if seen is None:
            return self
        if self._name in seen.failures:
            raise seen.failures[self._name]
        if self._name not in seen._values:
            try:
                seen._values[self._name] = self._compute(seen)
            except Inconclusive as failure:
                seen.failures[self._name] = failure
                if isinstance(failure, HookError) and failure not in seen.crashes.values():
                    seen.crashes[self._name] = failure
                raise
        value: T = seen._values[self._name]
        return value
