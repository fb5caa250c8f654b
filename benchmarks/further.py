"""Benchmarks beyond EVOKE and the twelve: a table of one's own, or a further one of VLMEvalKit's by its name.

Both belong to a family that VLMEvalKit can ask and score. Plain data, so that a run's settings can hold it. Cheap to
import: neither pandas nor VLMEvalKit is loaded.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal

from benchmarks.aggregate import DIMENSIONS
from benchmarks.errors import UserError, suggest
from benchmarks.retention_specs import SPECS, VLMEVALKIT_TOKENS, RetentionSpec
from benchmarks.vlmeval import client

FurtherFamily = Literal["choice", "yes-no", "short answer", "open"]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
DIMENSION = "Further"
"""The dimension where none is given, and the group of all of these columns."""
HEADLINES: Mapping[str, Mapping[str, str]] = {
    "choice": {"accuracy": "Own", "circular accuracy": "Own_circular"},
    "yes-no": {"accuracy": "Own", "F1": "Own"},
    "short answer": {"accuracy": "Own_OCRVQA", "relaxed accuracy": "Own_ChartQA", "ANLS": "Own_DocVQA"},
    "open": {"grade": "Own"},
}
"""By family, the headlines (the first is the default), and the name of a data set that VLMEvalKit scores that way."""
FIELDS = ("index", "question", "answer", "image", "image_path", "options", "hint", "category", "l2-category")
"""What a column may be, besides the options ``A``, ``B``, ... and VLMEvalKit's ``g_index``."""
REQUIRED: Mapping[str, tuple[str, ...]] = {
    "choice": ("question", "answer", "A", "B"),
    "yes-no": ("question", "answer"),
    "short answer": ("question", "answer"),
    "open": ("question", "answer"),
}
"""Columns of VLMEvalKit's schema that each family needs."""


@dataclass(frozen=True)
class FurtherBenchmark:
    """A further benchmark; the fields of its YAML file.

    Raises:
        UserError: The headline or a column is unknown, or there is no table.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    family: FurtherFamily
    table: Path | None = None
    """A TSV in VLMEvalKit's schema or a JSONL; None for one of VLMEvalKit's, which is in ``data.retention``."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Columns that have another name in the table: ``{"answer": "label"}``."""
    headline: str = ""
    """One of ``HEADLINES`` [default: the family's first]."""
    cluster: str = "image"
    """What dependent questions share: ``image``, or a column of the table."""
    dimension: str = DIMENSION
    """What it measures, in a word."""
    max_new_tokens: int = VLMEVALKIT_TOKENS
    """Maximum new tokens of one answer."""
    dataset: str = ""
    """VLMEvalKit's name, if it is one of its own."""
    md5: str = ""
    """Of the published table."""
    url: str = ""

    def __post_init__(self) -> None:
        allowed = HEADLINES.get(self.family, {})
        if self.headline and self.headline not in allowed and not self.dataset:
            raise _bad("headline", f"the family {self.family!r} has no headline {self.headline!r}", allowed)
        for name in self.columns:
            if name not in (*FIELDS, "g_index") and not re.fullmatch("[A-Z]", name):
                raise _bad("columns", f"there is no column {name!r}", [*FIELDS, "A", "B", "C"])
        if self.table is None and not self.dataset:
            raise UserError("the table is missing", location="table", hint="add `table:`, a TSV or JSONL file")
        if self.max_new_tokens < 1:
            raise UserError("an answer needs at least one token", location="max_new_tokens", hint="write 1 or more")

    def spec(self, name: str) -> RetentionSpec:
        """How VLMEvalKit asks and scores it; does not depend on where the table is."""
        headline = self.headline or next(iter(HEADLINES[self.family]))
        return RetentionSpec(
            name=name,
            dimension=self.dimension,
            dataset=self.dataset or HEADLINES[self.family][headline],
            family=self.family,
            headline=headline,
            chance=0.0,
            mini_tokens=self.max_new_tokens,
            file=self.url,
            md5=self.md5,
            rows=0,
            columns=REQUIRED[self.family],
            cluster="image" if self.cluster == "image" else "column",
            judge="grade" if self.family == "open" else "",
            further=True,
            tokens=self.max_new_tokens,
            uses_f1=headline == "F1",
        )


def _bad(location: str, message: str, allowed: object) -> UserError:
    return UserError(message, location=location, hint=f"choose from: {', '.join(map(str, list(allowed)))}")  # type: ignore[call-overload]


def check_name(name: str, taken: Mapping[str, object] | tuple[str, ...]) -> None:
    """Check the name of a benchmark of one's own.

    Raises:
        UserError: It is not plain, or another benchmark or column has it.
    """
    hint = "give it another name (`name:` in its file)"
    if not NAME.fullmatch(name):
        raise UserError("the name may have letters, digits, - and _", location=f"benchmark {name!r}", hint=hint)
    folded = {each.casefold() for each in (*taken, *published_datasets(), *DIMENSIONS, "CEM", "F1", "parameters")}
    if name.casefold() in folded or name.casefold().startswith("mini-"):
        raise UserError("another benchmark has this name", location=f"benchmark {name!r}", hint=hint)


@cache
def published_datasets() -> Mapping[str, FurtherBenchmark]:
    """The further image benchmarks of the installed VLMEvalKit that belong to a family. Starts it once: seconds.

    Raises:
        UserError: VLMEvalKit is missing.
    """
    twelve = {spec.dataset for spec in SPECS}
    with tempfile.TemporaryDirectory() as folder:
        job = {"task": "datasets", "name": "VLMEvalKit", "tsv": "VLMEvalKit"}
        (result,) = client.run_jobs([job], Path(folder))
    return {
        name: FurtherBenchmark(
            entry["family"], headline=_headline_of(name, entry["family"]), dataset=name, md5=entry["md5"],
            url=entry["url"],
        )
        for name, entry in result["datasets"].items()
        if name not in twelve
    }  # fmt: skip


def _headline_of(dataset: str, family: str) -> str:
    """What VLMEvalKit's headline of one of its sets is called."""
    parts = {"TextVQA": "VQA accuracy", "ChartQA": "relaxed accuracy", "DocVQA": "ANLS", "InfoVQA": "ANLS"}
    if family == "short answer":
        return next((headline for part, headline in parts.items() if part in dataset), "accuracy")
    is_circular = RetentionSpec("", "", dataset, "choice", "", 0, 0, "", "", 0).is_circular
    return "circular accuracy" if family == "choice" and is_circular else "accuracy"


def published_benchmark(name: str, known: tuple[str, ...]) -> FurtherBenchmark:
    """One of VLMEvalKit's further benchmarks.

    Raises:
        UserError: There is none of that name, or VLMEvalKit is missing; suggests the nearest name.
    """
    found = published_datasets()
    if name in found:
        return found[name]
    raise UserError(
        f"there is no benchmark {name!r}",
        location="benchmarks",
        hint=f"{suggest(name, (*known, *found))}`python -m harness list` shows all; docs/benchmarks.md "
        "says how to add one",
    )
