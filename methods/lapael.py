"""LaPael: noise on early layers that is learnt from paraphrases and takes their place in training."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from methods.base import (
    AdapterSettings,
    Coefficient,
    DecoderShapes,
    InjectableModel,
    InjectionMethod,
    LinearShapes,
    MemoryNeeds,
    Paper,
    Resources,
    Tensors,
    setting,
)

_HANDLES = "_injection_latent_noise"
"""Attribute of the model's module that holds the handles of the noise's hooks."""


@dataclasses.dataclass(frozen=True)
class LaPaelSettings(AdapterSettings):
    """LoRA's settings, and those of the noise."""

    data_settings: ClassVar[tuple[str, ...]] = ("data", "paraphrases")
    paraphrases: str = setting(
        "text-aware", "training data whose conversations about an item are its paraphrases", source="paper: by GPT-3.5"
    )
    items: int = setting(
        256, "items whose paraphrases the noise is learnt from", unit="samples", source="ours; code: 1,000", ge=1
    )
    noise_layers: int = setting(
        5, "first decoder layers whose MLP inputs are perturbed", unit="layers", source="code: perturb_base.yaml", ge=1
    )
    noise_epochs: int = setting(
        10, "passes over the items in which the noise is learnt", unit="epochs", source="code: train_lapael.sh", ge=1
    )
    noise_rate: float = setting(1e-3, "peak learning rate of the noise", source="code: train_lapael.sh", gt=0)
    mask_share: float = setting(
        0.5, "share of the tokens that the noise's mask should pass", source="code: perturb_base.yaml", gt=0, le=1
    )
    perturbed: float = setting(
        0.75, "share of the rows that are perturbed; 0 is LoRA", source="code: three of four copies", ge=0, le=1
    )


class LaPael(InjectionMethod):
    """LoRA on rows whose MLP inputs h in the first layers become h (1 - m + z m), z and m drawn depending on h.

    Paper: Kang et al., "Latent Paraphrasing: Perturbation on Layers Improves Knowledge Injection in Language Models",
        NeurIPS 2024, arXiv 2411.00686.
    Interpretation: z = softplus(f(W h + e)) with normal e, and m a relaxed Bernoulli draw a token, are trained on the
        untouched base, so that the hidden states of an item's text have the mean and deviation of those of its
        paraphrases: the symmetric divergence of normal distributions in the second half of the layers. The paraphrases
        are made by rule unless the setting names others (``augment --as text-aware`` has a language model write them).
    Differences: hidden states are compared at the end of the text, where the paper takes the first token of an answer
        that is marked in it. Paraphrases are those of items that are injected, so that their number matters; the paper
        takes another data set. The mask is held to its share of tokens as in the code without entities, whose names it
        is trained to leave alone if they are marked. A row is perturbed with probability 0.75, where the code trains on
        four copies at once, three of them perturbed. LoRA is trained on all layers, and the code trains the MLPs above
        the noise in full.
    Cost: once, ``noise_epochs`` passes over four copies of each of ``items`` texts, and 3 d^2 parameters a perturbed
        layer with AdamW's moments; then LoRA's, and these layers' noise in the forward pass.
    """

    name = "lapael"
    summary = "LoRA with noise on early layers that is learnt from paraphrases"
    paper = Paper("Latent Paraphrasing: Perturbation on Layers", "https://arxiv.org/abs/2411.00686")
    interpretation = (
        "paraphrases are those of the run's own items, by rule unless given; compared at the end of the text, not at a "
        "marked answer; LoRA on all layers instead of full MLPs"
    )
    Settings = LaPaelSettings
    settings: LaPaelSettings
    coefficient = Coefficient("perturbed", (0.5, 0.75, 1.0))

    def validate_layers(self, layers: LinearShapes) -> None:
        """Refuse also to perturb more layers than there are."""
        from methods.components.latent_noise import check_count

        super().validate_layers(layers)
        check_count(self.settings.noise_layers, layers.names)

    def memory_needs(self, shapes: DecoderShapes) -> MemoryNeeds:
        """As for LoRA, and the noise's weights; before, with gradients and moments."""
        needs, width = super().memory_needs(shapes), shapes.linears[0][0]
        if self.settings.perturbed == 0:
            return needs
        weights = self.settings.noise_layers * 3 * width**2
        return needs.plus(frozen=weights, preparation=4 * 4 * weights)

    def prepare(self, model: InjectableModel, resources: Resources) -> Tensors:
        """Train the noise on the untouched base.

        Raises:
            UserError: No item has two paraphrases.
        """
        if self.settings.perturbed == 0:
            return {}
        from benchmarks.records import content_digest
        from methods.components.latent_noise import fit_noise
        from methods.components.paraphrases import paraphrased_items

        settings = self.settings
        samples = paraphrased_items(settings.paraphrases, settings.items, resources)
        chosen = (settings.noise_layers, settings.noise_epochs, settings.noise_rate, settings.mask_share)
        texts = [sample for each in samples for sample in (each.original, *each.paraphrases)]
        key = {"what": "lapael/noise", "texts": content_digest(texts), "settings": chosen, "seed": resources.seed}
        return resources.cached(key, lambda: fit_noise(model, samples, *chosen))

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """As for LoRA; then perturb the MLPs' inputs in training mode."""
        super().attach(model, prepared)
        if prepared:
            from methods.components.latent_noise import LatentNoise, noise_places

            noise = LatentNoise(noise_places(model, self.settings.noise_layers), self.settings.perturbed)
            noise.load(prepared)
            vars(model.module)[_HANDLES] = noise.attach(model)

    def detach(self, model: InjectableModel) -> None:
        """Remove the noise and the adapter."""
        for handle in vars(model.module).pop(_HANDLES, ()):
            handle.remove()
        super().detach(model)

    def diagnostics(self, prepared: Tensors) -> dict[str, float]:
        """How far the noise's hidden states are from those of paraphrases, in the first and in the last epoch."""
        from methods.components.latent_noise import DIVERGENCE

        if not prepared:
            return {}
        first, *_, last = [*prepared[DIVERGENCE][:1].tolist(), *prepared[DIVERGENCE].tolist()]
        return {"divergence from paraphrases, first epoch": first, "divergence from paraphrases, last epoch": last}
