"""The sample browser's data: for each question the pictures, the reference and every method's answer."""

from __future__ import annotations

import base64
import hashlib
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from benchmarks.records import IMAGE
from reports.html.score_data import pack_json
from reports.record import ItemResult, QuestionEntry
from reports.statistics import summary
from reports.statistics.estimates import Analysis
from reports.statistics.ratios import item_score
from reports.text import sanitize

LONGEST_ANSWER = 500
LONGEST_QUESTION = 900
ANSWER_LENGTHS = (500, 160, 50)
"""Lengths to which answers are cut, tried in this order until all questions fit on the page."""
SHARD_BYTES = 2_600_000
"""Size of each further page, for the questions whose pictures do not fit on the leaderboard."""
FIRST_SHOWN = 10
"""Questions visible when the page opens; their pictures have priority."""
FOLDER = "samples"
THUMBNAIL_SIDE = 112
"""Longest side of a thumbnail, in pixels."""
_PACKED_SIZE = 1.03
"""Size of a packed picture relative to its URI."""

Item = dict[str, Any]


@dataclass(frozen=True)
class SampleBrowser:
    """All questions with all answers.

    Args:
        rows: The methods, in the order of each item's answers.
        best: Index of the row that is compared first.
        items: The questions, benchmark by benchmark.
        pictures: Key to a ``data:image`` URI.
        order: Indices of ``items``: those visible first, then all others in a fixed shuffled order, benchmarks in turn.
    """

    rows: list[dict[str, Any]]
    best: int
    items: list[Item]
    pictures: Mapping[str, str]
    order: list[int]


@dataclass(frozen=True)
class SamplePage:
    """The samples of one page: their packed data, and the number of questions shown and in total."""

    data: str
    shown: int
    total: int
    shards: Mapping[str, SamplePage]
    """Further pages by file name; none if all pictures fit."""


def collect_samples(analysis: Analysis) -> SampleBrowser:
    """Collect the questions with the answers and values of each row's first finished seed."""
    rows = [number for number, row in enumerate(analysis.rows) if row.usable]
    answers = [_answers(analysis, number) for number in rows]
    places = {name: place for place, name in enumerate([analysis.adaptation, *analysis.retention, *analysis.further])}
    questions = sorted(analysis.run.questions, key=lambda question: places.get(question.benchmark, len(places)))
    asked = [q for q in questions if any((q.benchmark, q.id) in of_row for of_row in answers)]
    labels = [{"label": sanitize(analysis.rows[n].label), "base": analysis.rows[n].is_baseline} for n in rows]
    return SampleBrowser(
        rows=labels,
        best=max(range(len(rows)), key=lambda place: _merit(analysis, rows[place]), default=0),
        items=[_item(q, [of_row.get((q.benchmark, q.id)) for of_row in answers]) for q in asked],
        pictures={name: uri for name, uri in analysis.run.pictures.items() if _is_picture(uri)},
        order=list(dict.fromkeys([*range(min(FIRST_SHOWN, len(asked))), *_round_robin(asked, analysis.adaptation)])),
    )


def fit_to_page(samples: SampleBrowser, room: int) -> SamplePage:
    """Select what fits into ``room`` bytes: every question if possible, and then as many pictures as fit.

    Questions whose pictures are left out get a link to a further page that has them.
    """
    items, total = samples.items, len(samples.items)
    for length in ANSWER_LENGTHS:
        items = [_shortened(item, length) for item in samples.items]
        left = room - len(_pack(samples, items, {})) - 6 * len(items)
        if left >= 0:
            break
    else:
        items = _choose_items(samples, items, room)
        samples = replace(samples, order=[])
    pictures: dict[str, str] = {}
    for place in samples.order:
        fresh = {name: uri for name, uri in _pictures_of(items[place], samples).items() if name not in pictures}
        cost = _PACKED_SIZE * sum(map(len, fresh.values()))
        if cost <= left:
            left -= int(cost)
            pictures |= fresh
    shards, items = _shards(samples, items, pictures)
    return SamplePage(_pack(samples, items, pictures), len(items), total, shards)


def _choose_items(samples: SampleBrowser, items: list[Item], room: int) -> list[Item]:
    """A fixed choice of questions that fits without pictures."""
    count = len(items) if room > 0 else 0
    while count > 0:
        indices = set(samples.order[:count])
        chosen = [item for index, item in enumerate(items) if index in indices]
        size = len(_pack(samples, chosen, {}))
        if size <= room:
            return chosen
        count = max(0, min(count - 1, int(count * room / size)))
    return []


def _shards(
    samples: SampleBrowser, items: list[Item], on_page: Mapping[str, str]
) -> tuple[dict[str, SamplePage], list[Item]]:
    """Make further pages for the questions whose pictures are not ``on_page``, and link the items to them."""
    groups: list[tuple[list[Item], dict[str, str]]] = []
    used, linked = SHARD_BYTES, []
    for item in items:
        needed = _pictures_of(item, samples)
        if needed.keys() <= on_page.keys():
            linked.append(item)
            continue
        cost = sum(len(uri) for name, uri in needed.items() if not groups or name not in groups[-1][1]) + 400
        if used + cost > SHARD_BYTES:
            groups.append(([], {}))
            used, cost = 0, sum(map(len, needed.values())) + 400
        used += cost
        linked.append(item | {"more": f"{_shard_name(len(groups))}#{len(groups[-1][0])}"})
        groups[-1][0].append(item)
        groups[-1][1].update(needed)
    shards = {
        _shard_name(number): SamplePage(_pack(samples, *group), len(group[0]), len(group[0]), {})
        for number, group in enumerate(groups, 1)
    }
    return shards, linked


def _shard_name(number: int) -> str:
    return f"{FOLDER}/{number:03d}.html"


def _pictures_of(item: Item, samples: SampleBrowser) -> dict[str, str]:
    return {name: samples.pictures[name] for name in item["pictures"] if name in samples.pictures}


def _pack(samples: SampleBrowser, items: Sequence[Item], pictures: Mapping[str, str]) -> str:
    return pack_json({"rows": samples.rows, "best": samples.best, "items": items, "pictures": pictures})


def _shortened(item: Item, length: int) -> Item:
    if length >= LONGEST_ANSWER:
        return item
    answers = [
        answer if answer is None or len(answer[0]) <= length else [f"{answer[0][:length].rstrip()}…", *answer[1:]]
        for answer in item["answers"]
    ]
    return item | {"answers": answers}


def _merit(analysis: Analysis, number: int) -> tuple[bool, float, int]:
    """Sort key for the row that the browser compares first: the best ranked, or the last."""
    one = analysis.main.get((number, summary.AVG1)) or analysis.main.get((number, summary.KA))
    value = one.value if one is not None and math.isfinite(one.value) else -1.0
    return analysis.rows[number].ranked, value, number


def _is_picture(uri: str) -> bool:
    return uri.startswith(("data:image/webp;base64,", "data:image/png;base64,", "data:image/jpeg;base64,"))


def _answers(analysis: Analysis, number: int) -> dict[tuple[str, str], ItemResult]:
    cell = analysis.rows[number].usable[0]
    return {(name, item.question_id): item for name, result in cell.scores.items() for item in result.items}


def _round_robin(asked: Sequence[QuestionEntry], adaptation: str) -> Iterator[int]:
    """Indices in a fixed shuffled order: three questions of the adaptation benchmark, then one of each other."""
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


def _item(question: QuestionEntry, answers: list[ItemResult | None]) -> Item:
    return {
        "id": sanitize(question.id, 60),
        "benchmark": sanitize(question.benchmark),
        "type": sanitize(question.type or question.group),
        "question": sanitize(_without_markers(question), LONGEST_QUESTION, lines=True),
        "reference": sanitize(question.reference, LONGEST_ANSWER),
        "pictures": list(question.pictures),
        "answers": [None if item is None else _answer(item) for item in answers],
    }


def _without_markers(question: QuestionEntry) -> str:
    """The question without image markers; with several pictures their places stay visible."""
    marker = "" if len(question.pictures) <= 1 else "[picture] "
    lines = question.text.replace(IMAGE, marker).splitlines()
    return "\n".join(line.strip() for line in lines if line.strip())


def _answer(item: ItemResult) -> list[Any]:
    """[text, status, score in 0-1 or null, CEM or null, F1 or null]; trailing nulls are left out."""
    values = (item_score(item.values), item.values.get("CEM"), item.values.get("F1"))
    shown = [None if value is None or value != value else round(value, 3) for value in values]
    while shown and shown[-1] is None:
        shown.pop()
    return [sanitize(item.answer, LONGEST_ANSWER, lines=True), "" if item.status == "parsed" else item.status, *shown]


def thumbnail(picture: Image.Image) -> str:
    """Return a ``data:image/webp`` URI of at most ``THUMBNAIL_SIDE`` pixels a side; about 2 kB. Never enlarges."""
    small = picture.convert("RGB")
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=70, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
