"""Loading a model folder with the class for its architecture."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from benchmarks.errors import UserError
from harness.models.base import LanguageVisionModel
from harness.models.chat_template import no_template
from harness.models.loading import read_config
from harness.models.vision import AS_PUBLISHED, PictureOptions


def load_model(
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    options: PictureOptions = AS_PUBLISHED,
    *,
    quantized: bool = False,
) -> LanguageVisionModel:
    """Load the model in a folder by the architecture that its ``config.json`` names.

    Args:
        folder: In Hugging Face layout.
        device: Where to run.
        dtype: Type of the frozen weights.
        options: How to prepare pictures.
        quantized: Whether the decoder's linear layers are quantised to 4 bits; ``dtype`` is that of everything else.

    Raises:
        UserError: The folder is incomplete or unsafe, its architecture is not supported, or bitsandbytes is missing.
    """
    if not quantized:
        return _model_class(folder).load(folder, device, dtype, options)
    from harness.models.quantization import quantize_decoder

    model = _model_class(folder).load(folder, torch.device("cpu"), dtype, options)
    quantize_decoder(model, device)
    return model


def target_shapes(folder: Path) -> tuple[tuple[int, int], ...]:
    """d_in and d_out of each linear layer that adapters change, from ``config.json`` alone, without any weights.

    Raises:
        UserError: The folder has no usable configuration, or its architecture is not supported.
    """
    model_class = _model_class(folder)
    module = _build_on_meta(model_class, folder)
    targets = [layer for name, layer in module.named_modules() if re.fullmatch(model_class.linear_targets, name)]
    return tuple((layer.in_features, layer.out_features) for layer in targets if isinstance(layer, torch.nn.Linear))


def describe_model(folder: Path, options: PictureOptions = AS_PUBLISHED) -> LanguageVisionModel:
    """The model in a folder without its weights, on the ``meta`` device: its sizes, and lengths of its inputs.

    Raises:
        UserError: The folder has no usable configuration, or its architecture is not supported.
    """
    from harness.models.shapes import model_without_weights

    model_class = _model_class(folder)
    return model_without_weights(model_class, _build_on_meta(model_class, folder), folder, options)


def check_protocols(folder: Path, protocols: Collection[str]) -> None:
    """Refuse protocols whose chat template the model does not have, by its ``config.json`` alone.

    Args:
        folder: The model's.
        protocols: As in ``Question.template``; an empty one is the model's own template.

    Raises:
        UserError: There is no template for one of them, or the architecture is not supported.
    """
    model_class = _model_class(folder)
    for protocol in sorted(set(protocols) - {"", *model_class.protocols}):
        raise no_template(protocol)


def _build_on_meta(model_class: type[LanguageVisionModel], folder: Path) -> torch.nn.Module:
    import transformers

    module_class: Any = getattr(transformers, model_class.architecture)
    try:
        with torch.device("meta"):
            module: torch.nn.Module = module_class(module_class.config_class.from_pretrained(folder))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"the model cannot be built ({error})", location=str(folder / "config.json"), hint="download it again"
        ) from error
    return module


def _model_class(folder: Path) -> type[LanguageVisionModel]:
    from harness.models.llava import LlavaModel
    from harness.models.qwen2_5_vl import QwenModel

    supported: dict[str, type[LanguageVisionModel]] = {cls.architecture: cls for cls in (LlavaModel, QwenModel)}
    architecture = read_config(folder)["architectures"][0]
    if architecture not in supported:
        raise UserError(
            f"the architecture {architecture} is not supported",
            location=str(folder / "config.json"),
            hint=f"use a model with one of: {', '.join(sorted(supported))}",
        )
    return supported[architecture]
