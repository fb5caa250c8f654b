"""Write a file with a small method that passes the contract's checks, to start from."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.errors import UserError
from harness.storage.files import atomic_write

TEMPLATE = '''"""{title}: LoRA that is pulled back towards its start."""

from __future__ import annotations

import dataclasses

from methods.base import AdapterSettings, Coefficient, InjectionMethod, Paper, setting


@dataclasses.dataclass(frozen=True)
class {kind}Settings(AdapterSettings):
    """Settings of the adapter, and the weight of the pull."""

    pull: float = setting(0.01, "weight of the pull; 0 is LoRA", source="ours", ge=0)


class {kind}(InjectionMethod):
    """LoRA with pull x sum of B^2 added to the loss, which keeps the change of the weights small.

    Paper: none yet.
    Differences: none.
    Cost: LoRA's, and a few elementwise operations a step.
    """

    name = "{name}"
    summary = "LoRA pulled back towards its start"
    paper = Paper("Unpublished", "https://example.org")
    Settings = {kind}Settings
    settings: {kind}Settings
    coefficient = Coefficient("pull", (0.001, 0.01, 0.1))

    def penalty(self, model, batch, logits):
        """Return a scalar that is added to the loss; methods/base.py describes the other hooks."""
        if not self.settings.pull:
            return None
        weights = [weight for name, weight in model.module.named_parameters() if "lora_B" in name]
        return self.settings.pull * sum(weight.square().sum() for weight in weights)
'''


WITHOUT_TRAINING = '''"""{title}: the base without its smallest singular components."""

from __future__ import annotations

from methods.base import AdapterSettings, InjectionMethod, Paper


class {kind}(InjectionMethod):
    """W without its r smallest singular components, in every linear layer of the decoder; nothing is trained.

    Paper: Sharma et al., "The Truth Is in There: Improving Reasoning in Language Models with Layer-Selective Rank
        Reduction", ICLR 2024.
    Differences: it reduces single layers, and by far more.
    Cost: one singular value decomposition for each layer; LoRA's in answering.
    """

    name = "{name}"
    summary = "the base without its smallest singular components; trains nothing"
    paper = Paper("The Truth Is in There", "https://arxiv.org/abs/2312.13558")
    Settings = AdapterSettings
    trains = False

    def attach(self, model, prepared):
        """Leave the model as it should answer; ``prepare`` may compute what this needs from ``resources.knowledge``."""
        import torch
        from methods.components.base_weights import dense_weight
        from methods.components.lora_layers import TRAINED, lora_ab, lora_layers

        super().attach(model, prepared)
        with torch.no_grad():
            for _, layer in lora_layers(model.module):
                (a, b), weight = lora_ab(layer), dense_weight(layer.get_base_layer())
                left, values, right = torch.linalg.svd(weight.float(), full_matrices=False)
                count = min(len(a), len(values))
                a[:count] = right[-count:]
                b[:, :count] = -left[:, -count:] * values[-count:] / layer.scaling[TRAINED]
'''


def new_method(identifier: str, folder: Path, *, trains: bool = True) -> Path:
    """Write ``IDENTIFIER.py`` with a method of that name.

    Args:
        identifier: Name of the Python module, such as ``my_idea``; hyphens count as underscores.
        folder: Where to write it.
        trains: Whether it shall be trained; otherwise it computes its update.

    Raises:
        UserError: The name is not valid or already taken, or the file exists.
    """
    from methods.registry import registered

    stem = identifier.removesuffix(".py").replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", stem):
        raise UserError(
            f"{identifier!r} is not a valid name for a method", location="new-method", hint="write it like my_idea"
        )
    name, path = stem.replace("_", "-"), folder / f"{stem}.py"
    if name in registered():
        raise UserError(f"there is a method {name!r} already", location="new-method", hint="choose another name")
    if path.exists():
        raise UserError("the file is there already", location=str(path), hint="choose another name, or delete it")
    words = stem.split("_")
    kind = "".join(word.capitalize() for word in words)
    template = TEMPLATE if trains else WITHOUT_TRAINING
    atomic_write(path, template.format(title=" ".join(words).capitalize(), kind=kind, name=name))
    return path
