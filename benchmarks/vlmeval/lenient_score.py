"""The lenient number beside the official one: the same rule, given what ``lenient_reading`` finds in each answer.

Runs in ``vlmeval.worker``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from string import ascii_uppercase
from typing import Any

from benchmarks.vlmeval.lenient_reading import read_choice, read_yes_no
from benchmarks.vlmeval.result import EvaluationRun, ScoringResult, mean

FAMILIES = ("yes-no", "choice")
_ITEM = ("acc", "aAcc", "score")
"""What says whether a single answer is right, by the name that its benchmark gives it."""


def add_lenient_number(
    result: ScoringResult, run: EvaluationRun, rule: Callable[[EvaluationRun], ScoringResult]
) -> None:
    """Score again with each answer replaced by the option, or the yes or no, that it states; the rest stays as it is.

    Adds ``acc_lenient``, the share of right answers (item by item, too), ``headline_lenient``, the headline that the
    official rule makes of them, and ``unparsed_lenient``, the share that is still unread. Never changes another number.
    """
    lenient = rule(_lenient_run(run))
    right = {
        question_id: values[name]
        for question_id, values in lenient.values.items()
        for name in [next(name for name in _ITEM if name in values)]
    }
    for question_id, value in right.items():
        result.values[question_id]["acc_lenient"] = value
    result.metrics["acc_lenient"] = mean(right)
    result.metrics["unparsed_lenient"] = 100 * len(lenient.unread) / len(right)
    if lenient.headline is not None:
        result.metrics["headline_lenient"] = lenient.headline


def _lenient_run(run: EvaluationRun) -> EvaluationRun:
    """The same evaluation without a judge, in a folder of its own."""
    second = replace(run, folder=run.folder / "lenient", judge="")
    second.folder.mkdir()
    table = run.read("")
    table["prediction"] = [_reading(run, row) for row in table.to_dict("records")]
    run.kit.files.dump(table, str(second.folder / "run.tsv"))
    return second


def _reading(run: EvaluationRun, row: dict[str, Any]) -> str:
    """What an answer states, or the answer itself if that cannot be said; open questions have no options."""
    answer = str(row["prediction"])
    if run.spec.family == "yes-no":
        return read_yes_no(answer) or answer
    options = {name: str(row[name]) for name in ascii_uppercase if name in row and row[name] == row[name]}
    return read_choice(answer, {name: text for name, text in options.items() if text}) or answer
