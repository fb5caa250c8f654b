"""LLaVA's own protocol for the four benchmarks that KORE ran with LLaVA's scripts: its prompts and its rules.

Source: LLaVA's evaluation scripts (haotian-liu/LLaVA, ``llava/eval`` and ``scripts/v1_5/eval``) and MME's
``calculation.py``, rewritten from what they do. They read files of their own; here the same questions come from
VLMEvalKit's tables. MMBench was graded by a server, whose rule is VLMEvalKit's circular one. Runs in
``vlmeval.worker``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from string import ascii_uppercase
from typing import Any

from benchmarks.retention_specs import RetentionSpec
from benchmarks.vlmeval.result import MME_GROUPS, Run, ScoringResult, Values, by_id, first_of_each, mean
from benchmarks.vlmeval.rules_vlmeval import RULES as VLMEVALKIT

SHORT = "Answer the question using a single word or phrase."
LETTER = "Answer with the option's letter from the given choices directly."
POPE_SPLITS = ("random", "popular", "adversarial")
_INSTRUCTION = re.compile(r"\s*Please answer yes or no\.\s*$")
_CHOICES = {"MMBench": "ABCD", "ScienceQA": "ABCDE"}


def prompt(spec: RetentionSpec, row: Any) -> str:
    """What LLaVA's scripts ask below the picture."""
    question = str(row["question"])
    if spec.family == "yes-no":  # its question files lack the instruction that the table's questions end with
        return f"{_INSTRUCTION.sub('', question)}\n{SHORT}"
    hint = row.get("hint")
    if isinstance(hint, str) and hint.strip().lower() not in ("", "nan", "none"):
        question = f"Context: {hint}\n{question}" if spec.name == "ScienceQA" else f"{hint}\n{question}"
    lines = [f"{letter}. {text}" for letter, text in options(spec, row).items()]
    return "\n".join([question, *lines, LETTER])


def options(spec: RetentionSpec, row: Any) -> dict[str, str]:
    """Options by letter up to the first that is missing. MMBench's script takes the words None and nan for missing."""
    found: dict[str, str] = {}
    for letter in _CHOICES[spec.name]:
        text = row.get(letter)
        if not isinstance(text, str) or (spec.name == "MMBench" and text.lower() in ("nan", "none")):
            break
        found[letter] = text
    return found


def _mme(run: Run) -> ScoringResult:
    """Each of the 14 categories gives acc + acc+; an answer counts by "yes" or "no" in its first four letters."""
    table = run.read("")
    read = {question_id: mme_answer(said) for question_id, said in by_id(table, "prediction").items()}
    golds, categories = by_id(table, "answer"), by_id(table, "category")
    hits = {question_id: float(read[question_id] == gold.lower()) for question_id, gold in golds.items()}
    keys = zip(hits, zip(table["category"], table["image_path"], strict=True), strict=True)
    pairs = first_of_each((question_id, key, hits[question_id]) for question_id, key in keys)
    values: Values = {question_id: {"acc": hit} for question_id, hit in hits.items()}
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


def mme_answer(said: str) -> str:
    """Yes, no or other, as MME's ``calculation.py`` reads an answer."""
    start = said.lower()[:4]
    return "yes" if "yes" in start else "no" if "no" in start else "other"


def _pope(run: Run) -> ScoringResult:
    """Mean accuracy of the three splits; a question of several splits counts in each. F1 stands beside it."""
    table = run.read("")
    said_yes = {question_id: pope_says_yes(said) for question_id, said in by_id(table, "prediction").items()}
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
    least = min(present.values())
    values: Values = {
        i: {
            "score": float(said_yes[i] == is_yes[i]),
            "weight": sum(least / present[name] for name in own if name in present) / len(present),
        }
        for i, own in splits.items()
    }
    return ScoringResult(metrics["acc"], metrics, values)


def pope_says_yes(said: str) -> bool:
    """As LLaVA's ``eval_pope.py`` reads an answer: everything is yes that holds no "no" or "not" before its first dot.

    There is no third verdict, so an empty answer is a yes.
    """
    return not {"No", "not", "no"} & set(said.split(".")[0].replace(",", "").split(" "))


def _confusion(part: list[str], said_yes: Mapping[str, bool], is_yes: Mapping[str, bool]) -> dict[str, float]:
    both = sum(said_yes[i] and is_yes[i] for i in part)
    said, wanted = sum(said_yes[i] for i in part), sum(is_yes[i] for i in part)
    right = sum(said_yes[i] == is_yes[i] for i in part)
    return {
        "acc": 100 * right / len(part),
        "F1": 200 * both / (said + wanted) if said + wanted else 0.0,
        "precision": 100 * both / said if said else 0.0,
        "recall": 100 * both / wanted if wanted else 0.0,
        "yes_ratio": 100 * said / len(part),
    }


def _science(run: Run) -> ScoringResult:
    """Accuracy on the questions with a picture: the script's IMG-Accuracy."""
    table = run.read("")
    values: Values = {}
    unread: set[str] = set()
    for row in table.to_dict("records"):
        letter = science_answer(row["prediction"])
        question_id = str(row["index"])
        values[question_id] = {"acc": float(letter in options(run.spec, row) and letter == row["answer"])}
        if not letter:
            unread.add(question_id)
    hits = {question_id: value["acc"] for question_id, value in values.items()}
    return ScoringResult(mean(hits), {"acc": mean(hits)}, values, unread)


def science_answer(said: str) -> str:
    """The letter that LLaVA's ``eval_science_qa.py`` reads, or nothing."""
    letters = _CHOICES["ScienceQA"]
    if said and said in tuple(letters):
        return said
    if len(said) >= 3 and said[0] in letters and said[1:3] == ". ":
        return said[0]
    found = re.findall(rf"The answer is ([{ascii_uppercase}]).", said)
    return found[0] if len(found) == 1 else ""


RULES: dict[str, Callable[[Run], ScoringResult]] = {
    "MME": _mme,
    "MMBench": VLMEVALKIT["choice"],
    "POPE": _pope,
    "ScienceQA": _science,
}
