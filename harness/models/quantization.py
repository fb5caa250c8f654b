"""QLoRA's base: the decoder's linear layers in 4 bits, everything else as it was loaded.

Source: Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs", NeurIPS 2023, section 3: NormalFloat in blocks
of 64 values, whose scales are quantised again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch

from harness.config.extras import require_extra

if TYPE_CHECKING:
    from harness.models.base import LanguageVisionModel


def quantize_decoder(model: LanguageVisionModel, device: torch.device) -> None:
    """Quantise the linear layers that adapters change, one at a time, and move the model to a device.

    Args:
        model: Untouched, on the CPU, so that the device never holds more than one layer at full size.
        device: Where it goes.

    Raises:
        UserError: bitsandbytes is not installed.
    """
    quantize_linears(model.module, model.linear_targets, device)
    model.module.to(device)
    model.device = device
    model.base_parameters = tuple(model.module.parameters())


def quantize_linears(module: Any, pattern: str, device: torch.device) -> None:
    """Replace linear layers by quantised ones that compute in the layer's own type.

    Args:
        module: A model of transformers; changed in place.
        pattern: Of the full names of the layers.
        device: Where to quantise, and where the quantised layers are put.

    Raises:
        UserError: bitsandbytes is not installed.
    """
    require_extra("bitsandbytes", "precision=nf4")
    from bitsandbytes.nn import Linear4bit, Params4bit

    named = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, torch.nn.Linear)]
    for name, layer in named:
        if not re.fullmatch(pattern, name):
            continue
        dtype, has_bias = layer.weight.dtype, layer.bias is not None
        quantized: Any = Linear4bit(
            layer.in_features, layer.out_features, bias=has_bias, compute_dtype=dtype, quant_type="nf4", device="meta"
        )
        options = {"compress_statistics": True, "quant_type": "nf4", "requires_grad": False}
        quantized.weight = Params4bit(layer.weight.data, **options).to(device)
        if has_bias:
            quantized.bias = torch.nn.Parameter(layer.bias.data.to(device), requires_grad=False)
        # Some processors would pack the bytes again in the first forward pass: other bits than those of the digest.
        quantized.support_avx512bf16_for_cpu = False
        module.set_submodule(name, quantized.train(layer.training))
    module.is_loaded_in_4bit = True  # where PEFT looks, to put its layers for 4 bits around them
