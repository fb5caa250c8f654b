"""Judges: what reads or grades an answer where a benchmark's own code cannot.

``RuleJudge`` is the miniature's. It is deterministic, needs no model, and its name stands beside every number it made.
It sees what a language model would see, VLMEvalKit's own prompt, and answers in the form that VLMEvalKit reads.

A language model as a judge is a ``JudgeClient``: it is asked by the harness's own process, which has network and key, and
its replies reach the scoring process as a ``RecordedJudge``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from benchmarks.errors import UserError
from benchmarks.metrics import cem, f1

Message = str | Sequence[dict[str, Any]]


class Judge(Protocol):
    """Whatever answers VLMEvalKit's questions about an answer."""

    name: str

    def working(self) -> bool:
        """Whether it can be asked."""

    def generate(self, message: Message, **options: Any) -> str:
        """Its reply to VLMEvalKit's prompt, a text or a list of ``{"type", "value"}`` parts."""


Request = Mapping[str, Any]
"""What a language model is asked: ``parts``, [kind, text or data URL] each, and ``max_tokens``."""


class JudgeClient(Protocol):
    """A language model that judges."""

    name: str
    """As tables and fingerprints call it; holds no path."""
    trouble: str
    """Why calls failed; empty where none did."""

    def replies(self, requests: Mapping[str, Request]) -> dict[str, str | None]:
        """The reply to each request, by its key; None where the call failed and another try may fare better."""


class RecordedJudge:
    """A judge whose replies are known; what it was not asked yet it notes and leaves open. Satisfies ``Judge``.

    Args:
        name: Of the language model that replied.
        replies: By the key of the request; None where the call failed.
    """

    usual_tokens = 2048
    """Most tokens of a reply where VLMEvalKit names no other number."""

    def __init__(self, name: str, replies: Mapping[str, str | None]) -> None:
        self.name, self.max_tokens = name, self.usual_tokens
        self.asked: dict[str, Request] = {}
        """Requests without a reply yet, by key."""
        self._replies, self._used = replies, dict[str, str | None]()

    def working(self) -> bool:
        """Always: whether the language model can be reached shows in its replies."""
        return True

    def generate(self, message: Message, **_: Any) -> str:
        """The reply that is known, or nothing."""
        parts = [["text", message]] if isinstance(message, str) else [[p["type"], p["value"]] for p in message]
        request = {"parts": parts, "max_tokens": self.max_tokens}
        key = hashlib.sha256(json.dumps(request).encode()).hexdigest()
        if key not in self._replies:
            self.asked[key] = request
            return ""
        self._used[key] = self._replies[key]
        return self._replies[key] or ""

    @property
    def calls(self) -> int:
        """Different requests."""
        return len(self._used)

    @property
    def failed(self) -> int:
        """Requests whose call failed."""
        return sum(reply is None for reply in self._used.values())

    @property
    def coverage(self) -> float:
        """Share (0-100) of the requests that were replied to. An empty reply may mean that nothing is to be found."""
        return 100 * (1 - self.failed / self.calls) if self.calls else 100.0


def by_name(name: str) -> Judge | None:
    """The judge that a setting names; None for an empty name.

    Raises:
        UserError: There is no such judge.
    """
    if name not in ("", RuleJudge.name):
        raise UserError(f"there is no judge {name!r}", location="judge", hint="use 'rule', or nothing for none")
    return RuleJudge() if name else None


class RuleJudge:
    """Rules in a judge's place: last number or option, CEM and F1, and the closed set of MIA components."""

    name = "rule"

    def __init__(self, check: Callable[[str, str], bool] | None = None) -> None:
        """Take another check for the components of an instruction than the miniature's (for tests)."""
        self._check = check

    def working(self) -> bool:
        """Always."""
        return True

    def generate(self, message: Message, **_: Any) -> str:
        """Recognise which benchmark asks by the fixed words of its prompt, and reply.

        Raises:
            ValueError: The prompt is none of those that it knows.
        """
        text = message if isinstance(message, str) else "\n".join(p["value"] for p in message if p["type"] == "text")
        if _RESPONSE in text and _GRADE in text:
            return self._components(text)
        if _ANSWER_BEGINS in text:
            return _dialogue_turn(text)
        if _SAID in text:
            return _extracted(text)
        raise ValueError(f"the rule judge does not know this prompt: {text[:80]!r}")

    def _components(self, text: str) -> str:
        """MIA-Bench: which components of the instruction the response follows."""
        check = self._check
        if check is None:
            from benchmarks.mini.components import check as rule

            check = rule
        task, _, rest = text.partition(_RESPONSE)
        response, _, tail = rest.rpartition(_GRADE)
        components = _COMPONENT.findall(task.rpartition(_TASK)[2])
        weights = [int(word) for word in re.findall(r"\d+", tail.partition("worth")[2].partition("List scores")[0])]
        if not components or len(components) != len(weights):
            raise ValueError(f"{len(components)} components but {len(weights)} weights")
        got = [weight * check(part, response) for part, weight in zip(components, weights, strict=True)]
        each = [f"score of component {i}: {g}/{w}" for i, (g, w) in enumerate(zip(got, weights, strict=True), start=1)]
        return ", ".join([*each, f"total score: {round(10 * sum(got) / sum(weights))}/10"]) + ". Checked by rule."


# Fixed words of VLMEvalKit's prompts, by which they are taken apart. The model's text is the part that comes last or
# whose end is searched from the end, so it cannot pass for another part.
_TASK = "'. You need to grade if the response from the model follows each component of the instruction. "
_RESPONSE = "The response is: '"
_GRADE = "'. You need to score the response and be strict."
_COMPONENT = re.compile(
    r"(?:first|second|third|fourth|fifth) component is:? '(.*?)'(?=, and the |\. $|\. The response)"
)
_REFERENCE_BEGINS, _REFERENCE_ENDS = "[The Start of Reference Answer]\n", "\n[The End of Reference Answer]"
_ANSWER_BEGINS, _ANSWER_ENDS = "[The Start of Assistant’s Answer]\n", "\n[The End of Assistant’s Answer]"
_SAID = "Model respone: "  # VLMEvalKit's spelling
_SAID_ENDS = "Extracted answer:"

DIMENSIONS = (
    "Creativity",
    "Richness",
    "Visual Perception",
    "Logical Coherence",
    "Answer Accuracy",
    "Image Relationship Understanding",
    "Overall Score",
)


def _dialogue_turn(text: str) -> str:
    """MMDU: the mean of CEM and F1 against the reference, on the rubric's scale from 1 to 10, for every dimension."""
    _, _, rest = text.partition(_REFERENCE_BEGINS)
    reference, _, rest = rest.partition(_REFERENCE_ENDS)
    answer = rest.partition(_ANSWER_BEGINS)[2].rpartition(_ANSWER_ENDS)[0]
    share = (cem(answer, reference) + f1(answer, reference)) / 2
    return repr(dict.fromkeys(DIMENSIONS, 1 + round(9 * share)))


_OPTIONS = re.compile(r"^\s*(?:Choices:|\(?A[).:])", re.MULTILINE)
_LETTER = re.compile(r"(?<![\w'])\(?([A-J])\)?(?![\w'])")
_NUMBER = re.compile(r"(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?(?![\w/])|(?<![\w.])-?\.\d+(?!\w)")
_LIST = re.compile(r"\[[^\[\]]*\]")


def _extracted(text: str) -> str:
    """MathVista and MathVision: the last option letter, number or list of the answer; empty where there is none."""
    before, _, rest = text.partition(_SAID)
    question = before.rpartition("Extracted answer:")[2]
    said = rest.rpartition(_SAID_ENDS)[0].strip()
    if _OPTIONS.search(question):
        return _last(_LETTER, said)
    if "Python list" in question:
        return _last(_LIST, said)
    return _last(_NUMBER, said).replace(",", "")


def _last(pattern: re.Pattern[str], text: str) -> str:
    found = [match[1] if match.lastindex else match[0] for match in pattern.finditer(text)]
    return found[-1] if found else ""
