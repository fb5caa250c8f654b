r"""Split knowledge in EVOKE's format into data sets of their own, for a task sequence: an example to adapt.

    python examples/split_knowledge.py benchmarks/mini/data/evoke runs/split \
        countries=type:country news=cnn_wiki_type:news

writes the folders runs/split/countries and runs/split/news: the items and the questions whose column has the value, and
their pictures. Copy this file and change it as you like.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

INJECTION, EVALUATION = "evoke_injection_data.json", "evoke_evaluation_data.jsonl"


def main(source: Path, target: Path, parts: list[str]) -> None:
    """Write one folder below ``target`` for each ``NAME=COLUMN:VALUE``."""
    items = json.loads((source / INJECTION).read_text("utf-8"))
    questions = [json.loads(line) for line in (source / EVALUATION).read_text("utf-8").splitlines()]
    for part in parts:
        name, _, condition = part.partition("=")
        column, _, value = condition.partition(":")
        chosen = [[row for row in rows if row.get(column) == value] for rows in (items, questions)]
        if not all(chosen):
            sys.exit(f"{part}: no item or no question has {value!r} as its {column!r}")
        write(source, target / name, *chosen)
        print(f"{target / name}: {len(chosen[0])} items, {len(chosen[1])} questions")


def write(source: Path, folder: Path, items: list[dict[str, Any]], questions: list[dict[str, Any]]) -> None:
    """Write rows in EVOKE's files, and copy their pictures."""
    for picture in {row["image"] for row in (*items, *questions)}:
        (folder / picture).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / picture, folder / picture)
    (folder / INJECTION).write_text(json.dumps(items, ensure_ascii=False, indent=1) + "\n", "utf-8")
    lines = (json.dumps(question, ensure_ascii=False) + "\n" for question in questions)
    (folder / EVALUATION).write_text("".join(lines), "utf-8")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(f"usage: python {sys.argv[0]} SOURCE TARGET NAME=COLUMN:VALUE ...")
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
