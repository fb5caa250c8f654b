"""The exact prompts that VLMEvalKit's dataset classes build from each mini benchmark's rows.

A turn's pictures (``<image>``) and texts are joined by newlines. Lessons and benchmarks share these functions, so the
base model is trained on the prompts of the benchmarks.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from string import ascii_uppercase

from benchmarks.records import IMAGE

CHOICE_BENCHMARKS = ("mmbench", "seedbench2_plus", "scienceqa", "mmmu")
"""Benchmarks in ImageMCQDataset's format."""

SHORT = "\nAnswer the question using a single word or phrase."
"""ImageVQADataset's and EVOKE's literal ending of every question."""

CHOICE_REQUEST = "Please select the correct answer from the options above. \n"

IMAGE_PLACEHOLDER = "<ImageHere>"
"""The position of the next picture in MMDU's questions."""


def user_turns(benchmark: str, row: Mapping[str, str], pictures: int = 1) -> tuple[str, ...]:
    """Build the user turns of a row.

    Args:
        benchmark: Such as "mmbench", lower case and without "mini-"; "lesson" for the plain question.
        row: The row's columns; an empty string is a missing column.
        pictures: Number of the row's pictures.
    """
    if benchmark == "mmdu":
        return tuple(_place_images(question) for question in ast.literal_eval(row["question"]))
    if benchmark in CHOICE_BENCHMARKS:
        text = choice_prompt(row)
        if benchmark == "mmmu" and "<image 1>" in text:
            return (re.sub(r"<image \d>", f"\n{IMAGE}\n", text).rstrip(),)
    elif benchmark == "ocrvqa":
        text = row["question"] + SHORT
    else:
        text = row["question"]
    return ("\n".join([IMAGE] * pictures + [text]).rstrip(),)


def choice_prompt(row: Mapping[str, str]) -> str:
    """ImageMCQDataset's prompt for a row: hint, question, options and the request to choose."""
    options = [f"{letter}. {row[letter]}\n" for letter in ascii_uppercase if row.get(letter)]
    hint = f"Hint: {row['hint']}\n" if row.get("hint") else ""
    text = f"{hint}Question: {row['question']}\n"
    if options:
        text += f"Options:\n{''.join(options)}{CHOICE_REQUEST}"
    return text


def strip_markers(turn: str) -> str:
    """Remove the image markers from a turn whose pictures were shown before."""
    return re.sub(rf"\n?{IMAGE}\n?", "\n", turn).strip()


def _place_images(question: str) -> str:
    pieces = re.split(f"({IMAGE_PLACEHOLDER})", question)
    return "\n".join(IMAGE if piece == IMAGE_PLACEHOLDER else piece for piece in pieces if piece).rstrip()
