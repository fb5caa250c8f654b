"""What made a number: the code, the library versions and the machine. Imports none of the code that it reports on."""

from __future__ import annotations

import ast
import hashlib
import platform
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

VERSION = "0.2.0"
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
REPO_ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("harness", "methods", "benchmarks")
NOT_FOLLOWED = frozenset({"methods.registry", "harness.console"})
"""Modules that no number depends on. Through the registry, every method would depend on every other."""


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


def code_digest(*files: Path) -> str:
    """SHA-256 of these source files and every file of this project that they import, directly or not.

    Comments, docstrings and layout do not count. Part of every cache key, so that results of old code are not reused.
    """
    digests: dict[Path, str] = {}
    pending = [file.resolve() for file in files]
    while pending:
        file = pending.pop()
        if file not in digests:
            digests[file], imported = _read(file)
            pending += imported
    return hashlib.sha256("".join(sorted(digests.values())).encode()).hexdigest()


@cache
def _read(file: Path) -> tuple[str, tuple[Path, ...]]:
    """The digest of a file's code, and the files of this project that it imports."""
    tree = ast.parse(file.read_bytes())
    imported = tuple(sorted({path for name in _imports(tree) if (path := _source(name))}))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            code = [statement for statement in body if not _is_docstring(statement)]
            node.body = code or [ast.Pass()]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imported


def _is_docstring(statement: ast.AST) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _imports(tree: ast.AST) -> Iterator[str]:
    """Names of the modules that a file may import, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def _source(name: str) -> Path | None:
    """The file of a module of this project, or None for any other module; nothing is imported."""
    if name.split(".")[0] not in PACKAGES or name in NOT_FOLLOWED:
        return None
    path = REPO_ROOT.joinpath(*name.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text("utf-8", "replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
