"""What ``augment`` may be asked for."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from benchmarks.errors import UserError
from harness.augment.builder import Kind
from harness.llm.budget import Price


@dataclass(frozen=True)
class Options:
    """What ``augment`` was asked for; the command line says what each means."""

    knowledge: Path
    out: Path
    kind: Kind = "tree"
    generator: str = "rule"
    images: str = "own"
    clip: Path | None = None
    alike: float = -1.0
    check: str = "text"
    negatives: bool = False
    relations: bool = False
    evaluation: Path | None = None
    seed: int = 0
    cache: Path | None = None
    workers: int = 8
    budget_tokens: int | None = None
    budget_money: float | None = None
    price: Price = dataclasses.field(default_factory=Price)
    limit: int | None = None

    @property
    def made_by(self) -> dict[str, Any]:
        """How, without a path."""
        kinds = {name: _named(getattr(self, name)) for name in ("generator", "images", "check")}
        return {"kind": self.kind, **kinds, "negatives": self.negatives, "relations": self.relations, "seed": self.seed}


def kind_named(text: str) -> Kind:
    """The kind of training data.

    Raises:
        UserError: There is none of that name.
    """
    kinds: tuple[Kind, ...] = get_args(Kind)
    for kind in kinds:
        if kind == text:
            return kind
    near = difflib.get_close_matches(text, kinds, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UserError(
        f"no training data is called {text!r}", location="--as", hint=f"{hint}choose from {', '.join(kinds)}"
    )


def price_of(text: str) -> Price:
    """``2.5,10``: money for a million prompt tokens and for a million reply tokens.

    Raises:
        UserError: It is nothing of the kind.
    """
    try:
        prompt, completion = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UserError("this is no price", location=f"--price {text}", hint="write --price 2.5,10") from error
    if not 0 <= min(prompt, completion) <= max(prompt, completion) < float("inf"):
        raise UserError(
            "a price cannot be negative or endless", location=f"--price {text}", hint="write --price 2.5,10"
        )
    return Price(prompt, completion)


def _named(value: str) -> str:
    """``local:/a/b/model`` without the way to it."""
    kind, _, rest = value.partition(":")
    return f"{kind}:{Path(rest).name}" if rest and kind != "openai" else value
