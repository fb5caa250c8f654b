"""VLMEvalKit's scoring rules for benchmarks beyond the twelve. Runs in ``vlmeval.worker``."""

from __future__ import annotations

from typing import Any

from benchmarks.vlmeval.result import EvaluationRun, ItemValues, ScoringResult, by_id, mean

METHODS = {
    "vqa_score": ("TextVQA",),
    "relaxed_accuracy": ("ChartQA",),
    "accuracy": ("OCRVQA", "GQA"),
    "anls": ("DocVQA", "InfoVQA"),
}
"""How short answers are compared, by parts of a data set's name. Source: ``ImageVQADataset.evaluate_heuristic``."""


def yes_no(run: EvaluationRun, table: Any, hits: dict[str, float], unread: set[str]) -> ScoringResult:
    """Accuracy, and the F1 of "Yes", for which an unreadable answer counts as "No" as in POPE."""
    is_yes = {i: float(answer == "Yes") for i, answer in by_id(table, "answer").items()}
    said_yes = {i: float(answer == "Yes") for i, answer in by_id(table, "extracted").items()}
    claimed = sum(is_yes.values()) + sum(said_yes.values())
    f1 = 200 * sum(is_yes[i] * said_yes[i] for i in is_yes) / claimed if claimed else 0.0
    values: ItemValues = {i: {"acc": hit} for i, hit in hits.items()}
    if run.spec.uses_f1:
        values = {i: {**value, "is_yes": is_yes[i], "said_yes": said_yes[i]} for i, value in values.items()}
    metrics = {"acc": mean(hits), "F1": f1}
    return ScoringResult(metrics["F1" if run.spec.uses_f1 else "acc"], metrics, values, unread)


def short_answer_hit(run: EvaluationRun, row: Any) -> float:
    """The value of one short answer, from 0 to 1, as VLMEvalKit counts it for this data set."""
    dataset = run.spec.dataset
    method = next((name for name, parts in METHODS.items() if any(part in dataset for part in parts)), "vqa_score")
    line = run.kit.vqa_rules.process_line(row, method=method)
    return float(run.kit.vqa_rules.hit_calculate([line], dataset)[0])


def open_answer(run: EvaluationRun) -> ScoringResult:
    """The mean of a judge's grades by MM-Vet's prompt, each from 0 to 1; an unreadable reply counts as 0 (its rule)."""
    judge = run.kit.vqa.build_judge(max_tokens=3)
    table = run.read("")
    values: ItemValues = {}
    unread: set[str] = set()
    for i in range(len(table)):
        reply = run.kit.mmvet.MMVet_auxeval(judge, table.iloc[i])
        question_id = str(table.iloc[i]["index"])
        values[question_id] = {"grade": float(reply["score"])}
        if not reply["log"].endswith("Succeed"):
            unread.add(question_id)
    grade = mean({question_id: value["grade"] for question_id, value in values.items()})
    coverage = 100 * (1 - len(unread) / len(values))
    notes = [f"{len(unread)} of {len(values)} replies of the judge could not be read and count as 0"] if unread else []
    return ScoringResult(grade, {"grade": grade, "coverage": coverage}, values, unread, notes)
