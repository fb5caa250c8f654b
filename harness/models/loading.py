"""Opening a model folder: its content is checked before any of it is used (invariant I6)."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from benchmarks.errors import UserError
from benchmarks.model_folder import check_model_folder, shard_names

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
CONFIGS = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")
DIGESTED = (*CONFIGS, "tokenizer.json", "chat_template.jinja", "chat_template.json", "generation_config.json")
"""Files that determine the model's answers, apart from the weights."""
QUANTIZED = ("quantization_config", "compression_config")
"""Where a ``config.json`` says how its weights are quantised: bitsandbytes, GPTQ, AWQ, FP8, compressed tensors, ..."""


def open_folder(folder: Path, architecture: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """The Hugging Face model in a folder, on the CPU, and its tokenizer with the processor's chat template.

    Raises:
        UserError: The folder is incomplete, damaged or unsafe.
    """
    import transformers

    check_folder(folder)
    model_class: Any = getattr(transformers, architecture)
    try:
        with quiet_loading():
            module, report = model_class.from_pretrained(
                folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(
            f"the model cannot be loaded ({error})", location=str(folder), hint="download the model again"
        ) from error
    missing = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
    if missing:
        raise UserError(
            f"{len(missing)} weights are missing or of another shape, the first is {missing[0]}",
            location=str(folder),
            hint="download the model again",
        )
    check_finite(module, folder)
    _add_template(tokenizer, folder)
    return module, tokenizer


def check_finite(module: torch.nn.Module, folder: Path) -> None:
    """Refuse weights that are NaN or infinite: every answer would be empty or meaningless.

    Raises:
        UserError: Names the first such tensor and its file's folder.
    """
    damaged = [name for name, tensor in module.state_dict().items() if not _is_finite(tensor)]
    if damaged:
        raise UserError(
            f"{len(damaged)} weights hold NaN or infinite values, the first is {damaged[0]}",
            location=str(folder),
            hint="download the model again, or export it again in a type with a larger range",
        )


def _is_finite(tensor: torch.Tensor) -> bool:
    """Whether all values are finite, in one pass and without a copy: the extremes of a tensor with a NaN are NaN."""
    if not tensor.numel() or not tensor.dtype.is_floating_point or tensor.dtype.itemsize < 2:
        return True
    return all(bool(extreme.isfinite()) for extreme in tensor.aminmax())


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer alone, with the processor's chat template.

    Raises:
        UserError: It cannot be loaded.
    """
    import transformers

    try:
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(
            f"the tokenizer cannot be loaded ({error})", location=str(folder), hint="download the model again"
        ) from error
    _add_template(tokenizer, folder)
    return tokenizer


def _add_template(tokenizer: Any, folder: Path) -> None:
    template = folder / "chat_template.json"
    if template.is_file() and not (folder / "chat_template.jinja").is_file():
        tokenizer.chat_template = _read_json(template).get("chat_template")


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's ``config.json``, with at least one architecture, of weights that are not quantised.

    Raises:
        UserError: There is none, it cannot be read, or the weights are quantised.
    """
    check_model_folder(folder)
    path = folder / "config.json"
    config = _read_json(path)
    if not config.get("architectures"):
        raise UserError("it names no architecture", location=str(path), hint="download the model again")
    if quantized := _quantization(config):
        raise UserError(
            f"the weights are quantised already ({quantized}); methods read and change full weights",
            location=str(path),
            hint="give the folder of the unquantised model; `--set precision=nf4` quantises it while loading",
        )
    return config


def _quantization(config: object) -> str:
    """The way in which a configuration, or a part of it, says that its weights are quantised; empty if none does."""
    if not isinstance(config, dict):
        return ""
    for name in QUANTIZED:
        if found := config.get(name):
            return str(found.get("quant_method") or name) if isinstance(found, dict) else name
    return next(filter(None, map(_quantization, config.values())), "")


def check_folder(folder: Path) -> None:
    """Refuse remote code, pickled weights, and weights that are missing or cut short.

    Raises:
        UserError: Any of these, with the file's name.
    """
    read_config(folder)
    for name in CONFIGS:
        if (folder / name).is_file() and _asks_for_code(_read_json(folder / name)):
            raise UserError(
                "the model would run its own code (auto_map)",
                location=str(folder / name),
                hint="use a model whose architecture is part of transformers",
            )
    for shard in _shards(folder):
        try:
            with safe_open(shard, "pt") as file:
                file.keys()
        except (SafetensorError, OSError) as error:
            raise UserError(
                f"the weights are damaged ({error})", location=str(shard), hint="download the file again"
            ) from error


def folder_digest(folder: Path) -> str:
    """Sha256 over the files that describe tokenizer, processor and architecture, by content."""
    digest = hashlib.sha256()
    for name in sorted(DIGESTED):
        path = folder / name
        if path.is_file():
            digest.update(f"{name}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def weights_digest(module: torch.nn.Module) -> str:
    """Sha256 over every tensor of a module."""
    return tensors_digest(module.state_dict())


def tensors_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Sha256 over tensors: names in order, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Disable the progress bars of transformers, and its warnings to programmers, such as about deprecated names."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        if enabled:
            logging.enable_progress_bar()


def _shards(folder: Path) -> list[Path]:
    shards = [folder / name for name in shard_names(folder)]
    if missing := [shard.name for shard in shards if shard.parent != folder or not shard.is_file()]:
        raise UserError(f"{', '.join(missing)} missing", location=str(folder), hint="download the missing files")
    if shards:
        return shards
    single = folder / "model.safetensors"
    if single.is_file():
        return [single]
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if pickled:
        raise UserError(
            f"the weights are pickled ({pickled[0]}), which can run any code when opened",
            location=str(folder),
            hint="convert the model to safetensors, in an environment where you trust it",
        )
    raise UserError("the weights are missing", location=str(single), hint="download model.safetensors")


def _asks_for_code(config: object) -> bool:
    if isinstance(config, dict):
        return "auto_map" in config or any(_asks_for_code(value) for value in config.values())
    return isinstance(config, list) and any(_asks_for_code(value) for value in config)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"it cannot be read ({error})", location=str(path), hint="download the file again") from error
    if not isinstance(content, dict):
        raise UserError("it does not contain a JSON object", location=str(path), hint="download the file again")
    return content
