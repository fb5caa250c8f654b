"""The family of a model folder: one that is made for its architecture, or the generic one."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

import torch

from benchmarks.errors import UserError

# Importing a family registers it.
from harness.models import GROUP, llava, paligemma, qwen2_5_vl, smolvlm  # noqa: F401
from harness.models.base import FAMILIES, LanguageVisionModel
from harness.models.chat_template import no_template
from harness.models.loading import read_config
from harness.models.processor_model import ProcessorModel
from harness.models.vision import AS_PUBLISHED, PictureOptions
from methods.entry_points import load_installed
from methods.targets import LinearShapes

logger = logging.getLogger(__name__)


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
        return family_of(folder).load(folder, device, dtype, options)
    from harness.models.quantization import quantize_decoder

    model = family_of(folder).load(folder, torch.device("cpu"), dtype, options)
    quantize_decoder(model, device)
    return model


def family_of(folder: Path) -> type[LanguageVisionModel]:
    """The family that serves a folder: that of its architecture if there is one, otherwise the generic one.

    Raises:
        UserError: The folder has no usable configuration, or transformers has no image-text model of this architecture.
    """
    config = read_config(folder)
    architecture = str(config["architectures"][0])
    broken = _load_families()
    family = FAMILIES.get(architecture)
    if family is not None and family.serves(config):
        return family
    if architecture not in _image_text_classes():
        raise UserError(
            f"the architecture {architecture} is not supported: transformers has no such image-text model",
            location=str(folder / "config.json"),
            hint=f"use another model, update transformers, or write a family of your own (--plugin){broken}",
        )
    return ProcessorModel


@cache
def _load_families() -> str:
    """Import the families of installed packages; a sentence for a hint about those that do not load, and a warning."""
    errors = load_installed(GROUP)
    for error in errors:
        logger.warning("%s", error)
    return "".join(f"; {error.location}: {error.message}" for error in errors)


def family_files(folder: Path) -> tuple[Path, ...]:
    """The files of a family that is not part of this package; their content belongs into cache keys."""
    files = {Path(inspect.getfile(kind)) for kind in family_of(folder).__mro__ if issubclass(kind, LanguageVisionModel)}
    return tuple(sorted(file for file in files if file.parent != Path(__file__).parent))


def target_shapes(folder: Path) -> LinearShapes:
    """The linear layers that adapters may change, from ``config.json`` alone, without any weights.

    Raises:
        UserError: The folder has no usable configuration, or its architecture is not supported.
    """
    family, module = family_of(folder), _build_on_meta(folder)
    pattern = family.targets_of(module)
    targets = {name: layer for name, layer in module.named_modules() if re.fullmatch(pattern, name)}
    linears = {name: layer for name, layer in targets.items() if isinstance(layer, torch.nn.Linear)}
    return LinearShapes({name: (layer.in_features, layer.out_features) for name, layer in linears.items()})


def describe_model(folder: Path, options: PictureOptions = AS_PUBLISHED) -> LanguageVisionModel:
    """The model in a folder without its weights, on the ``meta`` device: its sizes, and lengths of its inputs.

    Raises:
        UserError: The folder has no usable configuration, or its architecture is not supported.
    """
    return family_of(folder).without_weights(_build_on_meta(folder), folder, options)


def check_protocols(folder: Path, protocols: Collection[str]) -> None:
    """Refuse protocols whose chat template the model does not have, by its ``config.json`` alone.

    Args:
        folder: The model's.
        protocols: As in ``Question.template``; an empty one is the model's own template.

    Raises:
        UserError: There is no template for one of them, or the architecture is not supported.
    """
    family = family_of(folder)
    for protocol in sorted(set(protocols) - {"", *family.protocols}):
        raise no_template(protocol)


def _build_on_meta(folder: Path) -> torch.nn.Module:
    import transformers

    module_class: Any = getattr(transformers, str(read_config(folder)["architectures"][0]))
    try:
        with torch.device("meta"):
            module: torch.nn.Module = module_class(module_class.config_class.from_pretrained(folder))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"the model cannot be built ({error})", location=str(folder / "config.json"), hint="download it again"
        ) from error
    return module


def _image_text_classes() -> frozenset[str]:
    """Names of the classes behind ``AutoModelForImageTextToText``."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    return frozenset(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values())
