"""KORE's settings, and which of them fit together."""

from __future__ import annotations

import dataclasses
from typing import Literal

from methods.base import AdapterSettings, setting
from methods.components.initialized_lora import refuse_decay_and_dropout
from methods.targets import ALL, CHOICES, is_spectrum_rule, problem_of


@dataclasses.dataclass(frozen=True)
class KoreSettings(AdapterSettings):
    """KORE's settings; ``alpha`` applies without the constraint only, since the constrained adapter has scaling 1."""

    rank: int = setting(235, "rank r of the adapter and of the null space", source="KORE table 7")
    data: str = setting("kore", "training conversations, as for every method", source="KORE section 3.2")
    constraint: bool = setting(True, "confine the adapter to the null space", source="KORE section 3.3")
    freeze_a: bool = setting(True, "train B alone", source="KORE section 3.3")
    project_a: bool = setting(
        False, "if A is trained, project it back onto the null space after each step", source="ours"
    )
    subspace: Literal["null", "random", "top"] = setting(
        "null", "the subspace that A reads; all but null are controls", source="ours", choices=("null", "random", "top")
    )
    calibration_samples: int = setting(256, "prompts behind the covariances", unit="samples", source="KORE 4.1", ge=1)
    calibrate_on: str = setting(
        "", "a benchmark to take these prompts from instead of the calibration pool", source="KORE 4.2"
    )
    calibration_text: Literal["prompt", "question"] = setting(
        "prompt",
        "text of a benchmark's prompts: as it is asked, or the question column of its table alone",
        source="ours; official code: question",
        choices=("prompt", "question"),
    )
    constraint_layers: str = setting(
        ALL,
        f"those of the adapted layers that are constrained: {CHOICES}, or steep-P or flat-P, the P % of each kind with "
        "the steepest or flattest spectra of their inputs; the others train plain LoRA",
        source="ours: KORE's open question 1",
        keyed_at_default=False,
    )
    null_energy: float = setting(
        0.0,
        "share of an input's energy that its null space may hold, if that gives more directions than the rank; A reads "
        "those of them that the layer reads most strongly",
        source="ours; 0: as many directions as the rank, KORE section 3.3",
        ge=0,
        lt=1,
        keyed_at_default=False,
    )
    recalibrate: bool = setting(
        False,
        "from the second stage on, protect what earlier stages injected too, by a new A beside their adapters",
        source="ours: KORE's open question 3",
        keyed_at_default=False,
    )
    norm: Literal["token-mean", "official"] = setting(
        "token-mean",
        "how tokens are weighted in the covariance",
        source="paper: C = X X^T; official code: /|max X|",
        choices=("token-mean", "official"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        trains_a = self.constraint and not self.freeze_a
        self.check("project_a", trains_a or not self.project_a, "it needs constraint=true and freeze_a=false")
        frozen = self.constraint and self.freeze_a
        self.check("recalibrate", frozen or not self.recalibrate, "it needs constraint=true and freeze_a=true")
        problem = "" if is_spectrum_rule(self.constraint_layers) else problem_of(self.constraint_layers)
        self.check("constraint_layers", not problem, problem)
        needs = "it needs subspace=null"
        self.check("null_energy", self.subspace == "null" or not self.null_energy, needs)
        if self.constraint:
            refuse_decay_and_dropout(self, "kore")
