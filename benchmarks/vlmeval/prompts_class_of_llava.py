"""Prompts of VLMEvalKit's own class for LLaVA, which replaces VLMEvalKit's prompts for multiple choice.

Everything else (yes or no, short answers, mathematics, dialogues) it asks with VLMEvalKit's prompt, but it writes
pictures and texts in one line. Source: ``vlmeval/vlm/llava/llava.py``: ``use_custom_prompt``, ``build_prompt`` and
``concat_tilist``. The text around the turns is ``harness.models.chat_template.VLMEVALKIT_LLAVA``.

Runs in ``vlmeval.worker``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase
from typing import Any

from benchmarks.records import IMAGE
from benchmarks.vlmeval.prompts_llava import LETTER

OPEN = "Answer the question directly."
CHINESE_LETTER, CHINESE_OPEN = "请直接回答选项字母。", "请直接回答问题。"
_CHINESE = re.compile("[\u4e00-\u9fff]")


def build_message(dataset: Any, row: Any) -> list[dict[str, str]]:
    """The parts of a multiple-choice question: all pictures of the row, then the text.

    MMMU's text keeps the names of its pictures ("<image 1>"), which VLMEvalKit's own prompt replaces by the pictures.
    """
    pictures = [{"type": "image", "value": str(path)} for path in dataset.dump_image(row)]
    return [*pictures, {"type": "text", "value": build_prompt(row)}]


def build_prompt(row: Any) -> str:
    """The text of a multiple-choice question; an empty field of the row is not a string."""
    lines = [row[name] for name in ("hint", "question") if isinstance(row.get(name), str)]
    options = [f"{letter}. {row[letter]}" for letter in ascii_uppercase if isinstance(row.get(letter), str)]
    text = "\n".join(lines + options)
    if _CHINESE.search(text):
        return f"{text}\n{CHINESE_LETTER if options else CHINESE_OPEN}"
    return f"{text}\n{LETTER if options else OPEN}"


def turn_text(parts: Sequence[dict[str, str]]) -> str:
    """One user turn: each picture as a marker between spaces. Markers in the table's own text are replaced."""
    return "".join(f" {IMAGE} " if part["type"] == "image" else part["value"].replace(IMAGE, "image") for part in parts)
