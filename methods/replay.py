"""Replay: LoRA that rehearses a little of what the base was pre-trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from benchmarks.records import Conversation, KnowledgeItem
from methods.base import Coefficient, InjectionMethod, Paper
from methods.interfaces import AdapterSettings, Resources, setting


@dataclasses.dataclass(frozen=True)
class ReplaySettings(AdapterSettings):
    """LoRA's settings and how much old data is mixed in."""

    ratio: float = setting(0.1, "old samples for each knowledge item", source="KORE appendix: 10 % of EVOKE")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("ratio", 0 <= self.ratio < float("inf"))


class Replay(InjectionMethod):
    """The new knowledge and, mixed in, a fixed random sample of old training data equal to 10 % of its size.

    Paper: no single one; Chaudhry et al., "On Tiny Episodic Memories in Continual Learning", 2019, as set up in KORE.
    Our reading: the old samples come from what the base was really pre-trained on, whatever that was.
    Differences: they are drawn apart from KORE's calibration samples, on the miniature from another part of an endless
        list; in a file of few samples the two may share some. A missing picture is an error, never another item's
        picture. With several stages each rehearses other old samples, and none the knowledge of earlier stages.
    Cost: ratio x as many more training samples; otherwise LoRA's. With ratio 0 it is LoRA.
    """

    name = "replay"
    summary = "LoRA on the new knowledge mixed with a sample of old data"
    paper = Paper("On Tiny Episodic Memories in Continual Learning", "https://arxiv.org/abs/1902.10486")
    interpretation = "the old sample is drawn from this base's own pre-training data"
    Settings = ReplaySettings
    settings: ReplaySettings
    coefficient = Coefficient("ratio", (0.1, 0.3, 1.0))

    def training_data(self, knowledge: Sequence[KnowledgeItem], resources: Resources) -> list[Conversation]:
        """LoRA's conversations, then the old ones; the training core shuffles. Each stage has a fixed old sample."""
        new = super().training_data(knowledge, resources)
        count = round(self.settings.ratio * len(knowledge))
        purpose = "replay" if resources.stage == 1 else f"replay, stage {resources.stage}"
        old = resources.pretraining_samples(count, purpose) if count else ()
        return new + [dataclasses.replace(sample, branch="replay") for sample in old]
