"""Fixtures for the tests of methods."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch


@pytest.fixture(scope="session")
def shapes_of_7b():
    """LLaVA-1.5-7B without its weights."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    from harness.models.llava import LlavaModel

    vision = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=336,
        patch_size=14,
    )
    text = LlamaConfig(vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32)
    with torch.device("meta"):
        module = LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text))
    module.requires_grad_(False)
    return SimpleNamespace(
        module=module,
        linear_targets=LlavaModel.linear_targets,
        projector=LlavaModel.projector,
        towers=LlavaModel.towers,
        device="meta",
    )


@pytest.fixture
def exact_model(tiny_folder, monkeypatch):
    """The tiny model in float64 throughout; transformers' own norm rounds to float32, which would hide a drift."""
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    from harness.models.llava import LlavaModel

    def norm(self, hidden):
        return self.weight * hidden * torch.rsqrt(hidden.square().mean(-1, keepdim=True) + self.variance_epsilon)

    monkeypatch.setattr(LlamaRMSNorm, "forward", norm)
    model = LlavaModel.load(tiny_folder, torch.device("cpu"), torch.float64)
    monkeypatch.setattr(model, "supervised", lambda batch: supervised_exactly(model.module, batch))
    return model


def supervised_exactly(module, batch):
    """As the model's own, which gives float32."""
    targets = batch["labels"][:, 1:]
    chosen = targets != -100
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    return module(**inputs).logits[:, :-1][chosen], targets[chosen]
