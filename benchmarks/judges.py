"""Judges, which extract or grade an answer if a benchmark's own code cannot.

``RuleJudge`` judges the miniature. It is deterministic, needs no model, and is named beside every number it produced.
It gets VLMEvalKit's own prompt, like a language model would, and replies in the form that VLMEvalKit parses.

A language model that judges is a ``JudgeClient``: the harness's own process, which has network and key, calls it, and
the scoring process gets its replies as a ``RecordedJudge``.
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
    """A judge as VLMEvalKit calls it."""

    name: str

    def working(self) -> bool:
        """Whether the judge is available."""

    def generate(self, message: Message, **options: Any) -> str:
        """Reply to VLMEvalKit's prompt, a text or a list of ``{"type", "value"}`` parts."""


Request = Mapping[str, Any]
"""A request to a language model: ``parts``, each [kind, text or data URL], and ``max_tokens``."""


class JudgeClient(Protocol):
    """A language model that judges."""

    name: str
    """The name in tables and fingerprints; contains no path."""
    last_error: str
    """Why the last failed call failed; empty if none did."""

    def replies(self, requests: Mapping[str, Request]) -> dict[str, str | None]:
        """The reply to each request, by its key; None if the call failed and may succeed later."""


class RecordedJudge:
    """A judge that replies from a record and collects requests without a recorded reply. Satisfies ``Judge``.

    Args:
        name: The language model that replied.
        replies: Replies by request key; None if the call failed.
    """

    default_max_tokens = 2048
    """Maximum tokens of a reply unless VLMEvalKit sets another number."""

    def __init__(self, name: str, replies: Mapping[str, str | None]) -> None:
        self.name, self.max_tokens = name, self.default_max_tokens
        self.open_requests: dict[str, Request] = {}
        """Requests without a reply, by key."""
        self._replies, self._used = replies, dict[str, str | None]()

    def working(self) -> bool:
        """Always True: whether the language model is available shows in its replies."""
        return True

    def generate(self, message: Message, **_: Any) -> str:
        """The recorded reply, or an empty string."""
        parts = [["text", message]] if isinstance(message, str) else [[p["type"], p["value"]] for p in message]
        request = {"parts": parts, "max_tokens": self.max_tokens}
        key = hashlib.sha256(json.dumps(request).encode()).hexdigest()
        if key not in self._replies:
            self.open_requests[key] = request
            return ""
        self._used[key] = self._replies[key]
        return self._replies[key] or ""

    @property
    def calls(self) -> int:
        """Number of different requests."""
        return len(self._used)

    @property
    def failed(self) -> int:
        """Number of requests whose call failed."""
        return sum(reply is None for reply in self._used.values())

    @property
    def coverage(self) -> float:
        """Share (0-100) of requests with a reply. An empty reply counts: there may be nothing to extract."""
        return 100 * (1 - self.failed / self.calls) if self.calls else 100.0


def get_judge(name: str) -> Judge | None:
    """The judge with this name; None for an empty name.

    Raises:
        UserError: The judge does not exist.
    """
    if name not in ("", RuleJudge.name):
        raise UserError(f"there is no judge {name!r}", location="judge", hint="use 'rule', or an empty name for none")
    return RuleJudge() if name else None


class UnknownInstruction(UserError, ValueError):
    """An instruction of MIA-Bench that the rule judge cannot check."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the rule judge only grades the miniature's instructions ({reason})",
            location="judge=rule",
            hint="grade MIA-Bench with a language model (--judge openai:MODEL or local:FOLDER), or --judge none",
        )


class RuleJudge:
    """A judge made of rules: last number or option, CEM and F1, and the closed set of MIA components."""

    name = "rule"

    def __init__(self, check: Callable[[str, str], bool] | None = None) -> None:
        """Create a judge; ``check`` replaces the miniature's check of an instruction's components (for tests)."""
        self._check = check

    def working(self) -> bool:
        """Always True."""
        return True

    def generate(self, message: Message, **_: Any) -> str:
        """Recognise the benchmark by the fixed words of its prompt, and reply.

        Raises:
            ValueError: The prompt is unknown.
            UnknownInstruction: A component of MIA-Bench's instruction is not one of the miniature's.
        """
        text = message if isinstance(message, str) else "\n".join(p["value"] for p in message if p["type"] == "text")
        if _RESPONSE in text and _GRADE in text:
            return self._grade_components(text)
        if _ANSWER_BEGINS in text:
            return _grade_turn(text)
        if _MODEL_ANSWER in text:
            return _extract(text)
        if _CORRECTNESS in text:
            return _grade_correctness(text)
        raise ValueError(f"the rule judge does not know this prompt: {text[:80]!r}")

    def _grade_components(self, text: str) -> str:
        """MIA-Bench: grade which components of the instruction the response follows."""
        check = self._check
        if check is None:
            from benchmarks.mini.components import check as rule

            check = rule
        task, _, rest = text.partition(_RESPONSE)
        response, _, tail = rest.rpartition(_GRADE)
        components = _COMPONENT.findall(task.rpartition(_TASK)[2])
        weights = [int(word) for word in re.findall(r"\d+", tail.partition("worth")[2].partition("List scores")[0])]
        if not components or len(components) != len(weights):
            raise UnknownInstruction(f"{len(components)} components but {len(weights)} weights")
        try:
            scores = [weight * check(part, response) for part, weight in zip(components, weights, strict=True)]
        except ValueError as error:
            raise UnknownInstruction(str(error)) from error
        parts = [
            f"score of component {i}: {s}/{w}" for i, (s, w) in enumerate(zip(scores, weights, strict=True), start=1)
        ]
        return ", ".join([*parts, f"total score: {round(10 * sum(scores) / sum(weights))}/10"]) + ". Checked by rule."


# Fixed words that separate the parts of VLMEvalKit's prompts. The model's text is the last part, or its end is searched
# from the end, so it cannot imitate another part.
_TASK = "'. You need to grade if the response from the model follows each component of the instruction. "
_RESPONSE = "The response is: '"
_GRADE = "'. You need to score the response and be strict."
_COMPONENT = re.compile(
    r"(?:first|second|third|fourth|fifth) component is:? '(.*?)'(?=, and the |\. $|\. The response)"
)
_REFERENCE_BEGINS = "[The Start of Reference Answer]\n"
_REFERENCE_ENDS = "\n[The End of Reference Answer]"
_ANSWER_BEGINS = "[The Start of Assistant’s Answer]\n"
_ANSWER_ENDS = "\n[The End of Assistant’s Answer]"
_MODEL_ANSWER = "Model respone: "  # VLMEvalKit's spelling
_MODEL_ANSWER_ENDS = "Extracted answer:"
_CORRECTNESS = "Just complete the last space of the correctness score."

DIMENSIONS = (
    "Creativity",
    "Richness",
    "Visual Perception",
    "Logical Coherence",
    "Answer Accuracy",
    "Image Relationship Understanding",
    "Overall Score",
)


def _grade_turn(text: str) -> str:
    """MMDU: the mean of CEM and F1 against the reference, on the rubric's scale from 1 to 10, for every dimension."""
    _, _, rest = text.partition(_REFERENCE_BEGINS)
    reference, _, rest = rest.partition(_REFERENCE_ENDS)
    answer = rest.partition(_ANSWER_BEGINS)[2].rpartition(_ANSWER_ENDS)[0]
    share = (cem(answer, reference) + f1(answer, reference)) / 2
    return repr(dict.fromkeys(DIMENSIONS, 1 + round(9 * share)))


def _grade_correctness(text: str) -> str:
    """MM-Vet's prompt for open answers: the mean of CEM and F1 against the ground truth, in tenths."""
    _, _, question = text.rpartition("\n\n")
    _, reference, answer, *_ = [*question.split(" | "), "", ""]
    return str(round((cem(answer, reference) + f1(answer, reference)) / 2, 1))


_OPTIONS = re.compile(r"^\s*(?:Choices:|\(?A[).:])", re.MULTILINE)
_LETTER = re.compile(r"(?<![\w'])\(?([A-J])\)?(?![\w'])")
_NUMBER = re.compile(r"(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?(?![\w/])|(?<![\w.])-?\.\d+(?!\w)")
_LIST = re.compile(r"\[[^\[\]]*\]")


def _extract(text: str) -> str:
    """MathVista and MathVision: the last option letter, number or list of the answer; empty if there is none."""
    before, _, rest = text.partition(_MODEL_ANSWER)
    question = before.rpartition(_MODEL_ANSWER_ENDS)[2]
    answer = rest.rpartition(_MODEL_ANSWER_ENDS)[0].strip()
    if _OPTIONS.search(question):
        return _last(_LETTER, answer)
    if "Python list" in question:
        return _last(_LIST, answer)
    return _last(_NUMBER, answer).replace(",", "")


def _last(pattern: re.Pattern[str], text: str) -> str:
    matches = [match[1] if match.lastindex else match[0] for match in pattern.finditer(text)]
    return matches[-1] if matches else ""
