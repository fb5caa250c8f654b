"""What made a number besides its code: the library versions and the machine."""

from __future__ import annotations

import platform
from functools import cache
from importlib import metadata
from pathlib import Path

VERSION = "0.3.0"
"""Of this program."""
LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "tokenizers",
    "safetensors",
    "numpy",
    "pillow",
    "ms-vlmeval",
)


@cache
def version_of(distribution: str) -> str:
    """The installed version, or an empty string if there is none."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def versions(*distributions: str) -> dict[str, str]:
    """Installed versions by distribution; without arguments, of all libraries that can change a number."""
    return {name: version_of(name) for name in distributions or LIBRARIES}


def environment() -> dict[str, str]:
    """The machine and the libraries, for the run's record; nothing identifies the user or the host."""
    return {"python": platform.python_version(), "system": platform.system(), "cpu": _cpu(), **versions()}


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
