"""Fixtures for whole runs in the small."""

from __future__ import annotations

import contextlib

import pytest
from chat_server import serving

TOKENS = 8
"""Where an answer ends. A random model never ends by itself, and a run spends most of its time on what it babbles."""


@pytest.fixture(scope="module")
def short_answers():
    """Answers to EVOKE's questions are cut early, in this process alone."""
    from benchmarks.evoke import Evoke

    made = Evoke.__init__

    def brief(self, *arguments, **options):
        made(self, *arguments, **options)
        self.max_new_tokens = TOKENS

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Evoke, "__init__", brief)
        yield


@pytest.fixture
def endpoint(monkeypatch):
    """Sets the environment to a server; gives a function that starts one with a script."""
    from methods.augmentation.generators import endpoint as module

    class Hasty(module.Endpoint):
        def __init__(self, model, timeout=0.5, retries=1):
            super().__init__(model, timeout, retries)

    monkeypatch.setenv("OPENAI_API_KEY", "not-a-real-key")
    monkeypatch.setattr(module, "Endpoint", Hasty)
    with contextlib.ExitStack() as opened:

        def start(script=None):
            server = opened.enter_context(serving(script))
            monkeypatch.setenv("OPENAI_BASE_URL", server.url)
            return server

        yield start
