"""The model card of an exported row, from the record of its run: a README.md with the hub's metadata on top."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from reports.formats import markdown
from reports.marks import meaning
from reports.record import CellResult, Run
from reports.statistics.analysis import analyse
from reports.tables.tables import benchmark_table, main_table
from reports.text import sanitize

LOADING = {
    "adapter": """from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor

base = AutoModelForImageTextToText.from_pretrained("{base}", dtype="{dtype}")  # as in the run
model = PeftModel.from_pretrained(base, "FOLDER")
processor = AutoProcessor.from_pretrained("{base}")""",
    "merged": """from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained("FOLDER")
processor = AutoProcessor.from_pretrained("FOLDER")""",
    "without-projector": """from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor

base = AutoModelForImageTextToText.from_pretrained("FOLDER/base")  # with the trained projector
model = PeftModel.from_pretrained(base, "FOLDER/adapter")
processor = AutoProcessor.from_pretrained("FOLDER/base")""",
}
"""Code that loads each form; FOLDER stands for the place of this file."""


@dataclass(frozen=True)
class Card:
    """What a card is made from.

    Args:
        run: The whole run.
        cell: The exported cell of it.
        form: A key of ``LOADING``.
        base: The base model: its id on the hub, or its folder's name.
        dtype: Type of the base's weights in the run, which may be stored in another.
        licence: The licence of the base model and of the data as far as it is known.
        repository: Where the folder is on the hub; empty for a folder on a disk.
    """

    run: Run
    cell: CellResult
    form: str
    base: str
    dtype: str
    licence: str = ""
    repository: str = ""


def render(card: Card) -> str:
    """The whole card."""
    title = f"{sanitize(card.cell.label)} on {sanitize(card.cell.model)}"
    parts = [
        f"---\n{_metadata(card, title)}\n---",
        f"# {markdown.escape(title)}",
        markdown.escape(sanitize(card.cell.summary)),
        *_warnings(card.cell),
        "## Scores",
        _scores(card),
        "## Training",
        _training(card.cell),
        "## Load it",
        f"```python\n{_loading(card)}\n```",
        _places(card),
        "## Licence",
        card.licence or "That of the base model and of the training data; the run does not record them.",
        "## Signature",
        f"`{card.run.signature}`, row `{card.cell.signature}`",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _loading(card: Card) -> str:
    """The code; on the hub a folder inside a repository is given as ``subfolder``."""
    code = LOADING[card.form].format(base=card.base if "/" in card.base else "BASE", dtype=card.dtype)
    if card.repository:
        code = re.sub(r'"FOLDER/(\w+)"', rf'"{card.repository}", subfolder="\1"', code)
        code = code.replace('"FOLDER"', f'"{card.repository}"')
    return code


def _places(card: Card) -> str:
    """What the capitals in the code stand for."""
    names = {
        "FOLDER": "" if card.repository else "the folder of this file",
        "BASE": ""
        if "/" in card.base or card.form != "adapter"
        else f"the folder of the base model, {card.cell.model}",
    }
    known = [f"{name} stands for {place}" for name, place in names.items() if place]
    return f"{', and '.join(known)}." if known else ""


def _metadata(card: Card, title: str) -> str:
    """The hub's metadata, as YAML."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type="visual-question-answering",
            dataset_type=name,
            dataset_name=name,
            metric_type="score",
            metric_name="headline score, 0-100",
            metric_value=round(result.headline, 2),
        )
        for name, result in card.cell.scores.items()
        if result.headline is not None
    ]
    data = ModelCardData(
        base_model=card.base if "/" in card.base else None,
        library_name="transformers" if card.form == "merged" else "peft",
        pipeline_tag="image-text-to-text",
        tags=["knowledge-injection", card.cell.method],
        model_name=title if results else None,
        eval_results=results or None,
    )
    return data.to_yaml()


def _warnings(cell: CellResult) -> list[str]:
    """What forbids ranking this row, in words."""
    return [f"> **{markdown.escape(mark)}**: {meaning(mark)}." for mark in cell.marks if meaning(mark)]


def _scores(card: Card) -> str:
    """The run's main tables for the base and this cell alone, so that intervals are those of its own seed."""
    cells = tuple(cell for cell in card.run.cells if cell.is_vanilla or cell is card.cell)
    analysis = analyse(dataclasses.replace(card.run, cells=cells))
    tables = [main_table(analysis), *([benchmark_table(analysis)] if analysis.retention else [])]
    return "\n".join(markdown.render(table) for table in tables).replace("### ", "#### ").strip()


def _training(cell: CellResult) -> str:
    cost = cell.cost
    lines = {
        "data": cell.data or "-",
        "seed": str(cell.seed),
        "optimiser steps": f"{cost.optimiser_steps:,}",
        "supervised tokens": f"{cost.supervised_tokens:,}",
        "trained parameters": f"{cost.trainable_parameters:,}",
        **{name: str(setting.value) for name, setting in sorted(cell.settings.items())},
    }
    rows = [f"| {markdown.escape(name)} | {markdown.escape(sanitize(value))} |" for name, value in lines.items()]
    return "\n".join(["| | |", "| :--- | :--- |", *rows])
