"""How many tokens a model can read."""

from __future__ import annotations

from harness.models.base import LanguageVisionModel


def context_window(model: LanguageVisionModel) -> int | None:
    """The number of positions that the decoder was built for; None if its configuration does not say."""
    config = model.inner.config.get_text_config()
    window = getattr(config, "max_position_embeddings", None)
    return int(window) if window else None
