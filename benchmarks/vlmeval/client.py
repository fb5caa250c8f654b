"""The harness's side of VLMEvalKit: starts one guarded process for a batch of jobs and reads back what it found.

VLMEvalKit never runs in the harness's own process: it would bring its environment variables, its files named by dataset
and its evaluation of text.
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
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.errors import UserError
from benchmarks.records import Answer, ItemScore, Picture, Question, Score

if TYPE_CHECKING:
    from benchmarks.retention import Retention

PACKAGE, VERSION = "ms-vlmeval", "0.0.20"
INSTALL = f"pip install --no-deps {PACKAGE}=={VERSION}"
ADAPTER = "1"
"""Raised whenever the same table would give other prompts or the same answers another score."""
MOST_ROUNDS = 4
"""How often a scoring is begun again with what a judge has replied."""
KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "LANG", "LC_ALL", "TZ")
SECONDS_TO_START, SECONDS_PER_JOB, BYTES_PER_SECOND = 180, 60, 2_000_000
GIGABYTE = 1 << 30


def versions() -> str:
    """The versions that decide prompts and scores, in one line.

    Raises:
        UserError: VLMEvalKit is missing or another version than the one this adapter was made for.
    """
    try:
        found = importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError("VLMEvalKit is not installed; it scores the twelve benchmarks", hint=INSTALL) from error
    if found != VERSION or importlib.util.find_spec("vlmeval") is None:
        raise UserError(f"{PACKAGE} {found} is installed; this adapter reads {VERSION}", hint=INSTALL)
    return f"vlmeval {found}|pandas {importlib.metadata.version('pandas')}|adapter {ADAPTER}"


def sha256_of(path: Path) -> str:
    """Hex digest of a table.

    Raises:
        UserError: It cannot be read.
    """
    return _digests(path)[0]


def md5_of(path: Path) -> str:
    """The digest that VLMEvalKit publishes for a table.

    Raises:
        UserError: It cannot be read.
    """
    return _digests(path)[1]


def _digests(path: Path) -> tuple[str, str]:
    try:
        found = path.stat()
        return _read_digests(path, found.st_mtime_ns, found.st_size)
    except OSError as error:
        raise UserError(
            f"the benchmark's table cannot be read ({error.strerror})",
            location=str(path),
            hint="put the TSV file there",
        ) from error


@lru_cache(maxsize=64)
def _read_digests(path: Path, time: int, size: int) -> tuple[str, str]:
    """Sha256 and md5 in one go, once for each state of a file: the published tables are gigabytes."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            sha256.update(block)
            md5.update(block)
    return sha256.hexdigest(), md5.hexdigest()


def questions_many(benchmarks: Sequence[Retention]) -> list[list[Question]]:
    """The questions of several benchmarks; those unpacked before are read back and verified.

    Raises:
        UserError: A table is bad, or VLMEvalKit is missing.
    """
    return [
        [_question(benchmark, _unpacked(benchmark), row) for row in rows]
        for benchmark, rows in zip(benchmarks, rows_many(benchmarks), strict=True)
    ]


def rows_many(benchmarks: Sequence[Retention]) -> list[list[dict[str, Any]]]:
    """As ``questions_many``, but as plain data: pictures as paths below ``_unpacked``, and each row's chance."""
    for benchmark in benchmarks:
        benchmark.check_published()
    places = [_unpacked(benchmark) for benchmark in benchmarks]
    found = [_read_back(place) for place in places]
    missing = [i for i, rows in enumerate(found) if rows is None]
    if missing:
        with tempfile.TemporaryDirectory(dir=_made(benchmarks[missing[0]].workspace)) as scratch:
            jobs = [_job("questions", benchmarks[i], Path(scratch) / str(i)) for i in missing]
            for i, job, rows in zip(missing, jobs, _run(jobs, Path(scratch)), strict=True):
                _put_away(Path(job["folder"]), places[i], rows["rows"])
                found[i] = rows["rows"]
    return [rows or [] for rows in found]


def score_many(jobs: Sequence[tuple[Retention, Sequence[tuple[Question, Answer]]]]) -> list[Score]:
    """Score batches of answers, each paired with its question.

    Raises:
        UserError: The scorer failed, took too long or used too much memory.
    """
    if not jobs:
        return []
    with tempfile.TemporaryDirectory(dir=_made(jobs[0][0].workspace)) as scratch:
        requests = [_scoring_job(benchmark, pairs, Path(scratch) / str(i)) for i, (benchmark, pairs) in enumerate(jobs)]
        results = _run(requests, Path(scratch))
        for number in range(MOST_ROUNDS):
            waiting = [i for i, result in enumerate(results) if "asked" in result]
            if not waiting:
                break
            for i in waiting:
                requests[i]["replies"] |= _replies(jobs[i][0], results[i]["asked"])
                requests[i]["folder"] = str(Path(scratch) / f"{i}-{number}")
            for i, result in zip(waiting, _run([requests[i] for i in waiting], Path(scratch)), strict=True):
                results[i] = result
    return [_score(benchmark, result) for (benchmark, _), result in zip(jobs, results, strict=True)]


def _replies(benchmark: Retention, asked: dict[str, Any]) -> dict[str, str | None]:
    if benchmark.grader is None:
        raise ValueError(f"{benchmark.name} asks a judge that it does not have")
    return benchmark.grader.replies(asked)


def _score(benchmark: Retention, result: dict[str, Any]) -> Score:
    if "asked" in result:
        raise UserError(
            f"the judge is asked something new in each of {MOST_ROUNDS} rounds",
            location=benchmark.name,
            hint="report it",
        )
    grader = benchmark.grader
    trouble = (f"the judge: {grader.trouble}",) if grader and result["pending"] else ()
    return Score(
        benchmark=benchmark.name,
        headline=result["headline"],
        metrics=result["metrics"],
        items=tuple(ItemScore(question_id, values, status) for question_id, values, status in result["items"]),
        judge=result["judge"],
        notes=(*benchmark.remarks(), *result["notes"], *trouble),
        pending=result["pending"],
    )


def _scoring_job(benchmark: Retention, pairs: Sequence[tuple[Question, Answer]], folder: Path) -> dict[str, Any]:
    answers = [[question.id, list(answer.texts), answer.error] for question, answer in pairs]
    replies: dict[str, Any] = {} if benchmark.grader is None else {"replies": {}}
    return _job("score", benchmark, folder) | {"answers": answers} | replies


def _job(task: str, benchmark: Retention, folder: Path) -> dict[str, Any]:
    return {
        "task": task,
        "spec": benchmark.spec.name,
        "name": benchmark.name,
        "judge": benchmark.judge,
        "protocol": benchmark.protocol,
        "tsv": str(benchmark.data.resolve()),
        "folder": str(folder),
    }


def _run(jobs: list[dict[str, Any]], scratch: Path) -> list[dict[str, Any]]:
    """One guarded process for all jobs; a list of results in the jobs' order."""
    versions()
    size = sum(Path(job["tsv"]).stat().st_size for job in jobs if Path(job["tsv"]).exists())
    seconds = SECONDS_TO_START + SECONDS_PER_JOB * len(jobs) + size // BYTES_PER_SECOND
    limits = {"memory": 6 * GIGABYTE + 12 * size, "file": GIGABYTE + 4 * size, "cpu": 2 * seconds}
    answer = scratch / "results.json"
    request = json.dumps({"jobs": jobs, "limits": limits, "folder": str(scratch)})
    command = [sys.executable, "-P", "-m", "benchmarks.vlmeval.worker", str(answer)]
    try:
        done = subprocess.run(  # noqa: S603  (our own module, no shell)
            command,
            input=request,
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
    if done.returncode != 0 or not answer.is_file():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(
            f"the scoring process ended with status {done.returncode}: {last}", hint=f"check the install: {INSTALL}"
        )
    results: list[dict[str, Any]] = json.loads(answer.read_text("utf-8"))
    for result in results:
        if "message" in result:
            raise UserError(result["message"], location=result["location"], hint=result["hint"])
    return results


def _environment(scratch: Path) -> dict[str, str]:
    """A short list of variables: no keys, no proxies, nothing that changes a score."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return kept | {
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


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"the folder cannot be made ({error.strerror})",
            location=str(folder),
            hint="choose a folder you may write to",
        ) from error
    return folder.resolve()  # the scoring process stands in a folder of its own


# What was unpacked is kept under the digest of what it was made from, and believed only when each file's digest fits.


def _unpacked(benchmark: Retention) -> Path:
    own = () if benchmark.protocol == "vlmevalkit" else (benchmark.protocol,)
    parts = (sha256_of(benchmark.data), benchmark.spec.name, versions(), *own)
    return benchmark.workspace / hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _put_away(folder: Path, place: Path, rows: list[dict[str, Any]]) -> None:
    text = json.dumps(rows, ensure_ascii=False)
    (folder / "questions.sha256").write_text(hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest())
    (folder / "questions.json").write_text(text, "utf-8", "surrogatepass")
    if place.exists():
        if _read_back(place) is not None:
            return  # another process was faster
        shutil.rmtree(place)
    folder.rename(place)


def _read_back(place: Path) -> list[dict[str, Any]] | None:
    """The rows unpacked before, or None where there are none or any file is damaged."""
    try:
        text = (place / "questions.json").read_bytes()
        if hashlib.sha256(text).hexdigest() != (place / "questions.sha256").read_text():
            return None
        rows: list[dict[str, Any]] = json.loads(text)
        pictures = {(name, digest) for row in rows for name, digest in row["pictures"]}
        if any(hashlib.sha256((place / name).read_bytes()).hexdigest() != digest for name, digest in pictures):
            return None
    except (OSError, ValueError, KeyError):
        return None
    return rows


def _question(benchmark: Retention, place: Path, row: dict[str, Any]) -> Question:
    return Question(
        id=row["id"],
        benchmark=benchmark.name,
        turns=tuple(row["turns"]),
        pictures=tuple(Picture(place / name) for name, _ in row["pictures"]),
        reference=row["reference"],
        group=row["group"],
        type=row["type"],
        cluster=row["cluster"],
        max_new_tokens=benchmark.max_new_tokens,
    )
