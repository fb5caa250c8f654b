"""The sample browser's data: for each question the picture, the reference and every method's answer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.records import IMAGE
from reports.html.packing import pack_json
from reports.record import ItemResult, QuestionEntry
from reports.statistics import summary
from reports.statistics.estimates import Analysis
from reports.statistics.ratios import item_score
from reports.text import sanitize

LONGEST_ANSWER, LONGEST_QUESTION = 500, 900
SHORTER = (500, 160, 50)
"""Lengths to which answers are cut, one after the other, until all questions fit into the page."""
SHARD = 2_600_000
"""Bytes of one further page with the questions whose pictures do not fit into the first."""
FIRST = 10
"""Questions seen at first; they have their pictures before any other."""
FOLDER = "samples"
_PACKING = 1.03
"""What packing adds to a picture."""

Item = dict[str, Any]


@dataclass(frozen=True)
class SampleBrowser:
    """All questions with all answers.

    Args:
        rows: The methods, in the order of each item's answers.
        best: Place of the row that is compared at first.
        items: The questions, benchmark by benchmark.
        pictures: Key to a ``data:image`` URI.
        order: Places of ``items``: those seen at first, then all others in a fixed shuffled order, benchmarks in turn.
    """

    rows: list[dict[str, Any]]
    best: int
    items: list[Item]
    pictures: Mapping[str, str]
    order: list[int]


@dataclass(frozen=True)
class SamplePage:
    """What one page holds: its packed data, and how many of how many questions."""

    data: str
    shown: int
    total: int
    shards: Mapping[str, SamplePage]
    """Further pages by file name; none if all pictures fit."""


def browser(analysis: Analysis) -> SampleBrowser:
    """Answers and values are those of each row's first finished seed."""
    rows = [number for number, row in enumerate(analysis.rows) if row.usable]
    answers = [_answers(analysis, number) for number in rows]
    places = {name: place for place, name in enumerate([analysis.adaptation, *analysis.retention])}
    questions = sorted(analysis.run.questions, key=lambda question: places.get(question.benchmark, len(places)))
    asked = [q for q in questions if any((q.benchmark, q.id) in found for found in answers)]
    labels = [{"label": sanitize(analysis.rows[n].label), "base": analysis.rows[n].is_baseline} for n in rows]
    return SampleBrowser(
        rows=labels,
        best=max(range(len(rows)), key=lambda place: _merit(analysis, rows[place]), default=0),
        items=[_item(q, [found.get((q.benchmark, q.id)) for found in answers]) for q in asked],
        pictures={name: uri for name, uri in analysis.run.pictures.items() if _is_picture(uri)},
        order=list(dict.fromkeys([*range(min(FIRST, len(asked))), *_round_robin(asked, analysis.adaptation)])),
    )


def fit(whole: SampleBrowser, room: int) -> SamplePage:
    """As much as fits into ``room`` bytes: every question if possible, and as many pictures as then fit.

    Where pictures are left out, further pages hold those questions with them.
    """
    items, total = whole.items, len(whole.items)
    for length in SHORTER:
        items = [_shortened(item, length) for item in whole.items]
        left = room - len(_pack(whole, items, {})) - 6 * len(items)
        if left >= 0:
            break
    else:
        items = _chosen(whole, items, room)
        whole = replace(whole, order=[])
    pictures: dict[str, str] = {}
    for place in whole.order:
        fresh = {name: whole.pictures[name] for name in items[place]["pictures"] if name in whole.pictures}
        fresh = {name: uri for name, uri in fresh.items() if name not in pictures}
        cost = _PACKING * sum(map(len, fresh.values()))
        if cost <= left:
            left -= int(cost)
            pictures |= fresh
    shards, items = _shards(whole, items, pictures)
    return SamplePage(_pack(whole, items, pictures), len(items), total, shards)


def _chosen(whole: SampleBrowser, items: list[Item], room: int) -> list[Item]:
    """A fixed choice of questions that fits without any picture."""
    count = len(items) if room > 0 else 0
    while count > 0:
        kept = set(whole.order[:count])
        found = [item for place, item in enumerate(items) if place in kept]
        size = len(_pack(whole, found, {}))
        if size <= room:
            return found
        count = max(0, min(count - 1, int(count * room / size)))
    return []


def _shards(
    whole: SampleBrowser, items: list[Item], there: Mapping[str, str]
) -> tuple[dict[str, SamplePage], list[Item]]:
    """Further pages for the questions that lack a picture, and the items with a link to their place there."""
    groups: list[tuple[list[Item], dict[str, str]]] = []
    spent, linked = SHARD, []
    for item in items:
        needed = {name: whole.pictures[name] for name in item["pictures"] if name in whole.pictures}
        if needed.keys() <= there.keys():
            linked.append(item)
            continue
        cost = sum(len(uri) for name, uri in needed.items() if not groups or name not in groups[-1][1]) + 400
        if spent + cost > SHARD:
            groups.append(([], {}))
            spent, cost = 0, sum(map(len, needed.values())) + 400
        spent += cost
        linked.append(item | {"more": f"{_name(len(groups))}#{len(groups[-1][0])}"})
        groups[-1][0].append(item)
        groups[-1][1].update(needed)
    shards = {
        _name(number): SamplePage(_pack(whole, *group), len(group[0]), len(group[0]), {})
        for number, group in enumerate(groups, 1)
    }
    return shards, linked


def _name(number: int) -> str:
    return f"{FOLDER}/{number:03d}.html"


def _pack(whole: SampleBrowser, items: Sequence[Item], pictures: Mapping[str, str]) -> str:
    return pack_json({"rows": whole.rows, "best": whole.best, "items": items, "pictures": pictures})


def _shortened(item: Item, length: int) -> Item:
    if length >= LONGEST_ANSWER:
        return item
    answers = [
        answer if answer is None or len(answer[0]) <= length else [f"{answer[0][:length].rstrip()}…", *answer[1:]]
        for answer in item["answers"]
    ]
    return item | {"answers": answers}


def _merit(analysis: Analysis, number: int) -> tuple[bool, float, int]:
    """Which row the browser compares at first: the best ranked, or the last."""
    one = analysis.main.get((number, summary.AVG1)) or analysis.main.get((number, summary.KA))
    value = one.value if one is not None and one.value == one.value else -1.0
    return analysis.rows[number].ranked, value, number


def _is_picture(uri: str) -> bool:
    return uri.startswith(("data:image/webp;base64,", "data:image/png;base64,", "data:image/jpeg;base64,"))


def _answers(analysis: Analysis, number: int) -> dict[tuple[str, str], ItemResult]:
    cell = analysis.rows[number].usable[0]
    return {(name, item.question_id): item for name, result in cell.scores.items() for item in result.items}


def _round_robin(asked: Sequence[QuestionEntry], adaptation: str) -> Iterator[int]:
    queues: dict[str, list[int]] = {}
    for place, question in enumerate(asked):
        queues.setdefault(question.benchmark, []).append(place)
    for queue in queues.values():
        queue.sort(key=lambda place: hashlib.sha256(asked[place].id.encode("utf-8", "replace")).digest())
    first = queues.pop(adaptation, [])
    for turn in range(max([len(queue) for queue in queues.values()] + [len(first)])):
        yield from first[3 * turn : 3 * turn + 3]
        for queue in queues.values():
            yield from queue[turn : turn + 1]


def _item(question: QuestionEntry, found: list[ItemResult | None]) -> Item:
    return {
        "id": sanitize(question.id, 60),
        "benchmark": sanitize(question.benchmark),
        "type": sanitize(question.type or question.group),
        "question": sanitize(_without_markers(question), LONGEST_QUESTION, lines=True),
        "reference": sanitize(question.reference, LONGEST_ANSWER),
        "pictures": list(question.pictures),
        "answers": [None if item is None else _answer(item) for item in found],
    }


def _without_markers(question: QuestionEntry) -> str:
    """The question as a reader wants it: its picture stands beside it; places are named where there are several."""
    places = "" if len(question.pictures) <= 1 else "[picture] "
    lines = question.text.replace(IMAGE, places).splitlines()
    return "\n".join(line.strip() for line in lines if line.strip())


def _answer(item: ItemResult) -> list[Any]:
    """[text, status, share of the headline 0-1 or null, CEM or null, F1 or null]; nulls at the end are left out."""
    values = (item_score(item.values), item.values.get("CEM"), item.values.get("F1"))
    shown = [None if value is None or value != value else round(value, 3) for value in values]
    while shown and shown[-1] is None:
        shown.pop()
    return [sanitize(item.answer, LONGEST_ANSWER, lines=True), "" if item.status == "parsed" else item.status, *shown]
