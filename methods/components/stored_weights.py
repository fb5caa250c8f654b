"""The weights of a decoder's linear layers in a model's folder, one matrix at a time, from safetensors only."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import UserError

if TYPE_CHECKING:
    import torch

_LAYER = re.compile(r"(?:model\.)?(?:(?:language|text)_model\.)?(?:model\.)?(layers\.\d+\..+)\.weight")
"""Names in the files: ``model.layers.0...`` of a language model, ``language_model.model.layers.0...`` of LLaVA,
``model.text_model.layers.0...`` of SmolVLM."""
_MODULE = re.compile(r"(?:.*\.)?(?:language|text)_model\.(?:model\.)?(layers\.\d+\..+)")
"""Names of the modules that they belong to."""


class StoredWeights:
    """The decoder's matrices in a folder; opening it reads no more than the files' headers.

    Args:
        folder: A language model or a language-vision model in Hugging Face layout.

    Raises:
        UserError: There are no safetensors, one is damaged, or none of them holds a decoder's layers.
    """

    def __init__(self, folder: Path) -> None:
        from safetensors import SafetensorError, safe_open

        self._folder = folder
        self._places: dict[str, tuple[Path, str]] = {}
        for file in weight_files(folder):
            try:
                with safe_open(file, "pt") as opened:
                    names = list(opened.keys())
            except (SafetensorError, OSError) as error:
                raise UserError(
                    f"the weights are damaged ({error})", location=str(file), hint="download the file again"
                ) from error
            for name in names:
                if not (match := _LAYER.fullmatch(name)):
                    continue
                if match[1] in self._places:
                    raise UserError(f"{match[1]} is there twice", location=str(file), hint="remove files of old copies")
                self._places[match[1]] = file, name
        if not self._places:
            raise UserError(
                "no decoder layers are in the weights", location=str(folder), hint="give a language model's folder"
            )

    def read(self, module: str, shape: tuple[int, ...]) -> torch.Tensor:
        """The matrix of a linear layer (d_out, d_in), on the CPU, in the type in which it is stored.

        Args:
            module: The layer's full name in the language-vision model.
            shape: What it must have.

        Raises:
            UserError: It is missing, of another shape, or not finite.
        """
        from safetensors import safe_open

        layer = _layer(module)
        if layer not in self._places:
            raise self._refused(f"{layer} is missing")
        file, name = self._places[layer]
        with safe_open(file, "pt") as opened:
            found = tuple(opened.get_slice(name).get_shape())
            if found != shape:
                raise self._refused(f"{layer} is {_size(found)} and not {_size(shape)}")
            weight: torch.Tensor = opened.get_tensor(name)
        if not weight.is_floating_point() or not bool(weight.isfinite().all()):
            raise self._refused(f"{layer} has values that are no finite numbers")
        return weight

    def _refused(self, problem: str) -> UserError:
        return UserError(problem, location=str(self._folder), hint="give the model that the base was trained from")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, by name.

    Raises:
        UserError: There are none.
    """
    files = sorted(path for path in folder.glob("*.safetensors") if path.is_file())
    if not files:
        raise UserError(
            "there are no weights in safetensors; pickled ones (.bin) are never opened",
            location=str(folder),
            hint="download the model, or convert it to safetensors in an environment where you trust it",
        )
    return files


def weights_identity(folder: Path) -> str:
    """A name that no other weights have and that holds no path."""
    versions = tuple((file, file.stat().st_mtime_ns, file.stat().st_size) for file in weight_files(folder))
    return f"weights-{_digest(versions)[:16]}"


@lru_cache(maxsize=8)
def _digest(versions: tuple[tuple[Path, int, int], ...]) -> str:
    """Sha256 over the content of files; it is computed again when the time or size of one changes."""
    digest = hashlib.sha256()
    for path, _, _ in versions:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _layer(module: str) -> str:
    match = _MODULE.fullmatch(module)
    return match[1] if match else module


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
