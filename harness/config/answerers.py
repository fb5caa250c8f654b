"""Models behind an endpoint that answer a run's questions, each as a row, and what they may cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from benchmarks.errors import UserError
from harness.config.row_names import ROW_NAME

PREFIX = "openai:"
"""Any endpoint with OpenAI's chat completions API; ``OPENAI_BASE_URL`` says which."""


@dataclass(frozen=True)
class Answerers:
    """What ``--answerer`` and its budget say.

    Args:
        models: The endpoint's name of the model, by the name of its row; in ``compare`` with ``openai:`` before it.
        budget_tokens: Most tokens that one command may use, prompts and answers of all models together.
        budget_money: Most money, at ``price``.
        price: Money for a million tokens of prompts and for a million of answers.
    """

    models: Mapping[str, str] = field(default_factory=dict)
    budget_tokens: int | None = None
    budget_money: float | None = None
    price: tuple[float, float] = (0.0, 0.0)


def parse_answerers(texts: Iterable[str]) -> dict[str, str]:
    """Parse ``NAME=openai:MODEL``.

    Raises:
        UserError: One is not of this form, or a name is given twice.
    """
    models: dict[str, str] = {}
    for text in texts:
        name, _, answerer = text.partition("=")
        if not ROW_NAME.fullmatch(name) or not answerer.startswith(PREFIX) or answerer == PREFIX:
            hint = f"write --answerer NAME={PREFIX}MODEL; the name has letters, digits, - and _"
            raise UserError("this is no name and model", location=f"--answerer {text}", hint=hint)
        if name in models:
            raise UserError("two rows have this name", location=f"--answerer {text}", hint="give each its own name")
        models[name] = answerer.removeprefix(PREFIX)
    return models
