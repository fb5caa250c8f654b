"""The options of ``augment``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from benchmarks.errors import UserError, suggest
from harness.augment.builder import Kind
from harness.llm.budget import Price


@dataclass(frozen=True)
class Options:
    """The options of ``augment``; ``harness augment --help`` explains them."""

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
    price: Price = field(default_factory=Price)
    limit: int | None = None

    @property
    def made_by(self) -> dict[str, Any]:
        """What determines the data, without paths."""
        components = {name: _without_path(getattr(self, name)) for name in ("generator", "images", "check")}
        flags = {"negatives": self.negatives, "relations": self.relations, "seed": self.seed}
        return {"kind": self.kind, **components, **flags}


def parse_kind(text: str) -> Kind:
    """The kind of training data.

    Raises:
        UserError: There is no such kind.
    """
    kinds: tuple[Kind, ...] = get_args(Kind)
    for kind in kinds:
        if kind == text:
            return kind
    hint = f"{suggest(text, kinds)}choose from {', '.join(kinds)}"
    raise UserError(f"there is no kind of training data named {text!r}", location="--as", hint=hint)


def parse_price(text: str) -> Price:
    """A price such as ``2.5,10``: money for a million prompt tokens and for a million reply tokens.

    Raises:
        UserError: It cannot be parsed, or is negative or infinite.
    """
    location, hint = f"--price {text}", "write --price 2.5,10"
    try:
        prompt, completion = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UserError("not a price", location=location, hint=hint) from error
    if not 0 <= min(prompt, completion) <= max(prompt, completion) < float("inf"):
        raise UserError("a price cannot be negative or infinite", location=location, hint=hint)
    return Price(prompt, completion)


def _without_path(value: str) -> str:
    """``local:/a/b/model`` as ``local:model``."""
    kind, _, rest = value.partition(":")
    return f"{kind}:{Path(rest).name}" if rest and kind != "openai" else value
