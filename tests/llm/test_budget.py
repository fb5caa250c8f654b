"""A budget holds for parallel calls, whatever the server counts; equal parallel calls are made once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness.augment.image_cache import CachedDownloads
from harness.llm.budget import Budget, BudgetSpent, Price, estimate_tokens
from harness.llm.cache import CachedChat
from harness.storage.store import Store
from methods.augmentation.generators.chat import Completion


class Chat:
    """Counts its calls and uses a fixed number of tokens."""

    def __init__(self, prompt: int, completion: int) -> None:
        self.identity = {"kind": "fake"}
        self.used, self.calls, self.lock = (prompt, completion), 0, threading.Lock()

    def complete(self, messages, schema, max_tokens):
        with self.lock:
            self.calls += 1
        time.sleep(0.002)
        return Completion("said", *self.used)


def ask(cached: CachedChat, text: str) -> str:
    try:
        return cached.complete([{"role": "user", "content": text}], {}, 100).text
    except BudgetSpent as error:
        return str(error)


@pytest.mark.parametrize(
    "used", [(20, 50), (60, 300), (0, 0)], ids=["as estimated", "three times as much", "not reported"]
)
def test_many_calls_at_once_stay_within_the_budget(tmp_path, used):
    chat, budget = Chat(*used), Budget(tokens=3000)
    cached = CachedChat(chat, Store(tmp_path), budget)
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda number: ask(cached, f"number {number}"), range(64)))
    assert budget.ran_out
    assert 0 < budget.calls == chat.calls == replies.count("said") < 64
    assert 0.5 * 3000 < budget.prompt + budget.completion <= 3000
    assert all("budget is used up" in reply for reply in replies if reply != "said")
    free = CachedChat(chat, Store(tmp_path), Budget())  # control: without a budget all calls are made
    assert all(ask(free, f"number {number}") == "said" for number in range(64))


def test_money_is_a_budget_too(tmp_path):
    chat, budget = Chat(100, 10), Budget(money=0.02, price=Price(10, 100))
    cached = CachedChat(chat, Store(tmp_path), budget)
    replies = [ask(cached, f"{number}") for number in range(8)]
    assert replies.count("said") == chat.calls == 5
    assert budget.spent == pytest.approx(5 * 0.002)  # the next could have cost 0.011


def test_a_call_that_fails_releases_its_reservation(tmp_path):
    class Failing(Chat):
        def complete(self, messages, schema, max_tokens):
            if self.calls < 3:
                self.calls += 1
                raise RuntimeError("down")
            return super().complete(messages, schema, max_tokens)

    cached = CachedChat(Failing(10, 10), Store(tmp_path), Budget(tokens=150))
    for _ in range(3):
        with pytest.raises(RuntimeError):
            ask(cached, "once more")
    assert ask(cached, "once more") == "said"


def test_equal_calls_and_searches_at_once_are_made_once(tmp_path):
    chat, searches = Chat(1, 1), []
    cached, downloads = CachedChat(chat, Store(tmp_path), Budget()), CachedDownloads(Store(tmp_path))

    def search() -> list[bytes]:
        searches.append(1)
        time.sleep(0.01)
        return [b"picture"]

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda number: ask(cached, "the same"), range(16)))
        got = list(pool.map(lambda number: downloads({"words": "the same"}, search), range(16)))
    assert (chat.calls, len(searches)) == (1, 1)
    assert (set(replies), got) == ({"said"}, [[b"picture"]] * 16)


def test_other_scripts_count_for_more():
    def tokens(text: str) -> float:
        return estimate_tokens([{"role": "user", "content": text}], {}, 0)[0]

    assert tokens("a" * 350) - tokens("") == pytest.approx(100)
    assert tokens("東" * 100) - tokens("") >= 100  # about a token each
    pictured = [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}]}]
    assert estimate_tokens(pictured, {}, 5)[0] > 1000
