"""Opening a model in a local folder for augmentation: safetensors only, no code of its own, nothing fetched."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from benchmarks.errors import UserError


def opened(folder: Path, model: Any, *others: Any) -> tuple[Any, ...]:
    """A model and what belongs to it, and the folder's digest, last.

    Args:
        folder: In Hugging Face layout.
        model: A class with ``from_pretrained``.
        others: Of the tokenizer, or the processor.

    Raises:
        UserError: The folder holds no such model, or one that is pickled or brings code.
    """
    if not (folder / "config.json").is_file():
        raise UserError("this is no model folder: it has no config.json", location=str(folder), hint="check the path")
    safe = {"local_files_only": True, "trust_remote_code": False}
    try:
        loaded = model.from_pretrained(folder, use_safetensors=True, **safe).eval()
        rest = [each.from_pretrained(folder, **safe) for each in others]
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(
            f"the model cannot be opened ({' '.join(str(error).split())[:200]})",
            location=str(folder),
            hint="give a folder in Hugging Face layout with safetensors and no code of its own",
        ) from error
    return (loaded, *rest, digest_of(folder))


def digest_of(folder: Path) -> str:
    """Sha256 over the folder's files, by name and content."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")):
        with path.open("rb") as file:
            digest.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\0".encode())
    return digest.hexdigest()
