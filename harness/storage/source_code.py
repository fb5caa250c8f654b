"""Digests of the code that made a result. Nothing is imported to follow an import."""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from pathlib import Path

from harness.storage.provenance import version_of

REPO_ROOT = Path(__file__).resolve().parents[2]
FOLLOWED = ("harness", "methods", "benchmarks")
PACKAGES = (*FOLLOWED, "reports")
NOT_FOLLOWED = frozenset({"methods.registry", "harness.console"})
"""Modules that no number depends on. Through the registry, every method would depend on every other."""
SITE_PACKAGES = tuple({Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")})


@dataclass(frozen=True)
class Source:
    """A Python file: the digest of its code, the files that it imports, and the distributions of other packages."""

    digest: str
    files: tuple[Path, ...]
    distributions: tuple[str, ...]


def code_digest(*files: Path) -> str:
    """SHA-256 of these source files and every file that they import, directly or not.

    Followed are the files of this project and of the user, who may exchange two of them, so that their names count. Of
    other packages, the installed versions count, where a user's file imports them. Comments, docstrings and layout do
    not count. Part of every cache key, so that results of old code are not reused.
    """
    sources = _follow(files)
    versions = sorted(_versions(sources).items())
    digests = sorted(source.digest for file, source in sources.items() if _is_own(file))
    named = sorted(f"{name}:{source.digest}" for name, source in _named(files, sources).items())
    return hashlib.sha256(
        "".join([*digests, *named, *(f"{name}=={version}" for name, version in versions)]).encode()
    ).hexdigest()


def user_code(files: Iterable[Path]) -> dict[str, str]:
    """What these files contribute to ``code_digest`` that is not of this project.

    Returns:
        The first 12 digits of the digest of each file, and the version of each installed package, by its name.
    """
    files = tuple(files)
    sources = _follow(files)
    return {name: source.digest[:12] for name, source in _named(files, sources).items()} | _versions(sources)


def _named(files: Iterable[Path], sources: dict[Path, Source]) -> dict[str, Source]:
    """The user's sources by their names: relative to a folder of these files, or to the folder that is imported from.

    Where a file is part of a package, its folder is the one that holds the package.
    """
    folders = [_import_root(file.resolve()) for file in files if not _is_own(file.resolve())]
    named = {}
    for file, source in sorted(sources.items()):
        if not _is_own(file):
            root = next((folder for folder in folders if file.is_relative_to(folder)), _import_root(file))
            named[file.relative_to(root).as_posix()] = source
    return named


def _import_root(file: Path) -> Path:
    return next((init.parents[1] for init in reversed([*_packages(file)])), file.parent)


def _packages(file: Path) -> Iterator[Path]:
    """The ``__init__.py`` of each package around a file, which Python executes before it, the innermost first."""
    for folder in file.parents:
        if not (init := folder / "__init__.py").is_file():
            return
        yield init


def _follow(files: Iterable[Path]) -> dict[Path, Source]:
    sources: dict[Path, Source] = {}
    pending = [file.resolve() for file in files]
    while pending:
        file = pending.pop()
        if file not in sources:
            sources[file] = _read(file, file.stat().st_mtime_ns)
            pending += sources[file].files
    return sources


def _versions(sources: dict[Path, Source]) -> dict[str, str]:
    """The packages that the user's files import; those of this project are recorded with the run's environment."""
    names = {name for file, source in sources.items() if not _is_own(file) for name in source.distributions}
    return {name: version_of(name) for name in sorted(names)}


@cache
def _is_own(file: Path) -> bool:
    return any(file.is_relative_to(REPO_ROOT / package) for package in PACKAGES)


@cache
def _read(file: Path, time: int) -> Source:
    """Parse a file, as it is at this time."""
    if file.suffix != ".py":
        return Source(hashlib.sha256(file.read_bytes()).hexdigest(), (), ())
    tree = ast.parse(file.read_bytes())
    files: set[Path] = set() if _is_own(file) else set(_packages(file))
    distributions: set[str] = set()
    for name, is_relative in _imports(tree, file):
        found = _below(file.parent, name) if is_relative else _locate(name, None if _is_own(file) else file.parent)
        files |= {found} if isinstance(found, Path) else set()
        distributions |= {found} if isinstance(found, str) else set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            code = [statement for statement in body if not _is_docstring(statement)]
            node.body = code or [ast.Pass()]  # type: ignore[attr-defined]
    return Source(hashlib.sha256(ast.dump(tree).encode()).hexdigest(), tuple(sorted(files)), tuple(distributions))


def _is_docstring(statement: ast.AST) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _imports(tree: ast.AST, file: Path) -> Iterator[tuple[str, bool]]:
    """Names of the modules that a file may import, inside functions too, and whether they are relative to its folder.

    ``from .. import x`` is the relative name ``../x``.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "../" * (node.level - 1) + (node.module or "").replace(".", "/") if node.level else node.module or ""
            separator = "/" if node.level and node.module else "" if node.level else "."
            if node.module:
                yield base, bool(node.level)
            yield from ((f"{base}{separator}{alias.name}", bool(node.level)) for alias in node.names)


def _below(folder: Path, name: str) -> Path | None:
    """The file of a module by its path without ending, if there is one."""
    path = (folder / name).resolve()
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


@cache
def _locate(name: str, beside: Path | None) -> Path | str | None:
    """Where a module comes from, for a file of the user in the folder ``beside``, or of this project for None.

    Returns:
        Its file if it is this project's or the user's, the distribution that installed it, or None for a module of
        the standard library, a name that is not a module, and packages that this project's files import.
    """
    top = name.split(".")[0]
    if top in PACKAGES:
        is_followed = top in FOLLOWED and name not in NOT_FOLLOWED
        return _below(REPO_ROOT, name.replace(".", "/")) if is_followed else None
    if beside is None or top in sys.stdlib_module_names:
        return None
    for root in _roots(top, beside):
        if any(root.is_relative_to(folder) for folder in SITE_PACKAGES):
            return next(iter(_distributions().get(top, ())), None)
        if found := _below(root, name.replace(".", "/")):
            return found
    return None


def _roots(top: str, beside: Path) -> Iterator[Path]:
    """The folders in which a package or module may lie: that of what is imported, and the file's own."""
    try:
        spec = getattr(sys.modules.get(top), "__spec__", None) or util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is not None:
        places = spec.submodule_search_locations or [spec.origin or ""]
        yield from (Path(place).resolve().parent for place in places if Path(place).is_absolute())
    yield beside


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())
