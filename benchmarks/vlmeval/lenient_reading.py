"""A lenient reading of an answer by rule: a bare letter, else the answer that the text states last.

The official rules cannot read an answer that explains itself: "The answer is B. A ball reflects light" holds two option
letters, "No. There are yes-men" both words. A model that is trained to be terse then gains points although it knows no
more. This reading takes such answers. It stands beside the official number, never instead of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}")
_BOXED = re.compile(r"\\boxed\s*\{([^{}]*)\}")
_ANSWER_TAG = re.compile(r"<(?:answer|conclusion)>", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][\w-]*>")
_MARKUP = re.compile(r"[*`#$]|__")

_OPEN = r"[\s(\[\"'“‘]*"
_CLOSE = r"[\s)\]\"'”’.,:;!]*"
_BOUND = r"(?!\w|['’-]\w)"

_CUE = re.compile(
    r"(?<!wrong )(?<!incorrect )(?<!not the )(?<!not an )\b(?:answer|option|choice|conclusion)\b"
    r"(?:\s+(?:to|for)\s[^.:\n]{1,80}?)?"
    r"(?:\s*[:=→–-]+|\s+(?:(?:would|should|must|will)\s+be|is|was)\b\s*:?)"
    r"(?:\s*(?:clearly|therefore|thus|probably|most likely|the|correct|right|best|option|choice|letter|answer|is)\b)*"
    r"\s*:?",
    re.IGNORECASE,
)
"""The words after which an answer is stated: "the correct answer is", "Answer:", "the right choice would be option"."""
_LETTER_NAMED = re.compile(
    r"\b(?i:it is|it's|this is|choose|pick|select|go with)\s+(?i:option\s+|choice\s+)?[(\"'“‘]?([A-Z])[)\"'”’]?"
    r"(?=\s*(?:[.,;:!\n]|$|because\b|since\b))"
    r"|(?<![\w'])\(?([A-Z])\)?\s+is\s+(?:the\s+)?(?:correct|right|best)\b"
)
_ANOTHER = re.compile(rf"{_CLOSE}(?:/|&|\bor\b|\band\b|(?<=,)){_OPEN}([A-Z]){_BOUND}(?!\s+[a-z])")
_LETTER = re.compile(rf"{_OPEN}([A-Za-z]){_BOUND}")
_ARTICLE = re.compile(r"\s+(?!(?:because|since|as|for|is|and|or|due)\b)[a-z]")
_ARTICLE_WORD = re.compile(r"(?:an?|the)\s+")
_BARE = re.compile(rf"{_OPEN}([A-Za-z]){_CLOSE}")
_OPTION_LINE = re.compile(r"\s*(?:\(([A-Z])\)|([A-Z])(?:\)|[.:,](?=\s)|\s[-–](?=\s)|(?=\s+(?:because|since)\b)))")

_YES_NO_STATED = re.compile(rf"{_OPEN}(yes|no)\b(?!\s*(?:/|or\b))", re.IGNORECASE)
_YES_NO_BARE = re.compile(r"\W*(yes|no)\W*", re.IGNORECASE)
_YES_NO_OPENING = re.compile(r"\W*(yes|no)\s*(?:[.,;:!–-]|$)", re.IGNORECASE | re.MULTILINE)


def read_choice(answer: str, options: Mapping[str, str]) -> str:
    """The letter of the option that an answer states, or an empty string.

    Args:
        answer: The model's text.
        options: Letter -> text of each option.
    """
    lines = _lines(answer)
    if len(lines) == 1 and (bare := _bare_letter(lines[0], options)):
        return bare
    stated = [letter for _, letter in sorted(_statements("\n".join(lines), options))]
    if stated:
        return stated[-1]
    alone = [letter for line in lines if (letter := _bare_letter(line, options)) and line.strip("\"'( ")[0].isupper()]
    if alone:
        return alone[-1]
    opened = {match[1] or match[2] for line in lines if (match := _OPTION_LINE.match(line))} & options.keys()
    return opened.pop() if len(opened) == 1 else ""


def read_yes_no(answer: str) -> str:
    """What an answer states, "Yes" or "No"; an empty string if it states neither."""
    lines = _lines(answer)
    text = "\n".join(lines)
    stated = [match[1] for cue in _CUE.finditer(text) if (match := _YES_NO_STATED.match(text, cue.end()))]
    alone = [match[1] for line in lines if (match := _YES_NO_BARE.fullmatch(line))]
    opening = [match[1] for match in [_YES_NO_OPENING.match(text)] if match]
    return next((found[-1].capitalize() for found in (stated, alone, opening) if found), "")


def _lines(answer: str) -> list[str]:
    """The lines of an answer that hold text, without Markdown, LaTeX commands around text, and tags."""
    text = _BOXED.sub(r" answer: \1 ", _WRAPPED.sub(r"\1", answer))
    text = _MARKUP.sub("", _TAG.sub("\n", _ANSWER_TAG.sub("\nanswer: ", text)))
    return [line.strip() for line in text.splitlines() if line.strip()]


def _bare_letter(line: str, options: Mapping[str, str]) -> str:
    match = _BARE.fullmatch(line)
    letter = match[1].upper() if match else ""
    return letter if letter in options else ""


def _statements(text: str, options: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Place and letter of each answer that the text states; no letter where it names several options."""
    for cue in _CUE.finditer(text):
        letter = _option_at(text, cue.end(), options)
        if letter is not None:
            yield cue.end(), letter
    for named in _LETTER_NAMED.finditer(text):
        letter = named[1] or named[2]
        if letter in options:
            yield named.end(), letter


def _option_at(text: str, place: int, options: Mapping[str, str]) -> str | None:
    """The option named at a place, by its letter or its text; empty if there are several, None if there is none."""
    match = _LETTER.match(text, place)
    if match and match[1].upper() in options and _is_letter(text, match, options):
        another = _ANOTHER.match(text, match.end())
        return "" if another and another[1] in options else match[1].upper()
    rest = text[place:].lstrip(" \n(\"'“‘").casefold()
    if article := _ARTICLE_WORD.match(rest):
        rest = rest[article.end() :]
    named = [letter for letter, words in options.items() if _starts_with(rest, words.strip().casefold())]
    return max(named, key=lambda letter: len(options[letter])) if named else None


def _is_letter(text: str, match: re.Match[str], options: Mapping[str, str]) -> bool:
    """Whether a single letter names an option, and is no article or pronoun: "A ball", "a ball", "I see"."""
    rest = text[match.end() :]
    if match[1].islower():
        return not re.match(r"\s*\w", rest)
    if _starts_with(rest.lstrip().casefold(), options[match[1].upper()].strip().casefold()):
        return True
    return match[1] not in "AI" or not _ARTICLE.match(rest)


def _starts_with(text: str, words: str) -> bool:
    return bool(words) and text.startswith(words) and not text[len(words) : len(words) + 1].isalnum()
