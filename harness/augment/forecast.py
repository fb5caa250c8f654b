"""Forecast the cost of an augmentation before the first call."""

from __future__ import annotations

import dataclasses

from harness.augment.builder import Components
from harness.llm.forecast import DryRunChat, Forecast
from harness.storage.store import Store
from methods.augmentation.generators.chat import ChatGenerator


def dry_run_components(components: Components, store: Store) -> tuple[Components, Forecast] | None:
    """The same components with a ``DryRunChat``, and its forecast; None if they use no chat model."""
    if not isinstance(components.generator, ChatGenerator):
        return None
    chat = DryRunChat(components.generator.chat, store)
    generator = ChatGenerator(chat, components.generator.only_itself)
    checker = generator if isinstance(components.checker, ChatGenerator) else None
    return dataclasses.replace(components, generator=generator, checker=checker), chat.forecast
