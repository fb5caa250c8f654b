"""A chat model behind any endpoint with OpenAI's chat completions API."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from benchmarks.errors import UserError
from methods.augmentation.generators.base import GenerationRefused
from methods.augmentation.generators.chat import Completion, Message

KEY = "OPENAI_API_KEY"
URL = "OPENAI_BASE_URL"
DEFAULT_URL = "https://api.openai.com/v1"
RENAMED = "max_tokens"
"""A parameter that is not left out but called otherwise."""
MAX_FAILURES = 5
"""Consecutive calls that may fail before the endpoint counts as down."""
OPTIONAL: Mapping[str, str] = {
    "response_format": r"response_format|json_schema",
    "max_tokens": r"max_completion_tokens",
    "temperature": r"temperature.*(support|permitted|unknown|unrecogni[sz]ed)|(unsupported|unknown).*temperature",
    "seed": r"\bseed\b.*(support|permitted|unknown|unrecogni[sz]ed)|(unsupported|unknown).*\bseed\b",
}
"""Parameters that some endpoints do not accept, and a pattern for the error of such an endpoint."""
logger = logging.getLogger(__name__)


class Endpoint:
    """Satisfies ``Chat``. The client waits and retries on rate limits, timeouts and server errors.

    Args:
        model: The endpoint's name of the model.
        timeout: Seconds for one attempt.
        retries: Attempts after the first, at growing intervals or as the server's ``Retry-After`` says.
        where: The flag or setting that chose the model, for messages.

    Raises:
        UserError: The client is not installed, or no key is set.
    """

    def __init__(
        self, model: str, timeout: float = 120.0, retries: int = 5, where: str = "--generator openai:"
    ) -> None:
        self.identity: Mapping[str, Any] = model_identity(model)
        self._where = where
        self._client = _client(timeout, retries, where)
        self._rejected: frozenset[str] = frozenset()
        """The ``OPTIONAL`` parameters that the endpoint has rejected."""
        self._failures = 0
        self._has_answered = False
        self._lock = threading.Lock()

    def complete(self, messages: Sequence[Message], schema: Mapping[str, Any], max_tokens: int) -> Completion:
        """Make one call, without sampling."""
        import openai

        try:
            completion = self._call(messages, schema, max_tokens)
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise _fatal(error, self._where) from error
        except (openai.APIError, json.JSONDecodeError, _NoAnswerError) as error:
            self._count_failure(error)
            raise GenerationRefused(f"the endpoint failed ({_short(error)})") from error
        with self._lock:
            self._failures, self._has_answered = 0, True
        return completion

    def _count_failure(self, error: Exception) -> None:
        """Count a failed call. Once a call was answered, a rejected request says nothing about the others.

        Raises:
            UserError: So many calls failed in a row that the endpoint counts as down.
        """
        import openai

        with self._lock:
            if not (self._has_answered and isinstance(error, openai.BadRequestError | openai.UnprocessableEntityError)):
                self._failures += 1
            if self._failures >= MAX_FAILURES:
                raise _fatal(error, self._where) from error

    def _call(self, messages: Sequence[Message], schema: Mapping[str, Any], max_tokens: int) -> Completion:
        """Make one call; a parameter that the endpoint rejects is left out from then on."""
        import openai

        parameters: dict[str, Any] = {
            "model": self.identity["model"],
            "messages": [dict(message) for message in messages],
            "max_tokens": max_tokens,
            "temperature": 0,
            "seed": 0,
        }
        if schema:  # an endpoint that rejects it still has the schema in the prompt, and every reply is checked
            named = {"name": "reply", "schema": dict(schema)}
            parameters["response_format"] = {"type": "json_schema", "json_schema": named}
        while True:
            accepted = {name: value for name, value in parameters.items() if name not in self._rejected}
            if RENAMED not in accepted:
                accepted["max_completion_tokens"] = max_tokens
            try:
                completion = _completion(self._client.chat.completions.create(**accepted))
                return replace(completion, left_out=sorted(self._rejected & parameters.keys() - {RENAMED}))
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                patterns = OPTIONAL.items()
                named_in_error = {name for name, pattern in patterns if re.search(pattern, str(error), re.IGNORECASE)}
                rejected = named_in_error & accepted.keys()
                if not rejected:
                    raise
                logger.warning("the endpoint does not accept %s; calling without", ", ".join(sorted(rejected)))
                with self._lock:
                    self._rejected |= rejected


def model_identity(model: str) -> dict[str, Any]:
    """The ``identity`` of a model, known without a client or a key."""
    return {"kind": "chat completions", "model": model, "temperature": 0, "seed": 0}


def endpoint_host() -> str:
    """The host of the endpoint, with its port if it names one, and nothing else of the address.

    Raises:
        UserError: The address has no host.
    """
    try:
        parts = urlsplit(os.environ.get(URL) or DEFAULT_URL)
        port = f":{parts.port}" if parts.port else ""
    except ValueError as error:
        raise UserError("this is no address", location=URL, hint=f"write it like {DEFAULT_URL}") from error
    if not parts.hostname:
        raise UserError("this is no address", location=URL, hint=f"write it like {DEFAULT_URL}")
    return f"{parts.hostname}{port}"


def check_ready(where: str) -> None:
    """Check that the client is installed and a key is set.

    Raises:
        UserError: One of them is missing.
    """
    _client(1.0, 0, where)


def _completion(answer: Any) -> Completion:
    """The first choice of a response.

    Raises:
        _NoAnswerError: It has none, as where a gateway reports an error with status 200.
    """
    try:
        choice = answer.choices[0]
        text, reason, refusal = choice.message.content, choice.finish_reason, getattr(choice.message, "refusal", None)
    except (AttributeError, IndexError, TypeError) as error:
        raise _NoAnswerError("the reply holds no answer") from error
    return Completion(
        text=text if isinstance(text, str) else "",
        prompt_tokens=_count(answer.usage, "prompt_tokens"),
        completion_tokens=_count(answer.usage, "completion_tokens"),
        stop="declined" if refusal or reason == "content_filter" else "cut" if reason == "length" else "end",
        model=_text(answer, "model"),
        fingerprint=_text(answer, "system_fingerprint"),
    )


class _NoAnswerError(Exception):
    """A response without an answer or a refusal: the call failed, and another may succeed."""


def _text(answer: Any, name: str) -> str:
    """A text of a response; empty if the endpoint does not send it."""
    value = getattr(answer, name, None)
    return value if isinstance(value, str) else ""


def _count(usage: Any, name: str) -> int:
    """A number of tokens; 0 if the endpoint does not report it."""
    count = getattr(usage, name, None)
    return count if isinstance(count, int) and count > 0 else 0


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
        f"the endpoint does not work ({_short(error)})",
        location=where,
        hint=f"check {URL}, {KEY} and the model's name, then repeat the command: answers so far are cached",
    )


def _short(error: Exception) -> str:
    """The message of an endpoint's error on one line, without the key and without a password in the address."""
    message = " ".join(str(error).split())
    for secret in (os.environ.get(KEY), urlsplit(os.environ.get(URL) or DEFAULT_URL).password):
        message = message.replace(secret or "\0", "***")
    return f"{type(error).__name__}: {message[:200]}"
