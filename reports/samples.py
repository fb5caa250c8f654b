"""The sample browser's data: for each question the picture, the reference and every method's answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from benchmarks.records import IMAGE
from reports import summary
from reports.estimates import Analysis
from reports.headlines import item_score
from reports.run import ItemResult, QuestionEntry
from reports.text import plain

BUDGET = 2_000_000
"""Bytes of the page that samples may take, pictures included."""
LONGEST_ANSWER, LONGEST_QUESTION = 500, 900


def samples(analysis: Analysis, budget: int = BUDGET) -> dict[str, Any]:
    """A plain structure for the page's script. Where not all questions fit, a fixed choice from every benchmark.

    Answers and values are those of each row's first finished seed.
    """
    rows = [number for number, row in enumerate(analysis.rows) if row.usable]
    answers = [_answers(analysis, number) for number in rows]
    items: list[dict[str, Any]] = []
    pictures: dict[str, str] = {}
    total, spent = 0, 0
    for question in _round_robin(analysis):
        key = (question.benchmark, question.id)
        if not any(key in found for found in answers):
            continue
        total += 1
        if spent > budget:
            continue
        item = _item(question, [found.get(key) for found in answers])
        fresh = {name: analysis.run.pictures[name] for name in question.pictures if name in analysis.run.pictures}
        fresh = {name: uri for name, uri in fresh.items() if name not in pictures and _is_picture(uri)}
        cost = len(json.dumps(item)) + sum(map(len, fresh.values()))
        if spent + cost <= budget:
            spent += cost
            pictures |= fresh
            items.append(item)
    order = {name: place for place, name in enumerate([analysis.adaptation, *analysis.retention])}
    items.sort(key=lambda item: order.get(item["benchmark"], len(order)))
    labels = [{"label": plain(analysis.rows[n].label), "look": n, "base": analysis.rows[n].is_baseline} for n in rows]
    best = max(range(len(rows)), key=lambda place: _merit(analysis, rows[place]), default=0)
    return {"rows": labels, "items": items, "pictures": pictures, "total": total, "best": best}


def _merit(analysis: Analysis, number: int) -> tuple[bool, float, int]:
    """Which row the browser compares at first: the best ranked, or the last."""
    one = analysis.main.get((number, summary.AVG1)) or analysis.main.get((number, summary.KA))
    value = one.value if one is not None and one.value == one.value else -1.0
    return analysis.rows[number].ranked, value, number


def embed(data: Any) -> str:
    """JSON that can stand inside a script element: nothing in it can end the element or start another."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign, code in (
        ("<", "\\u003c"),
        (">", "\\u003e"),
        ("&", "\\u0026"),
        ("\u2028", "\\u2028"),
        ("\u2029", "\\u2029"),
    ):
        text = text.replace(sign, code)
    return text


def _is_picture(uri: str) -> bool:
    return uri.startswith(("data:image/webp;base64,", "data:image/png;base64,", "data:image/jpeg;base64,"))


def _answers(analysis: Analysis, number: int) -> dict[tuple[str, str], ItemResult]:
    cell = analysis.rows[number].usable[0]
    return {(name, item.question_id): item for name, result in cell.scores.items() for item in result.items}


def _round_robin(analysis: Analysis) -> Iterator[QuestionEntry]:
    """Questions in a fixed shuffled order, benchmarks in turn, so that any beginning is a fair sample."""
    queues: dict[str, list[QuestionEntry]] = {}
    for question in analysis.run.questions:
        queues.setdefault(question.benchmark, []).append(question)
    for queue in queues.values():
        queue.sort(key=lambda question: hashlib.sha256(question.id.encode("utf-8", "replace")).digest())
    first = queues.pop(analysis.adaptation, [])
    longest = max([len(queue) for queue in queues.values()] + [len(first)])
    for place in range(longest):
        yield from first[3 * place : 3 * place + 3]
        for queue in queues.values():
            yield from queue[place : place + 1]


def _item(question: QuestionEntry, found: list[ItemResult | None]) -> dict[str, Any]:
    return {
        "id": plain(question.id, 60),
        "benchmark": plain(question.benchmark),
        "type": plain(question.type or question.group),
        "question": plain(_without_markers(question), LONGEST_QUESTION, lines=True),
        "reference": plain(question.reference, LONGEST_ANSWER),
        "pictures": list(question.pictures),
        "answers": [None if item is None else _answer(item) for item in found],
    }


def _without_markers(question: QuestionEntry) -> str:
    """The question as a reader wants it: its picture stands beside it; places are named where there are several."""
    places = "" if len(question.pictures) <= 1 else "[picture] "
    lines = question.text.replace(IMAGE, places).splitlines()
    return "\n".join(line.strip() for line in lines if line.strip())


def _answer(item: ItemResult) -> list[Any]:
    """[text, status, share of the headline 0-1 or null, CEM or null, F1 or null]."""
    values = (item_score(item.values), item.values.get("CEM"), item.values.get("F1"))
    shown = [None if value is None or value != value else round(value, 3) for value in values]
    return [plain(item.answer, LONGEST_ANSWER, lines=True), "" if item.status == "parsed" else item.status, *shown]
