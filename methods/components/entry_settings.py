"""Settings of entries beside an attention. Does not import torch."""

from __future__ import annotations

import dataclasses

from methods.interfaces import MethodSettings, setting


@dataclasses.dataclass(frozen=True)
class EntrySettings(MethodSettings):
    """Where the entries are, and how they are found."""

    layer: int = setting(
        0, "decoder layer of the entries, from 1; 0: where the untouched base finds them best", source="ours", ge=0
    )
    samples: int = setting(256, "conversations that choose the layer", unit="samples", source="ours", ge=1)
    coefficient: float = setting(1.0, "weight of the retrieval loss; 0 leaves it out", source="ours", ge=0)
    temperature: float = setting(0.05, "divides the cosine of a token and a key at the start", source="ours", gt=0)
    top_k: int = setting(100, "entries that a token attends to in answers", source="KBLaM's code: top_k_kb", ge=1)
