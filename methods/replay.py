"""Replay: LoRA on the new knowledge mixed with a sample of the replay pool."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from benchmarks.records import Conversation, KnowledgeItem
from methods.base import AdapterSettings, Coefficient, InjectionMethod, Paper, Resources, setting


@dataclasses.dataclass(frozen=True)
class ReplaySettings(AdapterSettings):
    """LoRA's settings, and how much of the replay pool is mixed in."""

    ratio: float = setting(0.1, "replayed samples per knowledge item", source="KORE appendix: 10 % of EVOKE", ge=0)


class Replay(InjectionMethod):
    """The new knowledge, mixed with a fixed random sample of the replay pool of 10 % of its size.

    Paper: not a single one; Chaudhry et al., "On Tiny Episodic Memories in Continual Learning", 2019, as set up in
        KORE.
    Interpretation: KORE replays the model's pre-training corpus and does not publish its sample; ours comes from the
        run's replay pool, which the record of each run describes.
    Differences: a missing picture is an error, never another item's picture as in KORE's script for Qwen. With several
        stages each replays other samples, and none replays the knowledge of earlier stages.
    Cost: ratio x as many additional training samples; otherwise LoRA's. With ratio 0 it is LoRA.
    """

    name = "replay"
    summary = "LoRA on the new knowledge mixed with a sample of the replay pool"
    paper = Paper("On Tiny Episodic Memories in Continual Learning", "https://arxiv.org/abs/1902.10486")
    interpretation = "what is replayed is a sample of the run's replay pool; KORE's own sample is not published"
    Settings = ReplaySettings
    settings: ReplaySettings
    coefficient = Coefficient("ratio", (0.1, 0.3, 1.0))

    @property
    def pools(self) -> tuple[str, ...]:
        """The replay pool, unless nothing is mixed in."""
        return ("replay",) if self.settings.ratio else ()

    def training_data(self, knowledge: Sequence[KnowledgeItem], resources: Resources) -> list[Conversation]:
        """LoRA's conversations, then the replayed ones (the training core shuffles); each stage has its own sample."""
        new = super().training_data(knowledge, resources)
        count = round(self.settings.ratio * len(knowledge))
        purpose = "replay" if resources.stage == 1 else f"replay, stage {resources.stage}"
        replayed = resources.pool_samples(count, purpose) if count else ()
        return new + [dataclasses.replace(sample, branch="replay") for sample in replayed]
