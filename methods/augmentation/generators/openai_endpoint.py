"""A chat model behind any endpoint that speaks OpenAI's chat completions."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.errors import UserError
from methods.augmentation.generators.base import GenerationRefused
from methods.augmentation.generators.chat import Completion, Message

KEY, URL = "OPENAI_API_KEY", "OPENAI_BASE_URL"
PATIENCE = 5
"""Calls that may fail one after another before the endpoint counts as down."""
COMPLAINTS: Mapping[str, str] = {
    "response_format": r"response_format|json_schema",
    "max_tokens": r"max_completion_tokens",
    "temperature": r"temperature.*(support|permitted|unknown|unrecogni[sz]ed)|(unsupported|unknown).*temperature",
    "seed": r"\bseed\b.*(support|permitted|unknown|unrecogni[sz]ed)|(unsupported|unknown).*\bseed\b",
}
"""A parameter that some endpoints do not take, and how the refusal of one that does not reads."""
log = logging.getLogger(__name__)


class Endpoint:
    """Satisfies ``Chat``. The client waits and tries again on rate limits, timeouts and server errors.

    Args:
        model: As the endpoint calls it.
        timeout: Seconds for one attempt.
        retries: Attempts after the first, further apart each time, or as the server's ``Retry-After`` says.
        where: The flag or setting that named it, for messages.

    Raises:
        UserError: The client is not installed, or no key is set.
    """

    def __init__(
        self, model: str, timeout: float = 120.0, retries: int = 5, where: str = "--generator openai:"
    ) -> None:
        self.identity: Mapping[str, Any] = identity_of(model)
        self._where = where
        self._client = _client(timeout, retries, where)
        self._untaken: frozenset[str] = frozenset()
        """Of ``COMPLAINTS``, what the endpoint has refused."""
        self._failed, self._answered, self._lock = 0, False, threading.Lock()

    def complete(self, messages: Sequence[Message], schema: Mapping[str, Any], max_tokens: int) -> Completion:
        """One call, without sampling."""
        import openai

        try:
            said = self._call(messages, schema, max_tokens)
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise _fatal(error, self._where) from error
        except (openai.APIError, json.JSONDecodeError) as error:
            self._failure(error)
            raise GenerationRefused(f"the endpoint failed ({_short(error)})") from error
        with self._lock:
            self._failed, self._answered = 0, True
        return said

    def _failure(self, error: Exception) -> None:
        """Count it. A request that is refused says nothing about the others once one was answered.

        Raises:
            UserError: So many failed in a row that the endpoint counts as down.
        """
        import openai

        with self._lock:
            if not (self._answered and isinstance(error, openai.BadRequestError | openai.UnprocessableEntityError)):
                self._failed += 1
            if self._failed >= PATIENCE:
                raise _fatal(error, self._where) from error

    def _call(self, messages: Sequence[Message], schema: Mapping[str, Any], max_tokens: int) -> Completion:
        """One answer; a parameter that the endpoint does not take is left out from then on."""
        import openai

        said = [dict(message) for message in messages]
        wanted = {
            "model": self.identity["model"],
            "messages": said,
            "max_tokens": max_tokens,
            "temperature": 0,
            "seed": 0,
        }
        if schema:  # where this is not taken, it still stands in the prompt, and every reply is checked
            held = {"name": "reply", "schema": dict(schema)}
            wanted["response_format"] = {"type": "json_schema", "json_schema": held}
        while True:
            asked = {name: value for name, value in wanted.items() if name not in self._untaken}
            if "max_tokens" not in asked:
                asked["max_completion_tokens"] = max_tokens
            try:
                return _completion(self._client.chat.completions.create(**asked))
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                refused = _untaken(str(error)) & asked.keys()
                if not refused:
                    raise
                log.warning("the endpoint does not take %s; it is asked without", ", ".join(sorted(refused)))
                with self._lock:
                    self._untaken |= refused


def _untaken(said: str) -> set[str]:
    """The parameters that an endpoint's refusal complains of."""
    return {name for name, complaint in COMPLAINTS.items() if re.search(complaint, said, re.IGNORECASE)}


def identity_of(model: str) -> dict[str, Any]:
    """What, beside the messages, decides a reply; known without a client or a key."""
    return {"kind": "chat completions", "model": model, "temperature": 0, "seed": 0}


def check_ready(where: str) -> None:
    """Whether an endpoint could be asked: the client is there, and a key.

    Raises:
        UserError: One of them is missing.
    """
    _client(1.0, 0, where)


def _completion(answer: Any) -> Completion:
    """The first choice of an answer; one of another shape counts as declined."""
    try:
        choice = answer.choices[0]
        text, ended, refusal = choice.message.content, choice.finish_reason, getattr(choice.message, "refusal", None)
    except (AttributeError, IndexError, TypeError):
        return Completion("", 0, 0, "declined")
    used = answer.usage
    return Completion(
        text=text if isinstance(text, str) else "",
        prompt_tokens=_count(used, "prompt_tokens"),
        completion_tokens=_count(used, "completion_tokens"),
        stop="declined" if refusal or ended == "content_filter" else "cut" if ended == "length" else "end",
    )


def _count(used: Any, name: str) -> int:
    """A number of tokens; 0 where the endpoint tells none."""
    told = getattr(used, name, None)
    return told if isinstance(told, int) and told > 0 else 0


def _client(timeout: float, retries: int, where: str) -> Any:
    try:
        from openai import OpenAI
    except ImportError as error:
        raise UserError("the client is not installed", location=where, hint='pip install "openai>=2.0"') from error
    if not os.environ.get(KEY):
        raise UserError(f"{KEY} is not set", location=where, hint=f"export {KEY}, and {URL} if need be")
    return OpenAI(timeout=timeout, max_retries=retries)


def _fatal(error: Exception, where: str) -> UserError:
    return UserError(
        f"the endpoint refuses to work ({_short(error)})",
        location=where,
        hint=f"check {URL}, {KEY} and the model's name; what was answered is kept, and the same command goes on",
    )


def _short(error: Exception) -> str:
    """What an endpoint's error says, on one line, at most 200 characters, and never the key."""
    said = " ".join(str(error).split()).replace(os.environ.get(KEY) or "\0", "***")
    return f"{type(error).__name__}: {said[:200]}"
