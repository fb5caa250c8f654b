"""Language models as judges: each request is made once, and its reply is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.errors import UserError, first_line
from benchmarks.judges import JudgeClient, Request, RuleJudge
from harness.llm.budget import Budget
from harness.llm.cache import CachedChat
from harness.storage.files import StorageError
from methods.augmentation.generators.base import GenerationRefused

if TYPE_CHECKING:
    from harness.storage.store import Store
    from methods.augmentation.generators.chat import Chat, Completion, Message

NONE = "none"
WORKERS = 8
"""Parallel requests; an endpoint that answers one at a time is not slowed down by them."""
HINT = "write --judge rule, --judge openai:MODEL, --judge local:FOLDER or --judge none"
LOCATION = "--judge"


def resolve_judge(name: str | None, store: Store) -> str | JudgeClient | None:
    """The judge that a setting names, for ``BenchmarkInfo.open``: a language model, "rule", "" for none, or None.

    Raises:
        UserError: There is no such judge.
    """
    if name is None or name == RuleJudge.name:
        return name
    if name in ("", NONE):
        return ""
    kind, _, model = name.partition(":")
    if kind == "openai" and model:
        from methods.augmentation.generators.openai_endpoint import Endpoint, model_identity

        return ChatJudge(name, LazyChat(model_identity(model), lambda: Endpoint(model, where=LOCATION)), store)
    if kind == "local" and model:
        from methods.augmentation.generators.hf_local import LocalChat, folder_identity

        folder = Path(model)
        identity = folder_identity(folder)
        # Tables show the model's digest instead of its path.
        return ChatJudge(f"local-{identity['model'][:12]}", LazyChat(identity, lambda: LocalChat(folder)), store, 1)
    raise UserError(f"there is no judge {name!r}", location=LOCATION, hint=HINT)


def check_judge(name: str | None) -> None:
    """Check before the training that an endpoint can be called after it.

    Raises:
        UserError: The client or the key is missing.
    """
    if name and name.startswith("openai:"):
        from methods.augmentation.generators.openai_endpoint import check_ready

        check_ready(LOCATION)


class LazyChat:
    """A chat model that is opened for its first call, so that stored replies need neither key nor weights."""

    def __init__(self, identity: Mapping[str, Any], make: Callable[[], Chat]) -> None:
        self.identity, self._make = identity, make

    @cached_property
    def _chat(self) -> Chat:
        return self._make()

    def complete(self, messages: Sequence[Message], schema: Mapping[str, Any], max_tokens: int) -> Completion:
        """The reply."""
        return self._chat.complete(messages, schema, max_tokens)


class ChatJudge:
    """A chat model that judges. Satisfies ``benchmarks.judges.JudgeClient``.

    Args:
        name: The name in tables and fingerprints.
        chat: The model.
        store: Where replies are stored.
        workers: Number of parallel requests.

    Attributes:
        last_error: Why the last failed call failed.
    """

    def __init__(self, name: str, chat: Chat, store: Store, workers: int = WORKERS) -> None:
        self.name, self._workers = name, workers
        self.last_error = ""
        self._chat = CachedChat(chat, store, Budget())
        self._is_down = False

    def replies(self, requests: Mapping[str, Request]) -> dict[str, str | None]:
        """The reply to each request, by its key; None if the call failed.

        Once an error shows that no call can succeed, the others are not made; a later run makes them.
        """
        self._is_down = False
        with ThreadPoolExecutor(self._workers) as pool:
            return dict(zip(requests, pool.map(self._reply, requests.values()), strict=True))

    def _reply(self, request: Request) -> str | None:
        if self._is_down:
            return None
        try:
            return self._chat.complete(to_messages(request), {}, request["max_tokens"]).text
        except StorageError:
            raise
        except (GenerationRefused, UserError) as error:
            self._is_down = self._is_down or isinstance(error, UserError)
            self.last_error = first_line(error)
            return None


def to_messages(request: Request) -> list[Message]:
    """A request in the form of OpenAI's API."""
    parts = request["parts"]
    if len(parts) == 1 and parts[0][0] == "text":
        return [{"role": "user", "content": parts[0][1]}]
    content = [
        {"type": "text", "text": value} if kind == "text" else {"type": "image_url", "image_url": {"url": value}}
        for kind, value in parts
    ]
    return [{"role": "user", "content": content}]
