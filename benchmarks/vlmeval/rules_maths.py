"""Scoring rules of MathVista and MathVision, and of MMMU's open questions: as published, and corrected.

Each published rule is VLMEvalKit's own evaluation. The corrected one is a second evaluation with other functions for
reading an answer, so that a judge is asked about what the corrected rule cannot read. Runs in ``vlmeval.worker``.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from benchmarks.vlmeval.options import options_of, read_option
from benchmarks.vlmeval.published_rule import answers_equal_as_published
from benchmarks.vlmeval.result import EvaluationRun, ItemValues, ScoringResult, by_id, mean
from benchmarks.vlmeval.safe_literal import parse_literal
from benchmarks.vlmeval.values import answers_equal, read_value


def mathvista(run: EvaluationRun) -> ScoringResult:
    """VLMEvalKit's accuracy, and beside it a corrected one that follows MathVista's authors on numbers."""
    module = run.kit.mathvista
    metrics = _accuracies(run.evaluate(), "Task&Skill")
    table = run.read(f"_{run.model}")
    hits = _verdicts(table, module.post_check)

    def check(line: Any, prefetch: bool = False) -> str | bool:
        return mathvista_verdict(line, run.kit.matching.can_infer_option, prefetch)

    corrected = _second_verdicts(run, module, "corrected", post_check=check)
    values: ItemValues = {i: {"acc": hits[i], "acc_corrected": corrected[i]} for i in hits}
    metrics["acc_corrected"] = mean(corrected)
    notes = []
    if corrected != hits:
        notes.append(
            f"acc_corrected differs from VLMEvalKit's rule on {_differences(hits, corrected)} of {len(hits)} answers: "
            "it counts lists and texts, reads numbers as the authors' script does, and options as whole words"
        )
    return ScoringResult(metrics["acc"], metrics, values, _unread(table), notes)


def mathvista_verdict(line: Any, standing_letter: Callable[..., Any], prefetch: bool) -> str | bool:
    """Replaces VLMEvalKit's ``post_check``: whether the reply is right, or with ``prefetch`` what needs no judge.

    Source: MathVista's ``evaluation/calculate_score.py`` for numbers (an integer is cut off, a decimal number rounded
    to the row's precision) and for misspelt options.
    """
    response = line["prediction" if prefetch else "res"]
    if line["question_type"] == "multi_choice":
        letter = read_option(response, options_of(line["choices"]), standing_letter)
        return letter if prefetch else letter == line["answer_option"]
    right = _right_value(line, str(response))
    return str(response) if right and prefetch else right


def _right_value(line: Any, response: str) -> bool:
    gold = str(line["answer"])
    if line["answer_type"] not in ("integer", "float"):
        return _same(response, gold)
    read, expected = read_value(response), read_value(gold)
    if read is None or expected is None:
        return False
    if line["answer_type"] == "integer":
        return any(int(number) == int(expected.number) for number in read.readings)
    digits = _precision(line, gold)
    return any(round(number, digits) == round(expected.number, digits) for number in read.readings)


def _precision(line: Any, gold: str) -> int:
    """Decimals that are asked for: of the table's column ``precision``, else of the gold."""
    try:
        return int(float(line.get("precision", "")))
    except (TypeError, ValueError):
        return len(gold.partition(".")[2].strip())


def _same(answer: str, gold: str) -> bool:
    try:
        return parse_literal(answer) == parse_literal(gold)
    except SyntaxError:
        return answer.strip().lower() == gold.strip().lower()


def mathvision(run: EvaluationRun) -> ScoringResult:
    """Accuracy compared as values and options, and beside it VLMEvalKit's rule (without executing any text)."""
    module = run.kit.mathv

    def can_infer(answer: object, options: Mapping[str, str]) -> str | bool:
        return read_option(answer, options, run.kit.matching.can_infer_option)

    published = _second_verdicts(run, module, "published", is_equal=answers_equal_as_published)
    original = module.can_infer
    module.can_infer = can_infer
    try:
        metrics = _accuracies(run.evaluate(), "Subject")
        table = run.read(f"_{run.model}")
        hits = _verdicts(table, module.post_check)
    finally:
        module.can_infer = original
    values: ItemValues = {i: {"acc": hits[i], "acc_published": published[i]} for i in hits}
    metrics["acc_published"] = mean(published)
    notes = []
    if published != hits:
        notes.append(
            f"the published rule, by which 'A' equals any number, differs on {_differences(hits, published)} of "
            f"{len(hits)} answers"
        )
    return ScoringResult(metrics["acc"], metrics, values, _unread(table), notes)


def correct_open_questions(run: EvaluationRun, result: ScoringResult) -> None:
    """Add MMMU's ``acc_corrected``, which reads the answer to a question without options as text.

    VLMEvalKit rewrites such a question to the options "A: the gold" and "B: Other Answers", so that "A" is always right
    and a gold that is itself a capital letter hardly ever is.
    """
    table = run.read("")
    rows = [row for row in table.to_dict("records") if not isinstance(row.get("A"), str)]
    if not rows:
        return
    corrected = {question_id: value["acc"] for question_id, value in result.values.items()}
    for row in rows:
        corrected[str(row["index"])] = float(states(str(row["prediction"]), str(row["answer"])))
    for question_id, hit in corrected.items():
        result.values[question_id]["acc_corrected"] = hit
    result.metrics["acc_corrected"] = mean(corrected)
    changed = sum(value["acc"] != value["acc_corrected"] for value in result.values.values())
    if changed:
        result.notes.append(
            f"{len(rows)} questions have no options; acc_corrected reads their answers as text and differs on {changed}"
        )


def states(answer: str, gold: str) -> bool:
    """Whether an answer is the gold, or one of a list of golds, or contains it as whole words.

    A gold that is a single letter must occur with its case: "C" is not stated by "a c".
    """
    try:
        parsed = parse_literal(gold)
    except SyntaxError:
        parsed = gold
    golds = [str(each) for each in parsed] if isinstance(parsed, list) else [gold]
    for each in golds:
        flags = re.NOFLAG if len(each.strip()) == 1 else re.IGNORECASE
        if answers_equal(answer, each) or re.search(rf"(?<![\w.-]){re.escape(each.strip())}(?!\w|\.\d)", answer, flags):
            return True
    return False


def _second_verdicts(
    run: EvaluationRun, module: Any, name: str, **functions: Callable[..., object]
) -> dict[str, float]:
    """The verdicts of an evaluation in a folder of its own with some of the module's functions replaced."""
    second_run = replace(run, folder=run.folder / name)
    second_run.folder.mkdir()
    shutil.copyfile(run.folder / "run.tsv", second_run.folder / "run.tsv")
    originals = {function: getattr(module, function) for function in functions}
    vars(module).update(functions)
    try:
        second_run.evaluate()
        return _verdicts(second_run.read(f"_{run.model}"), module.post_check)
    finally:
        vars(module).update(originals)


def _accuracies(frame: Any, column: str) -> dict[str, float]:
    """Accuracies by subject, and the overall one as "acc"."""
    metrics = {f"acc/{row[column]}": float(row["acc"]) for row in frame.to_dict("records")}
    metrics["acc"] = metrics.pop("acc/Overall")
    return metrics


def _verdicts(table: Any, check: Callable[[Any], object]) -> dict[str, float]:
    """VLMEvalKit's own verdict on each row, by question id."""
    return {str(table.iloc[i]["index"]): float(bool(check(table.iloc[i]))) for i in range(len(table))}


def _differences(one: Mapping[str, float], other: Mapping[str, float]) -> int:
    return sum(one[question_id] != other[question_id] for question_id in one)


def _unread(table: Any) -> set[str]:
    return {question_id for question_id, read in by_id(table, "res").items() if not str(read).strip()}
