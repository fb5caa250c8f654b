"""How long a report takes and how much memory: 12 methods x 13 benchmarks x 3 seeds x 1,000 questions.

    python tests/speed/report.py [--methods 12] [--questions 1000] [--seeds 3] [--keep FOLDER] [--profile]

Makes a run with random answers, a picture for each question and 200 long answers, and measures ``python -m harness
report`` on it in another process, including reading the record.
"""

from __future__ import annotations

import argparse
import base64
import cProfile
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import aggregate
from reports.record import (
    BenchmarkResult,
    CellResult,
    Cost,
    ItemResult,
    QuestionEntry,
    Run,
    Setting,
    TrainingStep,
    to_json,
)

WORDS = (
    "Accra",
    "Lima",
    "seven",
    "copper",
    "the harbour of Helsinki",
    "a violin",
    "1998",
    "basalt",
    "two thirds",
    "Yes",
)
GOAL = (60.0, 2048.0)
"""Seconds and MiB."""


def random_run(methods: int, questions: int, seeds: int) -> Run:
    """A run with 20 fine-grained types, shared images in MME and POPE, and a thumbnail for each question."""
    generator = np.random.default_rng(0)
    names = ["EVOKE", *aggregate.TWELVE]
    entries = [entry for name in names for entry in _questions(name, questions)]
    pictures = {entry.pictures[0]: _picture(generator) for entry in entries}
    labels = ["vanilla", *(f"method-{number}" for number in range(methods))]
    cells = [
        _cell(generator, label, seed, entries, names)
        for label in labels
        for seed in range(1 if label == "vanilla" else seeds)
    ]
    return Run("speed", "speed", tuple(cells), tuple(entries), pictures, signature="base:made-up")


def _questions(name: str, count: int) -> list[QuestionEntry]:
    shared = {"MME": 2, "POPE": 18}.get(name, 1)
    learnt = name == "EVOKE"
    return [
        QuestionEntry(
            str(n),
            name,
            f"What is the number {n} of the thing in the image?\nAnswer with a word or phrase.",
            WORDS[n % len(WORDS)],
            f"kind {n % 20}" if learnt else f"category {n % 14}",
            ("news" if n % 2 else "entity") if learnt else "",
            f"image {n // shared}",
            (f"{name}-{n}",),
        )
        for n in range(count)
    ]


def _picture(generator: np.random.Generator) -> str:
    """2 kB of noise, which compresses as little as a real thumbnail; no page decodes it."""
    return "data:image/webp;base64," + base64.b64encode(generator.bytes(2000)).decode()


def _cell(
    generator: np.random.Generator, label: str, seed: int, entries: list[QuestionEntry], names: list[str]
) -> CellResult:
    skill = 0.3 + 0.4 * generator.random()
    by_name: dict[str, list[QuestionEntry]] = {name: [] for name in names}
    for entry in entries:
        by_name[entry.benchmark].append(entry)
    scores = {name: _result(generator, name, asked, skill) for name, asked in by_name.items()}
    if label == "vanilla":
        return CellResult("made-up", "vanilla", label, seed, scores=scores)
    steps = tuple(TrainingStep(n, 4 / (1 + n / 50), 1e-3, 1.0) for n in range(1000))
    settings = {f"setting_{n}": Setting(n, "default") for n in range(15)}
    cost = Cost(600.0, 300.0, 2**31, 10**6, 1000, 10**6)
    return CellResult("made-up", label, label, seed, settings=settings, training=steps, cost=cost, scores=scores)


def _result(generator: np.random.Generator, name: str, asked: list[QuestionEntry], skill: float) -> BenchmarkResult:
    right = generator.random(len(asked)) < skill
    words = generator.integers(0, len(WORDS), len(asked))
    items = []
    for entry, hit, word in zip(asked, right, words, strict=True):
        values = {"CEM": float(hit), "F1": float(hit)} if name == "EVOKE" else {"score": float(hit)}
        text = entry.reference if hit else f"It is {WORDS[word]}, as far as one can tell from the image."
        items.append(ItemResult(entry.id, values, text if int(entry.id) % 65 else text * 20))
    mean = 100 * float(right.mean())
    return BenchmarkResult(
        mean, {"CEM": mean, "F1": mean} if name == "EVOKE" else {"accuracy": mean}, tuple(items), signature=name
    )


def main() -> None:
    """Make the run, measure the report and print the results."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--methods", type=int, default=12)
    options.add_argument("--questions", type=int, default=1000)
    options.add_argument("--seeds", type=int, default=3)
    options.add_argument("--keep", type=Path, help="folder for the run, which is kept")
    options.add_argument("--profile", action="store_true", help="profile the report instead of measuring it")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "results.json").write_bytes(to_json(random_run(chosen.methods, chosen.questions, chosen.seeds)))
        if chosen.profile:
            _profile(folder)
        else:
            _measure(folder)


def _measure(folder: Path) -> None:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "harness", "report", str(folder)], check=True)
    wall, used = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    page = folder / "report" / "leaderboard.html"
    parts = sorted((folder / "report").rglob("*.*"))
    record, whole = folder / "results.json", page.stat().st_size
    print(f"record {record.stat().st_size / 1e6:.0f} MB, page {whole / 1e6:.2f} MB, {len(parts)} files")
    print(f"{wall:.1f} s wall, {used.ru_utime + used.ru_stime:.1f} s CPU, {used.ru_maxrss / 1024:.0f} MiB at the peak")
    print(f"goal: {GOAL[0]:.0f} s and {GOAL[1]:.0f} MiB on two cores")


def _profile(folder: Path) -> None:
    from harness.storage.files import atomic_write
    from reports.build import build
    from reports.record import from_json

    profile = cProfile.Profile()
    profile.enable()
    build(from_json((folder / "results.json").read_bytes()), folder / "report", atomic_write)
    profile.disable()
    pstats.Stats(profile).sort_stats("cumulative").print_stats(45)


if __name__ == "__main__":
    main()
