"""The harness's side of VLMEvalKit: runs a batch of jobs in one guarded process and reads the results.

VLMEvalKit never runs in the harness's own process because it changes environment variables, shares files named after
data sets and evaluates text.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.errors import UserError

PACKAGE = "ms-vlmeval"
VERSION = "0.0.20"
INSTALL = f"pip install --no-deps {PACKAGE}=={VERSION}"
ADAPTER = "3"
"""Increased whenever the same table would give other prompts or the same answers another score."""
PASSED_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "LANG", "LC_ALL", "TZ")
SECONDS_TO_START = 180
SECONDS_PER_JOB = 60
SECONDS_PER_ANSWER = 0.1
BYTES_PER_SECOND = 2_000_000
GIGABYTE = 1 << 30

LEFT_OUT = "left_out.json"
"""A file in the folder of an unpacked table."""
Rows = list[dict[str, Any]]


class TableDigests(NamedTuple):
    """Hex digests of a table; VLMEvalKit publishes the md5."""

    sha256: str
    md5: str


def versions() -> str:
    """The versions that determine prompts and scores, on one line.

    Raises:
        UserError: VLMEvalKit is missing or not the version that this adapter supports.
    """
    try:
        installed = importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError("VLMEvalKit is not installed; it scores the twelve benchmarks", hint=INSTALL) from error
    if installed != VERSION or importlib.util.find_spec("vlmeval") is None:
        raise UserError(f"{PACKAGE} {installed} is installed; this adapter supports {VERSION}", hint=INSTALL)
    return f"vlmeval {installed}|pandas {importlib.metadata.version('pandas')}|adapter {ADAPTER}"


def table_digests(path: Path) -> TableDigests:
    """Compute the digests of a table.

    Raises:
        UserError: The table cannot be read.
    """
    try:
        status = path.stat()
        return _digests_of(path, status.st_mtime_ns, status.st_size)
    except OSError as error:
        raise UserError(
            f"the benchmark's table cannot be read ({error.strerror})",
            location=str(path),
            hint="put the TSV file there",
        ) from error


@lru_cache(maxsize=64)
def _digests_of(path: Path, time: int, size: int) -> TableDigests:
    """Both digests in one pass, cached per modification: the published tables are gigabytes."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha256.update(block)
            md5.update(block)
    return TableDigests(sha256.hexdigest(), md5.hexdigest())


@contextmanager
def scratch_folder(workspace: Path) -> Iterator[Path]:
    """Create a temporary folder; its path is absolute because the scoring process has its own working folder.

    Raises:
        UserError: The workspace cannot be created.
    """
    try:
        workspace.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the folder cannot be created ({error.strerror})",
            location=str(workspace),
            hint="choose a folder that you may write to",
        ) from error
    with tempfile.TemporaryDirectory(dir=workspace.resolve()) as folder:
        yield Path(folder)


def run_jobs(jobs: list[dict[str, Any]], scratch: Path) -> list[dict[str, Any]]:
    """Run all jobs in one guarded process; the results are in the jobs' order.

    Raises:
        UserError: A job failed, or the process failed, took too long or used too much memory.
    """
    versions()
    size = sum(Path(job["tsv"]).stat().st_size for job in jobs if Path(job["tsv"]).exists())
    answers = sum(len(job.get("answers", ())) for job in jobs)
    seconds = SECONDS_TO_START + SECONDS_PER_JOB * len(jobs) + size // BYTES_PER_SECOND
    seconds += int(SECONDS_PER_ANSWER * answers)
    limits = {"memory": 6 * GIGABYTE + 12 * size, "file": GIGABYTE + 4 * size, "cpu": 2 * seconds}
    output = scratch / "results.json"
    try:
        process = subprocess.run(  # noqa: S603  (our own module, no shell)
            [sys.executable, "-P", "-m", "benchmarks.vlmeval.worker", str(output)],
            input=json.dumps({"jobs": jobs, "limits": limits, "folder": str(scratch)}),
            text=True,
            capture_output=True,
            timeout=seconds,
            env=_environment(scratch),
            cwd=scratch,
        )
    except subprocess.TimeoutExpired as error:
        names = ", ".join(job["name"] for job in jobs)
        raise UserError(
            f"VLMEvalKit took longer than {seconds} s for {names}", hint="run again on a less busy machine"
        ) from error
    if process.returncode != 0 or not output.is_file():
        last = (process.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(
            f"the scoring process ended with status {process.returncode}: {last}",
            hint=f"check the installation: {INSTALL}",
        )
    results: list[dict[str, Any]] = json.loads(output.read_text("utf-8"))
    for result in results:
        if "message" in result:
            raise UserError(result["message"], location=result["location"], hint=result["hint"])
    return results


def _environment(scratch: Path) -> dict[str, str]:
    """The process's only variables: no keys, no proxies, nothing that changes a score."""
    passed = {name: os.environ[name] for name in PASSED_VARIABLES if name in os.environ}
    return passed | {
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        "PYTHONUTF8": "1",
        "PYTHONHASHSEED": "0",  # VLMEvalKit orders some rows by a set
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "PRED_FORMAT": "tsv",
        "VLMEVALKIT_USE_MODELSCOPE": "0",
        "HF_HUB_OFFLINE": "1",
        "TQDM_DISABLE": "1",
        "MPLBACKEND": "agg",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def save_unpacked(source: Path, target: Path, rows: Rows) -> None:
    """Add the rows to the folder with their pictures and move it to its final place, with a digest to verify it."""
    text = json.dumps(rows, ensure_ascii=False)
    (source / "questions.sha256").write_text(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())
    (source / "questions.json").write_text(text, "utf-8", "surrogatepass")
    if target.exists():
        if load_unpacked(target) is not None:
            return  # another process was faster
        shutil.rmtree(target)
    source.rename(target)


def load_left_out(folder: Path) -> dict[str, int]:
    """How many rows of an unpacked table are no questions, by the reason."""
    left_out: dict[str, int] = json.loads((folder / LEFT_OUT).read_text("utf-8"))
    return left_out


def load_unpacked(folder: Path) -> Rows | None:
    """Read rows unpacked before; None if there are none or if a file does not match its digest."""
    try:
        text = (folder / "questions.json").read_bytes()
        load_left_out(folder)
        if hashlib.sha256(text).hexdigest() != (folder / "questions.sha256").read_text():
            return None
        rows: Rows = json.loads(text)
        pictures = {(name, digest) for row in rows for name, digest in row["pictures"]}
        if any(hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest for name, digest in pictures):
            return None
    except (OSError, ValueError, KeyError):
        return None
    return rows
