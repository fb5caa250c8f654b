"""Makes processors of transformers usable that need a library only for what tests do not use."""

from __future__ import annotations

import sys
from importlib import import_module

import transformers
from transformers.utils import is_torchvision_available


def replace_missing_libraries() -> None:
    """Do without ``torchvision`` in Pixtral's processor and without ``num2words`` in SmolVLM's.

    Pixtral's takes one function from a module that imports torchvision; the module for PIL has the same one. SmolVLM's
    writes numbers of frames as words. Does nothing for a library that is installed.
    """
    from transformers.models import pixtral
    from transformers.models.smolvlm import processing_smolvlm

    processing_smolvlm.num2words = processing_smolvlm.num2words or str
    if is_torchvision_available():
        return
    with_torchvision = "transformers.models.pixtral.image_processing_pixtral"
    sys.modules[with_torchvision] = import_module("transformers.models.pixtral.image_processing_pil_pixtral")
    try:
        kind = import_module("transformers.models.pixtral.processing_pixtral").PixtralProcessor
    finally:
        del sys.modules[with_torchvision]
    transformers.PixtralProcessor = pixtral.PixtralProcessor = kind
