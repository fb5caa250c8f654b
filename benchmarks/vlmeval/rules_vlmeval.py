"""VLMEvalKit's scoring rules: its ``evaluate`` gives the metrics, its files and functions the values of single items.

Runs in ``vlmeval.worker``. An item has a metric's value if it is that metric's unit: all of HallusionBench's questions
have aAcc, the first question of each figure has fAcc. So a metric is the mean over the items that have it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from benchmarks.vlmeval import rules_further, rules_maths
from benchmarks.vlmeval.adapter import UNREAD
from benchmarks.vlmeval.result import (
    MME_GROUPS,
    EvaluationRun,
    ItemValues,
    ScoringResult,
    by_id,
    first_of_each,
    mean,
    numeric_columns,
)


def _yes_no(run: EvaluationRun) -> ScoringResult:
    result = run.evaluate().to_dict("records")
    table = run.read("_auxmatch")
    hits = {question_id: float(bool(hit)) for question_id, hit in by_id(table, "score").items()}
    unread = {question_id for question_id, answer in by_id(table, "extracted").items() if answer == "Unknown"}
    if run.spec.further:
        return rules_further.yes_no(run, table, hits, unread)
    if run.spec.name == "MME":
        return _mme(result[0], table, hits, unread)
    if run.spec.name == "POPE":
        return _pope(result, table, hits, unread)
    return _hallusion(result, table, hits, unread)


def _mme(result: dict[str, float], table: Any, hits: dict[str, float], unread: set[str]) -> ScoringResult:
    present = [name for names in MME_GROUPS.values() for name in names if name in set(table["category"])]
    raw = result["perception"] + result["reasoning"]
    groups = zip(table["category"], table["image_path"], strict=True)
    pairs = first_of_each((i, group, hits[i]) for i, group in zip(table["index"].astype(str), groups, strict=True))
    values: ItemValues = {i: {"acc": hit} for i, hit in hits.items()}
    for question_id, hit in pairs.items():
        values[question_id]["acc+"] = hit
    metrics = {"acc": mean(hits), "acc+": mean(pairs), **numeric_columns(result, 1.0, "points")}
    return ScoringResult(raw / (200 * len(present)) * 100, metrics, values, unread)


def _pope(result: list[dict[str, Any]], table: Any, hits: dict[str, float], unread: set[str]) -> ScoringResult:
    rows = {row["split"]: row for row in result}
    metrics = {"F1": rows["Overall"]["Overall"]}
    for split, row in rows.items():
        part = "" if split == "Overall" else f"/{split}"
        metrics |= {f"F1{part}": row["Overall"]} | {f"{m}{part}": row[m] for m in ("acc", "precision", "recall")}
    is_yes, said_yes = by_id(table, "answer"), by_id(table, "extracted")
    values = {
        i: {"acc": hit, "is_yes": float(is_yes[i] == "Yes"), "said_yes": float(said_yes[i] == "Yes")}
        for i, hit in hits.items()
    }
    return ScoringResult(metrics["F1"], metrics, values, unread)


def _hallusion(result: list[dict[str, Any]], table: Any, hits: dict[str, float], unread: set[str]) -> ScoringResult:
    metrics: dict[str, float] = {}
    for row in result:
        part = "" if row["split"] == "Overall" else f"/{row['split']}"
        metrics |= {f"{name}{part}": float(row[name]) for name in ("aAcc", "fAcc", "qAcc")}
    values: ItemValues = {i: {"aAcc": hit} for i, hit in hits.items()}
    wide = by_id(table, "l2-category")
    for name, place in (("fAcc", 4), ("qAcc", 5)):
        keyed = ((i, (wide[i], i.split("_")[3], i.split("_")[place]), hit) for i, hit in hits.items())
        for question_id, hit in first_of_each(keyed).items():
            values[question_id][name] = hit
    return ScoringResult(sum(metrics[name] for name in ("aAcc", "fAcc", "qAcc")) / 3, metrics, values, unread)


def _choice(run: EvaluationRun) -> ScoringResult:
    frame = run.evaluate()
    rows = {row["split"]: row for row in frame.to_dict("records")}
    row = rows[run.spec.split] if run.spec.split in rows else next(iter(rows.values()))
    table, read = run.read(""), {}
    single, asked = _without_rotations(table) if run.spec.is_circular else (0, 0)
    name = "circular" if single < asked else "acc"
    metrics = numeric_columns(row, 100.0, name)
    metrics[name] = metrics.pop(f"{name}/Overall")
    if run.spec.name == "MMMU":
        table = run.kit.mcq_rules.MMMU_preproc(table)
    judge = run.kit.mcq.build_judge() if run.judge else None  # None: by the rule alone
    for i in range(len(table)):
        row = table.iloc[i]
        read[str(row["index"])] = run.kit.mcq_rules.extract_answer_from_item(judge, row, run.spec.dataset)["opt"]
    unread = {question_id for question_id, letter in read.items() if letter == UNREAD}
    hits = {i: float(hit) for i, hit in by_id(run.read(f"_{run.model}_result"), "hit").items()}
    values: ItemValues = {i: {name: hit} for i, hit in hits.items()}
    if len(rows) > 1 and not run.spec.split:
        metrics = {name: mean(hits)}  # VLMEvalKit gives one number for each split
    if name == "circular":
        for question_id, letter in by_id(table, "answer").items():
            values.setdefault(question_id, {})["acc"] = float(read[question_id] == letter)
        metrics["acc"] = 100 * sum(value["acc"] for value in values.values()) / len(values)
    result = ScoringResult(metrics[name], metrics, values, unread, _rotation_notes(single, asked))
    if run.spec.name == "MMMU":
        rules_maths.correct_open_questions(run, result)
    return result


def _without_rotations(table: Any) -> tuple[int, int]:
    """How many questions of a circular table have a single row, and how many questions there are.

    VLMEvalKit's rule: the column ``g_index`` names a row's question, or without it the index modulo 1,000,000.
    """
    indices = [int(index) for index in table["index"]]
    groups = [int(group) for group in table["g_index"]] if "g_index" in table else [i % 1_000_000 for i in indices]
    rows = Counter(groups)
    asked = {index for index, group in zip(indices, groups, strict=True) if index == group}
    return sum(rows[index] == 1 for index in asked), len(asked)


def _rotation_notes(single: int, asked: int) -> list[str]:
    if not single:
        return []
    if single == asked:
        return ["no question of the table has rotations of its options: this is plain accuracy, not circular accuracy"]
    return [f"{single} of {asked} questions have no rotations of their options: each counts by its one answer"]


def _short_answer(run: EvaluationRun) -> ScoringResult:
    result = run.evaluate().to_dict("records")[0]
    table = run.read("_results")
    values: ItemValues = {}
    for i in range(len(table)):
        values[str(table.iloc[i]["index"])] = {"acc": rules_further.short_answer_hit(run, table.iloc[i])}
    metrics = numeric_columns(result, 1.0, "acc")
    metrics["acc"] = metrics.pop("acc/Overall")
    return ScoringResult(metrics["acc"], metrics, values)


def _mia(run: EvaluationRun) -> ScoringResult:
    result = run.evaluate()
    table = run.read(f"_{run.model}")
    values: ItemValues = {}
    unread: set[str] = set()
    for row in table.to_dict("records"):
        try:
            kinds = row["component_type"][2:-2].split("', '")
            read = run.kit.mia.process_rawscore(kinds, row["score_raw"])
        except (
            LookupError,
            ValueError,
            ZeroDivisionError,
            NameError,
        ):  # VLMEvalKit leaves a name unset for a sentence without commas
            unread.add(str(row["index"]))
            continue
        values[str(row["index"])] = {"total_score": float(read["total_score"])}
    metrics = {f"component/{name}": 100 * float(value) for name, value in result.items()}
    metrics["total_score"] = metrics.pop("component/total_score", 0.0)
    metrics["coverage"] = 100 * len(values) / len(table)
    notes = [f"{len(unread)} of {len(table)} replies of the judge could not be read"] if unread else []
    return ScoringResult(metrics["total_score"] if values else None, metrics, values, unread, notes)


def _mmdu(run: EvaluationRun) -> ScoringResult:
    try:
        frame = run.evaluate()
    except ZeroDivisionError:  # VLMEvalKit raises this if no reply could be read
        return ScoringResult(None, {"coverage": 0.0}, {}, notes=["no reply of the judge could be read"])
    rows = {row["set"]: row for row in frame.to_dict("records")}
    metrics = numeric_columns(rows["all"], 1.0, "all") | numeric_columns(rows["valid"], 1.0, "valid")
    headline = metrics["all/Overall Score"]
    graded = run.kit.files.load(str(run.folder / f"run_{run.model}.pkl"))
    values: ItemValues = {}
    verdicts: list[int | None] = []
    for index, dialogue in graded.items():
        table = dialogue["res"]
        grades = [_grade(value) for value in table.get("Overall Score", [None] * len(table))]
        values[str(index)] = {"Overall Score": sum(grade or 0 for grade in grades) / (10 * len(grades))}
        verdicts += grades
    notes = []
    if None in verdicts:
        unreadable = verdicts.count(None)
        notes.append(f"{unreadable} of {len(verdicts)} replies of the judge could not be read and count as 0")
        metrics["coverage"] = 100 * (1 - unreadable / len(verdicts))
    return ScoringResult(headline, metrics, values, notes=notes)


def _grade(value: Any) -> int | None:
    """A grade from 0 to 10 as VLMEvalKit reads it, or None if the value is not a grade."""
    try:
        return min(max(int(value), 0), 10)
    except (TypeError, ValueError, OverflowError):
        return None


RULES: dict[str, Callable[[EvaluationRun], ScoringResult]] = {
    "yes-no": _yes_no,
    "choice": _choice,
    "short answer": _short_answer,
    "mathvista": rules_maths.mathvista,
    "mathvision": rules_maths.mathvision,
    "mia": _mia,
    "mmdu": _mmdu,
    "open": rules_further.open_answer,
}
