"""What made a number: the code, the library versions and the machine. Imports nothing that it reports on."""

from __future__ import annotations

import ast
import hashlib
import platform
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

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
REPO_ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("harness", "methods", "benchmarks")
LISTS = frozenset({"methods.registry"})
"""Modules that only name others; following them would make every method depend on every other."""


@cache
def version_of(distribution: str) -> str:
    """The installed version, or an empty string."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def versions(*distributions: str) -> dict[str, str]:
    """Installed versions by distribution; without arguments those of all libraries that can change a number."""
    return {name: version_of(name) for name in distributions or LIBRARIES}


def environment() -> dict[str, str]:
    """The machine and the libraries, for the record; nothing secret, nothing that names the user or the host."""
    return {"python": platform.python_version(), "system": platform.system(), "cpu": _cpu(), **versions()}


def code_digest(*files: Path) -> str:
    """Sha256 over these source files and every file of this project that they import, directly or not.

    Comments, docstrings and layout do not count. It keeps work made by old code from being served for new.
    """
    reached: dict[Path, str] = {}
    waiting = [file.resolve() for file in files]
    while waiting:
        file = waiting.pop()
        if file in reached:
            continue
        reached[file], imported = _read(file)
        waiting += imported
    return hashlib.sha256("".join(sorted(reached.values())).encode()).hexdigest()


@cache
def _read(file: Path) -> tuple[str, tuple[Path, ...]]:
    """The digest of one file's code, and the files of this project that it imports."""
    tree = ast.parse(file.read_bytes())
    imported = tuple(sorted({path for name in _imports(tree) if (path := _source(name))}))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [statement for statement in body if not _is_text(statement)]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imported


def _is_text(statement: ast.AST) -> bool:
    """Whether a statement is a bare string: a docstring."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _imports(tree: ast.AST) -> Iterator[str]:
    """Names of modules that may be imported anywhere in a file, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def _source(name: str) -> Path | None:
    """The file of a module of this project, or None for anything else. Found by its path: nothing is imported."""
    if name.split(".")[0] not in PACKAGES or name in LISTS:
        return None
    place = REPO_ROOT.joinpath(*name.split("."))
    candidates = (place.with_suffix(".py"), place / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


def _cpu() -> str:
    """The processor's name, as Linux tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
