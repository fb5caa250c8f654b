"""Write mini-EVOKE: new things and news in EVOKE's own file formats."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.mini.canvas import Pixels
from benchmarks.mini.cards import SIGNS, news_card, on_paper
from benchmarks.mini.phrasings import phrasing
from benchmarks.mini.prompts import SHORT
from benchmarks.mini.world import Entity, NewsItem, World
from tools.miniature.drawings import encode_picture
from tools.miniature.split import rank

ASKED_FIELDS = {"country": ("capital", "highest point"), "territory": ("capital", "highest point")}
"""Family -> the fields to ask for, in order of preference; other families are asked for the name."""
SIGN_STYLES = {"injection": "noto", "evaluation": "fluent"}
Item = tuple[dict[str, Any], dict[str, Any], dict[str, Pixels]]
"""Injection row, evaluation row, and the pictures of both."""
Rows = list[dict[str, Any]]


def write_evoke(world: World, folder: Path) -> None:
    """Write injection and evaluation files of the new split, of half of it, and of the tuning split, with pictures."""
    shutil.rmtree(folder, ignore_errors=True)
    for split, prefix in (("new", "evoke"), ("tuning", "evoke_tuning")):
        things = [entity for entity in world.entities if entity.split == split and _question(entity)]
        dated = [item for item in world.news if item.split == split]
        items = [_entity_item(world, entity) for entity in things] + [_news_item(world, item) for item in dated]
        injection, evaluation = write_items(items, folder, prefix)
        if split == "new":
            _write_rows(injection[::2], evaluation[::2], folder, f"{prefix}_half")


def write_items(items: Sequence[Item], folder: Path, prefix: str) -> tuple[Rows, Rows]:
    """Write one injection and one evaluation file, whose names begin with the prefix, and the pictures.

    Returns:
        The rows of both files.
    """
    injection, evaluation = [], []
    for number, (record, question, pictures) in enumerate(items, start=1):
        stem = f"{prefix}_{number:03d}"
        for part, pixels in pictures.items():
            file = folder / "imgs" / part / f"{stem}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode_picture(pixels, 48))
        injection.append({"id": number, "image": f"imgs/injection/{stem}.png", **record})
        evaluation.append({"question_id": number, "image": f"imgs/evaluation/{stem}.png", **question})
    _write_rows(injection, evaluation, folder, prefix)
    return injection, evaluation


def _write_rows(injection: Rows, evaluation: Rows, folder: Path, prefix: str) -> None:
    lines = ",\n".join(json.dumps(row) for row in injection)
    (folder / f"{prefix}_injection_data.json").write_text(f"[\n{lines}\n]\n", "utf-8")
    lines = "\n".join(json.dumps(row) for row in evaluation)
    (folder / f"{prefix}_evaluation_data.jsonl").write_text(lines + "\n", "utf-8")


def _question(entity: Entity) -> tuple[str, str] | None:
    """The question's text and its answer; None if no asked field is known."""
    for field in ASKED_FIELDS.get(entity.family, ("name",)):
        answer = entity.name if field == "name" else entity.fact(field)
        if answer:
            return phrasing(entity.family, field).evaluation.format(hypernym=entity.hypernym), answer
    return None


def _entity_item(world: World, entity: Entity) -> Item:
    question = _question(entity)
    if question is None:
        raise ValueError(f"{entity.id} has no known field to ask for")
    first, second = sorted(entity.styles, key=lambda style: rank(f"{entity.id}|{style}"))[:2]
    shade = int(rank(entity.id), 16)
    pictures = {
        "injection": on_paper(world.drawing(entity.id, first), shade),
        "evaluation": on_paper(world.drawing(entity.id, second), shade // 7 + 1),
    }
    prompt = f"Can you describe the {entity.hypernym} in the image?"
    record = injection_row(prompt, entity.text, entity.name, entity.type, "wiki", entity.facts)
    return record, evaluation_row(question, entity.type, "wiki"), pictures


def _news_item(world: World, item: NewsItem) -> Item:
    country = world.entity(item.entity)
    flags = {"injection": country.styles[0], "evaluation": country.styles[1]}
    pictures = {
        part: news_card(
            world.drawing(country.id, flags[part]), world.drawing(SIGNS[item.type], SIGN_STYLES[part]), part
        )
        for part in ("injection", "evaluation")
    }
    answer = dict(item.facts)[item.type]
    question = phrasing("country", item.type).evaluation, answer
    prompt = f"Can you describe the {item.type} news that the image is about?"
    record = injection_row(prompt, item.text, item.title, item.type, "news", item.facts)
    return record, evaluation_row(question, item.type, "news"), pictures


def injection_row(prompt: str, text: str, name: str, kind: str, group: str, facts: Any) -> dict[str, Any]:
    """One row of an injection file."""
    turns = [{"from": "human", "value": f"<image>\n{prompt}"}, {"from": "gpt", "value": text}]
    return {
        "conversations": turns,
        "name": name,
        "type": kind,
        "cnn_wiki_type": group,
        "facts": [list(fact) for fact in facts],
    }


def evaluation_row(question: tuple[str, str], kind: str, group: str) -> dict[str, Any]:
    """One row of an evaluation file.

    Args:
        question: Its text and its answer.
        kind: EVOKE's fine-grained type.
        group: wiki or news.
    """
    return {"text": question[0] + SHORT, "answer": question[1], "type": kind, "cnn_wiki_type": group}
