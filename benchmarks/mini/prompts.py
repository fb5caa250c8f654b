"""The exact text that VLMEvalKit's dataset classes make of each mini benchmark's row, as one user turn.

Pictures and texts of a turn are joined by newlines, a picture being ``<image>``. Lessons and benchmarks use this one
function, so the base model is taught the prompts that it is later asked.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from string import ascii_uppercase

from benchmarks.records import IMAGE

CHOICE = ("mmbench", "seedbench2_plus", "scienceqa", "mmmu")
"""Benchmarks in ImageMCQDataset's format."""

SHORT = "\nAnswer the question using a single word or phrase."
"""What ImageVQADataset adds to every question."""

CHOOSE = "Please select the correct answer from the options above. \n"

PLACE = "<ImageHere>"
"""Where MMDU's questions show their next picture."""


def turns(benchmark: str, row: Mapping[str, str], pictures: int = 1) -> tuple[str, ...]:
    """The user turns that a row becomes.

    Args:
        benchmark: Such as "mmbench", lower case and without "mini-"; "lesson" for the plain question.
        row: The row's columns; empty strings are absent columns.
        pictures: How many pictures the row has.
    """
    if benchmark == "mmdu":
        return tuple(_placed(question) for question in ast.literal_eval(row["question"]))
    if benchmark in CHOICE:
        text = choice(row)
        if benchmark == "mmmu" and "<image 1>" in text:
            return (re.sub(r"<image \d>", f"\n{IMAGE}\n", text).rstrip(),)
    elif benchmark == "ocrvqa":
        text = row["question"] + SHORT
    else:
        text = row["question"]
    return ("\n".join([IMAGE] * pictures + [text]).rstrip(),)


def choice(row: Mapping[str, str]) -> str:
    """ImageMCQDataset's text for a row: hint, question, options and the request to choose."""
    options = [f"{letter}. {row[letter]}\n" for letter in ascii_uppercase if row.get(letter)]
    hint = f"Hint: {row['hint']}\n" if row.get("hint") else ""
    text = f"{hint}Question: {row['question']}\n"
    if options:
        text += f"Options:\n{''.join(options)}{CHOOSE}"
    return text


def unmarked(turn: str) -> str:
    """The turn without its pictures, for when they were shown before."""
    return re.sub(rf"\n?{IMAGE}\n?", "\n", turn).strip()


def _placed(question: str) -> str:
    pieces = re.split(f"({PLACE})", question)
    return "\n".join(IMAGE if piece == PLACE else piece for piece in pieces if piece).rstrip()
