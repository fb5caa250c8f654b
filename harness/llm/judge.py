"""Language models as judges: each request is made once and kept, and the key never leaves the client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.errors import UserError
from benchmarks.judges import JudgeClient, Request, RuleJudge

if TYPE_CHECKING:
    from harness.storage.store import Store
    from methods.augmentation.generators.chat import Chat, Completion, Message

NONE = "none"
WORKERS = 8
"""Requests at once; an endpoint that answers one after the other is not made slower by it."""
MEND = "write --judge rule, --judge openai:MODEL, --judge local:FOLDER or --judge none"
_WHERE = "--judge"


def judge_named(name: str | None, store: Store) -> str | JudgeClient | None:
    """The judge that the setting names, for ``Entry.open``: a name, a language model, or None for the usual one.

    Raises:
        UserError: There is no such judge.
    """
    if name is None or name == RuleJudge.name:
        return name
    kind, _, what = name.partition(":")
    if name in ("", NONE):
        return ""
    if kind == "openai" and what:
        from methods.augmentation.generators.openai_endpoint import Endpoint, identity_of

        return ChatJudge(name, LazyChat(identity_of(what), lambda: Endpoint(what, where=_WHERE)), store)
    if kind == "local" and what:
        from methods.augmentation.generators.hf_local import LocalChat, identity_of_folder

        identity = identity_of_folder(Path(what))
        return ChatJudge(f"local-{identity['model'][:12]}", LazyChat(identity, lambda: LocalChat(Path(what))), store, 1)
    raise UserError(f"there is no judge {name!r}", location=_WHERE, hint=MEND)


def check_judge(name: str | None) -> None:
    """Say before hours of training, not after, that an endpoint could not be asked.

    Raises:
        UserError: The client or the key is missing.
    """
    if name and name.startswith("openai:"):
        from methods.augmentation.generators.openai_endpoint import check_ready

        check_ready(_WHERE)


class LazyChat:
    """A chat model that is opened when first asked, so that kept replies need neither key nor weights."""

    def __init__(self, identity: Mapping[str, Any], make: Callable[[], Chat]) -> None:
        self.identity, self._make = identity, make

    @cached_property
    def _chat(self) -> Chat:
        return self._make()

    def complete(self, messages: list[Message], schema: Mapping[str, Any], max_tokens: int) -> Completion:
        """The reply."""
        return self._chat.complete(messages, schema, max_tokens)


class ChatJudge:
    """A chat model that judges. Satisfies ``benchmarks.judges.JudgeClient``.

    Args:
        name: As tables and fingerprints call it.
        chat: Who replies.
        store: Where every request and reply is kept by its content.
        workers: Requests at once.
    """

    def __init__(self, name: str, chat: Any, store: Store, workers: int = WORKERS) -> None:
        from harness.llm.budget import Budget
        from harness.llm.cache import CachedChat

        self.name, self._workers = name, workers
        self.trouble = ""
        """Why a call failed, the last that did."""
        self._chat = CachedChat(chat, store, Budget())
        self._down = False

    def replies(self, requests: Mapping[str, Request]) -> dict[str, str | None]:
        """The reply to each request, by its key; None where the call failed.

        Once no call can succeed, the rest is not tried; nothing of it is kept, so a later run asks again.
        """
        self._down = False
        with ThreadPoolExecutor(self._workers) as pool:
            return dict(zip(requests, pool.map(self._reply, requests.values()), strict=True))

    def _reply(self, request: Request) -> str | None:
        from harness.storage.store import StorageError
        from methods.augmentation.generators.base import GenerationRefused

        if self._down:
            return None
        try:
            said = self._chat.complete(messages_of(request), {}, request["max_tokens"])
        except StorageError:
            raise
        except (GenerationRefused, UserError) as error:
            self._down = self._down or isinstance(error, UserError)
            self.trouble = str(error).splitlines()[0]
            return None
        return said.text


def messages_of(request: Request) -> list[Message]:
    """A request as OpenAI's endpoint takes it."""
    parts = request["parts"]
    if len(parts) == 1 and parts[0][0] == "text":
        return [{"role": "user", "content": parts[0][1]}]
    return [{"role": "user", "content": [_shown(kind, value) for kind, value in parts]}]


def _shown(kind: str, value: str) -> dict[str, Any]:
    return {"type": "text", "text": value} if kind == "text" else {"type": "image_url", "image_url": {"url": value}}
