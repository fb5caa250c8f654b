"""Fixtures for whole runs in the small."""

from __future__ import annotations

import pytest

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
