"""A chat model behind any endpoint that speaks OpenAI's chat completions."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.errors import UserError
from methods.augmentation.generators.base import Refused
from methods.augmentation.generators.chat import Completion, Message

KEY, URL = "OPENAI_API_KEY", "OPENAI_BASE_URL"
PATIENCE = 5
"""Calls that may fail one after another before the endpoint counts as down."""


class Endpoint:
    """Satisfies ``Chat``. The client waits and tries again on rate limits, timeouts and server errors.

    Args:
        model: As the endpoint calls it.
        timeout: Seconds for one attempt.
        retries: Attempts after the first, further apart each time, or as the server's ``Retry-After`` says.

    Raises:
        UserError: The client is not installed, or no key is set.
    """

    def __init__(self, model: str, timeout: float = 120.0, retries: int = 5) -> None:
        self.identity: Mapping[str, Any] = {"kind": "chat completions", "model": model, "temperature": 0, "seed": 0}
        self._client = _client(timeout, retries)
        self._held = True
        """Whether the endpoint is asked to hold replies to the schema; not every one can."""
        self._failed, self._lock = 0, threading.Lock()

    def complete(self, messages: Sequence[Message], schema: Mapping[str, Any], max_tokens: int) -> Completion:
        """One call, without sampling."""
        import openai

        try:
            said = self._call(messages, schema, max_tokens)
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise _fatal(error) from error
        except openai.APIError as error:
            with self._lock:
                self._failed += 1
                down = self._failed >= PATIENCE
            if down:
                raise _fatal(error) from error
            raise Refused(f"the endpoint failed ({_short(error)})") from error
        with self._lock:
            self._failed = 0
        return said

    def _call(self, messages: Sequence[Message], schema: Mapping[str, Any], max_tokens: int) -> Completion:
        import openai

        asked: dict[str, Any] = {
            "model": self.identity["model"],
            "messages": [dict(message) for message in messages],
            "max_tokens": max_tokens,
            "temperature": 0,
            "seed": 0,
        }
        held = {"type": "json_schema", "json_schema": {"name": "reply", "schema": dict(schema)}}
        if self._held:
            try:
                return _completion(self._client.chat.completions.create(**asked, response_format=held))
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if "response_format" not in str(error) and "json_schema" not in str(error):
                    raise
                self._held = False  # the schema stands in the prompt too, and every reply is checked
        return _completion(self._client.chat.completions.create(**asked))


def _completion(answer: Any) -> Completion:
    """The first choice of an answer; an empty one counts as declined."""
    choices = getattr(answer, "choices", None)
    if not choices or choices[0].message is None:
        return Completion("", 0, 0, "declined")
    message, used = choices[0].message, answer.usage
    declined = bool(getattr(message, "refusal", None)) or choices[0].finish_reason == "content_filter"
    cut = choices[0].finish_reason == "length"
    return Completion(
        text=message.content or "",
        prompt_tokens=used.prompt_tokens if used else 0,
        completion_tokens=used.completion_tokens if used else 0,
        stop="declined" if declined else "cut" if cut else "end",
    )


def _client(timeout: float, retries: int) -> Any:
    try:
        from openai import OpenAI
    except ImportError as error:
        raise UserError(
            "the client is not installed", where="--generator openai:", mend='pip install "openai>=2.0"'
        ) from error
    if not os.environ.get(KEY):
        raise UserError(f"{KEY} is not set", where="--generator openai:", mend=f"export {KEY}, and {URL} if need be")
    return OpenAI(timeout=timeout, max_retries=retries)


def _fatal(error: Exception) -> UserError:
    return UserError(
        f"the endpoint refuses to work ({_short(error)})",
        where="--generator",
        mend=f"check {URL}, {KEY} and the model's name; what was answered is kept, and the same command goes on",
    )


def _short(error: Exception) -> str:
    """What an endpoint's error says, on one line, at most 200 characters, and never the key."""
    said = " ".join(str(error).split()).replace(os.environ.get(KEY) or "\0", "***")
    return f"{type(error).__name__}: {said[:200]}"
