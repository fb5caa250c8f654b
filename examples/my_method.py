"""LoRA that is pulled back towards its start: the shortest useful method of your own.

Check it, then compare it with plain LoRA:

    python -m harness check-method pull-back --plugin examples/my_method.py
    python -m harness compare --methods lora,pull-back --plugin examples/my_method.py --limit 24
"""

from __future__ import annotations

import dataclasses

from methods.base import AdapterSettings, Coefficient, InjectionMethod, Paper, setting


@dataclasses.dataclass(frozen=True)
class PullBackSettings(AdapterSettings):
    """The settings of a low-rank adapter, and the strength of the pull."""

    pull: float = setting(0.01, "weight of the pull; 0 is LoRA", source="this example", ge=0)


class PullBack(InjectionMethod):
    """LoRA with ``pull`` x sum of B^2 added to the loss, which keeps the change of the weights small.

    Paper: none.
    Differences: none.
    Cost: LoRA's, and a few elementwise operations a step.
    """

    name = "pull-back"
    summary = "LoRA pulled back towards its start"
    paper = Paper("Unpublished", "https://example.org")
    Settings = PullBackSettings
    settings: PullBackSettings
    coefficient = Coefficient("pull", (0.001, 0.01, 0.1))

    def penalty(self, model, batch, logits):
        """Added to the mean token loss of each step; ``methods/base.py`` has the other hooks."""
        if not self.settings.pull:
            return None
        weights = [weight for name, weight in model.module.named_parameters() if "lora_B" in name]
        return self.settings.pull * sum(weight.square().sum() for weight in weights)
