"""Which option of MathVision or MathVista an answer names, for their corrected numbers.

VLMEvalKit takes a standing letter for the option, else the only option whose text occurs anywhere in the answer: "None"
then says No, and "Kangaroo" option A. Here a text must be the answer or whole words of it. Runs in ``vlmeval.worker``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping

from benchmarks.vlmeval.safe_literal import parse_literal

Reader = Callable[[str, dict[str, str]], str | bool]
MIN_LENGTH = 4
"""Characters that an option must have to be recognised despite a slip of spelling."""
MIN_SIMILARITY = 0.85


def options_of(choices: object) -> dict[str, str]:
    """The options by letter of a table's ``choices``, a list written as text; none if it is not a list."""
    try:
        parsed = parse_literal(choices)
    except SyntaxError:
        return {}
    return {chr(65 + i): str(text) for i, text in enumerate(parsed)} if isinstance(parsed, list) else {}


def read_option(answer: object, options: Mapping[str, str], standing_letter: Reader) -> str | bool:
    """The letter of the option that an answer names; False if it names none.

    Args:
        answer: The whole answer or what a judge took from it.
        options: Text by letter.
        standing_letter: VLMEvalKit's ``can_infer_option``, which looks for a letter that stands alone.
    """
    text = str(answer)
    words = {letter: _folded(option) for letter, option in options.items() if _folded(option)}
    whole = [letter for letter, option in words.items() if option == _folded(text)]
    if len(whole) == 1:
        return whole[0]
    named = _named(_folded(text), words)
    rest = text
    for letter in named:  # the A of "jar A" is not the letter of an option
        if len(words[letter]) > 1:
            rest = re.sub(_whole_words(options[letter].strip()), " ", rest, flags=re.IGNORECASE)
    found = standing_letter(rest, dict(options))
    if found:
        return found
    return named[0] if len(named) == 1 else _nearest(_folded(text), words)


def _folded(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .")


def _whole_words(text: str) -> str:
    return rf"(?<![\w.-]){re.escape(text)}(?!\w|\.\d)"


def _named(text: str, words: Mapping[str, str]) -> list[str]:
    """The options whose text occurs in the answer as whole words, without those that are part of a longer one."""
    if len(text) > 2 * sum(map(len, words.values())):
        return []  # VLMEvalKit's rule: a long answer may only mention an option
    found = [letter for letter, option in words.items() if re.search(_whole_words(option), text)]
    return [
        letter
        for letter in found
        if not any(words[letter] in words[other] and words[letter] != words[other] for other in found)
    ]


def _nearest(text: str, words: Mapping[str, str]) -> str | bool:
    """The option that an answer misspells, as MathVista's authors take the nearest one; its digits must be the same."""
    options = [option for option in words.values() if len(option) >= MIN_LENGTH and _digits(option) == _digits(text)]
    near = difflib.get_close_matches(text, options, n=2, cutoff=MIN_SIMILARITY)
    letters = [letter for letter, option in words.items() if option in near]
    return letters[0] if len(letters) == 1 else False


def _digits(text: str) -> list[str]:
    return re.findall(r"\d+", text)
