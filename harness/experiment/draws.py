"""What a cell drew from the pools, as stored with its training: in words, and which benchmarks it is related to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.data_sources import related
from benchmarks.registry import get_benchmark


def describe_draws(draws: Sequence[Mapping[str, Any]]) -> str:
    """One sentence for each purpose, which names the pool, what it holds and how much was drawn; empty without any."""
    return " ".join(map(_sentence, draws))


def related_benchmarks(draws: Sequence[Mapping[str, Any]], benchmarks: Iterable[str]) -> dict[str, list[str]]:
    """The published benchmarks that were made from data sets of the samples, with these data sets."""
    real = [name for name in benchmarks if get_benchmark(name).size == "real"]
    found: dict[str, list[str]] = {}
    for source in sorted({source for draw in draws for source in draw["sources"]}):
        for name in related(source, real):
            found.setdefault(name, []).append(_part(source))
    return found


def related_note(label: str, found: Mapping[str, Sequence[str]]) -> str:
    """The sentence below the tables about a row with related samples."""
    parts = "; ".join(f"{name} ({', '.join(sources)})" for name, sources in sorted(found.items()))
    return f"{label} draws samples from data sets that benchmarks of this run were made from: {parts}."


def _sentence(draw: Mapping[str, Any]) -> str:
    total = sum(draw["sources"].values())
    parts = ", ".join(f"{count:,} {_part(source)}" for source, count in draw["sources"].items() if source)
    shares = f": {parts}" if parts else ""
    return f"For {draw['purpose']}, {total:,} samples of the {draw['pool']} pool, {draw['from']}{shares}."


def _part(source: str) -> str:
    return source.rpartition(":")[2]
