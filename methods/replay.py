"""Replay: LoRA on the new knowledge mixed with a sample of the base's pre-training data."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from benchmarks.records import Conversation, KnowledgeItem
from methods.base import AdapterSettings, Coefficient, InjectionMethod, Paper, Resources, setting


@dataclasses.dataclass(frozen=True)
class ReplaySettings(AdapterSettings):
    """LoRA's settings, and how much pre-training data is mixed in."""

    ratio: float = setting(0.1, "pre-training samples per knowledge item", source="KORE appendix: 10 % of EVOKE", ge=0)


class Replay(InjectionMethod):
    """The new knowledge, mixed with a fixed random sample of pre-training data of 10 % of its size.

    Paper: not a single one; Chaudhry et al., "On Tiny Episodic Memories in Continual Learning", 2019, as set up in
        KORE.
    Interpretation: the sample comes from the data that this base was pre-trained on, whatever these were.
    Differences: it shares no sample with KORE's calibration where the data allow that: the miniature's are endless, but
        in a small file the two may overlap. A missing picture is an error, never another item's picture. With several
        stages each replays other pre-training samples, and none replays the knowledge of earlier stages.
    Cost: ratio x as many additional training samples; otherwise LoRA's. With ratio 0 it is LoRA.
    """

    name = "replay"
    summary = "LoRA on the new knowledge mixed with a sample of old data"
    paper = Paper("On Tiny Episodic Memories in Continual Learning", "https://arxiv.org/abs/1902.10486")
    interpretation = "the old sample is drawn from this base's own pre-training data"
    Settings = ReplaySettings
    settings: ReplaySettings
    coefficient = Coefficient("ratio", (0.1, 0.3, 1.0))

    def training_data(self, knowledge: Sequence[KnowledgeItem], resources: Resources) -> list[Conversation]:
        """LoRA's conversations, then the replayed ones (the training core shuffles); each stage has its own sample."""
        new = super().training_data(knowledge, resources)
        count = round(self.settings.ratio * len(knowledge))
        purpose = "replay" if resources.stage == 1 else f"replay, stage {resources.stage}"
        replayed = resources.pretraining_samples(count, purpose) if count else ()
        return new + [dataclasses.replace(sample, branch="replay") for sample in replayed]
