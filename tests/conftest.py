"""Fixtures for all tests. The folder of this file is on the import path: ``from helpers.tiny import conversation``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from helpers.chat_server import serving

if TYPE_CHECKING:
    from harness.models.llava import LlavaModel

# An example may take long on a busy machine; timing belongs in tests/speed.
settings.register_profile("untimed", settings(), deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random LLaVA in Hugging Face layout. Read only: copy it before changing anything."""
    from helpers.tiny import write_tiny_model

    return write_tiny_model(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture
def tiny_model(tiny_folder: Path) -> LlavaModel:
    """A freshly loaded tiny LLaVA in float32 on the CPU."""
    import torch

    from harness.models.llava import LlavaModel

    return LlavaModel.load(tiny_folder, torch.device("cpu"), torch.float32)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLIP in Hugging Face layout. Read only."""
    from helpers.tiny_clip import write_clip

    return write_clip(tmp_path_factory.mktemp("tiny-clip"))


@pytest.fixture(scope="module", autouse=True)
def figures_are_not_rendered(pytestconfig: pytest.Config):
    """Rendering is most of the time of a small run: fast tests leave it out, but those of ``tests/reports``.

    Slow tests render, because they also compare a run with what commands of its own write.
    """
    if pytestconfig.getoption("markexpr") != "not slow":
        yield
        return
    from helpers.figures import without_rendering

    with without_rendering():
        yield


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
    """Sets the environment to a server; gives a function that starts one with a script.

    The client repeats a call once. It waits long enough for a busy machine, unless a test of stalls says otherwise.
    """
    from methods.augmentation.generators import openai_endpoint as module

    class Hasty(module.Endpoint):
        patience = 30.0

        def __init__(self, model, timeout=120.0, retries=1, where="--generator openai:"):
            super().__init__(model, min(timeout, Hasty.patience), retries, where)

    monkeypatch.setenv("OPENAI_API_KEY", "not-a-real-key")
    monkeypatch.setattr(module, "Endpoint", Hasty)
    with contextlib.ExitStack() as opened:

        def start(script=None, timeout=30.0):
            Hasty.patience = timeout
            server = opened.enter_context(serving(script))
            monkeypatch.setenv("OPENAI_BASE_URL", server.url)
            return server

        yield start
