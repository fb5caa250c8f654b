"""Prompts of LLaVA's own evaluation scripts, for the four benchmarks that KORE evaluated with them.

Source: haotian-liu/LLaVA, ``llava/eval`` and ``scripts/v1_5/eval``. The scripts read their own question files; here the
same questions come from VLMEvalKit's tables. Runs in ``vlmeval.worker``.
"""

from __future__ import annotations

import re
from typing import Any

from benchmarks.retention_specs import RetentionSpec

SHORT = "Answer the question using a single word or phrase."
LETTER = "Answer with the option's letter from the given choices directly."
OPTION_LETTERS = {"MMBench": "ABCD", "ScienceQA": "ABCDE"}
_INSTRUCTION = re.compile(r"\s*Please answer yes or no\.\s*$")


def build_prompt(spec: RetentionSpec, row: Any) -> str:
    """Build the text that LLaVA's scripts put below the picture."""
    question = str(row["question"])
    if spec.family == "yes-no":  # unlike the table, LLaVA's question files have no instruction at the end
        return f"{_INSTRUCTION.sub('', question)}\n{SHORT}"
    hint = row.get("hint")
    if isinstance(hint, str) and hint.strip().lower() not in ("", "nan", "none"):
        question = f"Context: {hint}\n{question}" if spec.name == "ScienceQA" else f"{hint}\n{question}"
    lines = [f"{letter}. {text}" for letter, text in options(spec, row).items()]
    return "\n".join([question, *lines, LETTER])


def options(spec: RetentionSpec, row: Any) -> dict[str, str]:
    """Options by letter, up to the first missing one. MMBench's script treats the words None and nan as missing."""
    by_letter: dict[str, str] = {}
    for letter in OPTION_LETTERS[spec.name]:
        text = row.get(letter)
        if not isinstance(text, str) or (spec.name == "MMBench" and text.lower() in ("nan", "none")):
            break
        by_letter[letter] = text
    return by_letter
