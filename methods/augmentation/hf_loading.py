"""Load a model from a local folder for augmentation: safetensors only, no remote code, nothing downloaded."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from benchmarks.errors import UserError, one_line
from benchmarks.model_folder import check_model_folder, file_digests


def load_model(folder: Path, model: Any, *others: Any) -> tuple[Any, ...]:
    """Load a model and what belongs to it; the folder's digest comes last.

    Args:
        folder: In Hugging Face layout.
        model: The model's class, with ``from_pretrained``.
        others: Classes of the tokenizer or processor.

    Raises:
        UserError: The folder holds no such model, or its weights are pickled, or it needs its own code.
    """
    check_model_folder(folder)
    safe = {"local_files_only": True, "trust_remote_code": False}
    try:
        loaded = model.from_pretrained(folder, use_safetensors=True, **safe).eval()
        rest = [other.from_pretrained(folder, **safe) for other in others]
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(
            f"the model cannot be opened ({one_line(error)})",
            location=str(folder),
            hint="give a folder in Hugging Face layout with safetensors and no code of its own",
        ) from error
    return (loaded, *rest, folder_digest(folder))


def folder_digest(folder: Path) -> str:
    """SHA-256 of the names and contents of the folder's files."""
    return hashlib.sha256("".join(f"{name}\0{sha256}\0" for name, sha256 in file_digests(folder)).encode()).hexdigest()
