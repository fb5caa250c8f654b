"""Benchmark harness for knowledge injection into large multimodal models.

    from harness import compare, load_run, Preset

Importing this package is quick: torch and the rest are imported when they are needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.storage.provenance import VERSION as __version__  # noqa: F401

if TYPE_CHECKING:
    from harness.commands.api import Preset as Preset
    from harness.commands.api import RunResult as RunResult
    from harness.commands.api import compare as compare
    from harness.commands.api import load_run as load_run
    from harness.config.answerers import Answerers as Answerers

__all__ = ["Answerers", "Preset", "RunResult", "compare", "load_run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from harness.commands import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
