"""The files that make a result what it is: those of the method, and those of the core that computes it."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from benchmarks.errors import UserError
from harness.storage.source_code import code_digest
from methods.base import InjectionMethod

PACKAGE_ROOT = Path(__file__).parent.parent


def core_files(file: str) -> list[Path]:
    """This file of the package and the model families, which it does not import by name."""
    return [PACKAGE_ROOT / file, *sorted((PACKAGE_ROOT / "models").glob("*.py"))]


def core_digest(file: str) -> str:
    """The digest of the core for a cache key: all code behind this file of the package, and the model families."""
    return code_digest(*core_files(file))


def source_files(method: InjectionMethod) -> list[Path]:
    """The files that define a method and its bases, also a plug-in's, and the data files that they declare."""
    files = set()
    for kind in type(method).__mro__:
        module = getattr(sys.modules.get(kind.__module__), "__file__", None)
        hooks = [inspect.unwrap(hook).__code__.co_filename for hook in vars(kind).values() if inspect.isfunction(hook)]
        sources = {Path(file) for file in (*hooks, module) if file and kind is not object}
        files |= {file for file in sources if file.suffix == ".py" and file.is_file()}
        files |= {_data_file(Path(module or "").parent / name) for name in vars(kind).get("data_files", ())}
    return sorted(files)


def _data_file(path: Path) -> Path:
    if not path.is_file():
        raise UserError("a file that the method declares is missing", location=str(path), hint="put it there")
    return path
