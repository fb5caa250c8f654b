"""Scoring rules of LLaVA's own protocol, for the four benchmarks that KORE evaluated with LLaVA's scripts.

Source: LLaVA's evaluation scripts (haotian-liu/LLaVA, ``llava/eval``) and MME's ``calculation.py``, reimplemented from
their behaviour. MMBench was graded by a server, whose rule is VLMEvalKit's circular one. Runs in ``vlmeval.worker``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from string import ascii_uppercase

from benchmarks.vlmeval.prompts_llava import OPTION_LETTERS, options
from benchmarks.vlmeval.result import MME_GROUPS, EvaluationRun, ItemValues, ScoringResult, by_id, first_of_each, mean
from benchmarks.vlmeval.rules_vlmeval import RULES as VLMEVALKIT

POPE_SPLITS = ("random", "popular", "adversarial")


def _mme(run: EvaluationRun) -> ScoringResult:
    """Sum acc + acc+ over the 14 categories; an answer is read by "yes" or "no" in its first four letters."""
    table = run.read("")
    read = {question_id: mme_answer(answer) for question_id, answer in by_id(table, "prediction").items()}
    golds, categories = by_id(table, "answer"), by_id(table, "category")
    hits = {question_id: float(read[question_id] == gold.lower()) for question_id, gold in golds.items()}
    keys = zip(hits, zip(table["category"], table["image_path"], strict=True), strict=True)
    pairs = first_of_each((question_id, key, hits[question_id]) for question_id, key in keys)
    values: ItemValues = {question_id: {"acc": hit} for question_id, hit in hits.items()}
    for question_id, hit in pairs.items():
        values[question_id]["acc+"] = hit
    points = {
        name: sum(mean({i: hit for i, hit in part.items() if categories[i] == name}) for part in (hits, pairs))
        for name in dict.fromkeys(categories.values())
    }
    metrics = {"acc": mean(hits), "acc+": mean(pairs)} | {f"points/{name}": value for name, value in points.items()}
    for group, names in MME_GROUPS.items():
        metrics[f"points/{group}"] = sum(points.get(name, 0.0) for name in names)
    unread = {question_id for question_id, label in read.items() if label == "other"}
    return ScoringResult(sum(points.values()) / (200 * len(points)) * 100, metrics, values, unread)


def mme_answer(answer: str) -> str:
    """Read an answer as yes, no or other, like MME's ``calculation.py``."""
    start = answer.lower()[:4]
    return "yes" if "yes" in start else "no" if "no" in start else "other"


def _pope(run: EvaluationRun) -> ScoringResult:
    """Mean accuracy over the three splits, with F1 as a further metric; a question of several splits counts in each."""
    table = run.read("")
    said_yes = {question_id: pope_says_yes(answer) for question_id, answer in by_id(table, "prediction").items()}
    is_yes = {question_id: gold == "Yes" for question_id, gold in by_id(table, "answer").items()}
    splits = {question_id: split.split(",") for question_id, split in by_id(table, "category").items()}
    sizes = {name: sum(name in own for own in splits.values()) for name in POPE_SPLITS}
    present = {name: size for name, size in sizes.items() if size}
    metrics: dict[str, float] = {}
    for name in present:
        part = [i for i, own in splits.items() if name in own]
        metrics |= {f"{key}/{name}": value for key, value in _confusion(part, said_yes, is_yes).items()}
    for key in ("acc", "F1", "precision", "recall", "yes_ratio"):
        metrics[key] = sum(metrics[f"{key}/{name}"] for name in present) / len(present)
    smallest = min(present.values())
    values: ItemValues = {
        i: {
            "score": float(said_yes[i] == is_yes[i]),
            "weight": sum(smallest / present[name] for name in own if name in present) / len(present),
        }
        for i, own in splits.items()
    }
    return ScoringResult(metrics["acc"], metrics, values)


def pope_says_yes(answer: str) -> bool:
    """Read an answer like LLaVA's ``eval_pope.py``: yes unless it has "no" or "not" before its first dot.

    The script has no third verdict, so an empty answer is a yes.
    """
    return not {"No", "not", "no"} & set(answer.split(".")[0].replace(",", "").split(" "))


def _confusion(part: list[str], said_yes: Mapping[str, bool], is_yes: Mapping[str, bool]) -> dict[str, float]:
    both = sum(said_yes[i] and is_yes[i] for i in part)
    predicted, actual = sum(said_yes[i] for i in part), sum(is_yes[i] for i in part)
    right = sum(said_yes[i] == is_yes[i] for i in part)
    return {
        "acc": 100 * right / len(part),
        "F1": 200 * both / (predicted + actual) if predicted + actual else 0.0,
        "precision": 100 * both / predicted if predicted else 0.0,
        "recall": 100 * both / actual if actual else 0.0,
        "yes_ratio": 100 * predicted / len(part),
    }


def _science(run: EvaluationRun) -> ScoringResult:
    """Accuracy on questions with a picture: the script's IMG-Accuracy."""
    table = run.read("")
    values: ItemValues = {}
    unread: set[str] = set()
    for row in table.to_dict("records"):
        letter = science_answer(row["prediction"])
        question_id = str(row["index"])
        values[question_id] = {"acc": float(letter in options(run.spec, row) and letter == row["answer"])}
        if not letter:
            unread.add(question_id)
    hits = {question_id: value["acc"] for question_id, value in values.items()}
    return ScoringResult(mean(hits), {"acc": mean(hits)}, values, unread)


def science_answer(answer: str) -> str:
    """The option letter that LLaVA's ``eval_science_qa.py`` reads, or an empty string."""
    letters = OPTION_LETTERS["ScienceQA"]
    if answer and answer in tuple(letters):
        return answer
    if len(answer) >= 3 and answer[0] in letters and answer[1:3] == ". ":
        return answer[0]
    matches = re.findall(rf"The answer is ([{ascii_uppercase}]).", answer)
    return matches[0] if len(matches) == 1 else ""


RULES: dict[str, Callable[[EvaluationRun], ScoringResult]] = {
    "MME": _mme,
    "MMBench": VLMEVALKIT["choice"],
    "POPE": _pope,
    "ScienceQA": _science,
}
