"""Opening a folder's processor, which makes of texts and pictures what the model's ``forward`` takes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from benchmarks.errors import UserError
from harness.models.loading import quiet_loading
from harness.models.vision import PictureOptions

VIDEO = "video_processor"


def open_processor(folder: Path, tokenizer: Any, options: PictureOptions) -> Any:
    """The processor of a folder for pictures and texts, around this tokenizer.

    Pictures are prepared by the variants of transformers that use PIL and NumPy where there is one, whether
    ``torchvision`` is installed or not, so that answers do not depend on that. The processor takes no videos.

    Args:
        folder: Of the model.
        tokenizer: With the chat template to use if the processor's files have none.
        options: How to prepare pictures.

    Raises:
        UserError: The folder has no processor, or it does not support an option.
    """
    import transformers

    library: Any = transformers
    if options.aspect != "folder":
        raise UserError(
            "only LLaVA-1.5's own pictures can be padded", location=f"aspect {options.aspect}", hint="omit it"
        )
    bounds = {"min_pixels": options.min_pixels, "max_pixels": options.max_pixels}
    local: dict[str, Any] = {"local_files_only": True}
    try:
        with quiet_loading():
            config = library.AutoConfig.from_pretrained(folder, **local)
            kind = _processor_class(folder, config)
            images = library.AutoImageProcessor.from_pretrained(
                folder, backend="pil", **local, **{name: value for name, value in bounds.items() if value is not None}
            )
            made = {"tokenizer": tokenizer, "image_processor": images, VIDEO: None}
            parts = [
                made[name] if name in made else library.AutoFeatureExtractor.from_pretrained(folder, **local)
                for name in kind.get_attributes()
            ]
            settings, unused = kind.get_processor_dict(folder, **local)
            unused.pop("local_files_only", None)
            processor = _without_videos(kind).from_args_and_dict(parts, settings, **unused)
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise UserError(
            f"the processor cannot be loaded ({error})",
            location=str(folder),
            hint="download preprocessor_config.json and processor_config.json, and install what the message names",
        ) from error
    _check_bounds(images, options)
    if processor.chat_template is None:
        processor.chat_template = tokenizer.chat_template
    return processor


def _processor_class(folder: Path, config: Any) -> Any:
    """The processor's class: the one that the folder's files name, or that of the architecture.

    It is read from its own module: where torchvision is missing, transformers gives a placeholder elsewhere, also for
    classes that need it for one kind of image processor only.
    """
    from transformers.models.auto import processing_auto
    from transformers.models.auto.configuration_auto import model_type_to_module_name
    from transformers.processing_utils import ProcessorMixin

    mixin: Any = ProcessorMixin
    names: dict[str, str] = vars(processing_auto)["PROCESSOR_MAPPING_NAMES"]
    settings, _ = mixin.get_processor_dict(folder, local_files_only=True)
    name = str(settings.get("processor_class") or names.get(config.model_type))
    for model_type in (model_type for model_type, each in names.items() if each == name):
        package = model_type_to_module_name(model_type)
        place = f"transformers.models.{package}.processing_{package}"
        if importlib.util.find_spec(place) is not None and hasattr(module := importlib.import_module(place), name):
            return getattr(module, name)
    raise ValueError(f"transformers has no processor {name} for {config.model_type}")


def _without_videos(kind: Any) -> Any:
    """The same class, which accepts that there is nothing for videos."""

    def check_argument_for_proper_class(self: Any, name: str, argument: Any) -> Any:
        if name == VIDEO and argument is None:
            return type(None)
        return kind.check_argument_for_proper_class(self, name, argument)

    if VIDEO not in kind.get_attributes():
        return kind
    return type(kind.__name__, (kind,), {"check_argument_for_proper_class": check_argument_for_proper_class})


def _check_bounds(images: Any, options: PictureOptions) -> None:
    """Refuse bounds that the image processor does not know, or that contradict each other."""
    if options.min_pixels is None and options.max_pixels is None:
        return
    location = "min_pixels, max_pixels"
    size = images.size
    known = getattr(getattr(images, "valid_kwargs", None), "__annotations__", {})
    if not {"min_pixels", "max_pixels"} <= known.keys():
        raise UserError(
            f"the {type(images).__name__} of this model has no such bounds", location=location, hint="omit them"
        )
    least, most = size["shortest_edge"], size["longest_edge"]
    if least > most:
        raise UserError(
            f"at least {least} and at most {most} pixels", location=location, hint="give a minimum below the maximum"
        )
