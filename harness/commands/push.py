"""Upload an exported folder to the Hugging Face hub. Nothing is uploaded unless ``export`` is asked for it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import UserError, one_line
from harness.config.hub import hub_errors
from harness.console import print_lines

if TYPE_CHECKING:
    from huggingface_hub import HfApi

OWN_FILES = frozenset({".gitattributes", ".gitignore"})
"""Files that the hub puts into a new repository."""
BINARY = (".safetensors", ".model", ".png", ".jpg", ".jpeg")
VOCABULARIES = frozenset({"tokenizer.json", "vocab.json", "vocab.txt", "merges.txt"})
"""Files whose entries may look like paths."""
LARGEST_TEXT = 10**7
"""Bytes of the largest file that is read as text."""
_PATH = re.compile(r"(?<![\w./:~-])/[^\s\"'`()<>|,;\\]+(?:/[^\s\"'`()<>|,;\\]+)+")
_STATUS = {
    401: "the hub does not accept the token; log in again with `hf auth login`, or set HF_TOKEN, then",
    403: "the token may not write there; take one with write access to this owner, then",
    404: "check the name of the owner, then",
}
"""What to do about a status code before the upload is repeated."""


def check_push(repository: str) -> None:
    """Check before anything is computed that an upload can begin.

    Args:
        repository: ``OWNER/NAME``.

    Raises:
        UserError: It is no such name, the hub is switched off, or there is no token.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    location = f"--push {repository}"
    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UserError(one_line(error), location=location, hint="write --push OWNER/NAME") from error
    if repository.count("/") != 1:
        raise UserError("this is no repository", location=location, hint="write --push OWNER/NAME")
    if constants.HF_HUB_OFFLINE:
        hint = "unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE, or export without --push and upload the folder later"
        raise UserError("the hub is switched off in this environment", location=location, hint=hint)
    if not get_token():
        hint = "log in with `hf auth login`, or set HF_TOKEN to a token with write access"
        raise UserError("there is no token of the hub", location=location, hint=hint)


def push(folder: Path, repository: str, *, public: bool = False) -> str:
    """Upload a folder as a model repository, in a new one or as a new commit of one with the same files.

    Args:
        folder: What ``export`` has written and compared; it stays as it is, whatever happens.
        repository: ``OWNER/NAME``.
        public: Whether a new repository is public; otherwise it is private.

    Returns:
        The repository's address.

    Raises:
        UserError: The folder names a path of this machine, the repository is of another kind, or the hub refuses or
            fails. The message says how to go on.
    """
    from huggingface_hub import HfApi

    _check_paths(folder, repository, public)
    api = HfApi()
    try:
        _open_repository(api, folder, repository, public)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message=f"Upload {folder.name}")
    except UserError:
        raise
    except hub_errors() as error:
        raise UserError(
            f"the upload failed ({_without_token(one_line(error))})",
            location=f"--push {repository}",
            hint=f"{_advice(error)}{_upload_later(folder, repository, public)}",
        ) from error
    return f"{api.endpoint}/{repository}"


def show_push(address: str, *, public: bool) -> None:
    """Print where it is."""
    print_lines(f"uploaded to {address}, a {'public' if public else 'private'} repository")


def _open_repository(api: HfApi, folder: Path, repository: str, public: bool) -> None:
    """Create the repository, or check that an existing one is what the user expects."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        api.create_repo(repository, private=not public, exist_ok=False)
    except HfHubHTTPError as error:
        if error.response.status_code != 409:
            raise
    else:
        return
    info = api.model_info(repository)
    location = f"--push {repository}"
    if bool(info.private) == public:
        found, other = ("private", "leave out --public") if public else ("public", "add --public")
        hint = f"{other}, or give another name; {_upload_later(folder, repository, public)}"
        raise UserError(f"the repository exists and is {found}", location=location, hint=hint)
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    others = sorted({each.rfilename for each in info.siblings or ()} - written - OWN_FILES)
    if others:
        problem = f"the repository exists and holds other files, such as {others[0]}"
        hint = f"give another name: {_upload_later(folder, repository, public)}"
        raise UserError(problem, location=location, hint=hint)


def _check_paths(folder: Path, repository: str, public: bool) -> None:
    """Refuse files that name a path of this machine: it means nothing elsewhere, and may say more than it should."""
    for path in sorted(folder.rglob("*")):
        for found in _local_paths(path) if path.is_file() else ():
            raise UserError(
                f"it names a path of this machine: {found}",
                location=str(path),
                hint=f"replace it there; {_upload_later(folder, repository, public)}",
            )


def _local_paths(file: Path) -> Iterator[str]:
    """Absolute paths in a text that exist on this machine."""
    if file.suffix in BINARY or file.name in VOCABULARIES or file.stat().st_size > LARGEST_TEXT:
        return
    for match in _PATH.finditer(file.read_text("utf-8", "replace")):
        path = match[0].rstrip(".:")
        if os.path.lexists(path):
            yield path


def _advice(error: Exception) -> str:
    """What to do first, by the status code of the hub's reply; empty for a failure that may pass."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    known = _STATUS.get(status)
    return f"{known} " if known else ""


def _upload_later(folder: Path, repository: str, public: bool) -> str:
    """How to upload the folder without exporting it again."""
    return (
        f"the folder is in {folder}; upload it with `hf upload {repository} {folder} .{'' if public else ' --private'}`"
    )


def _without_token(message: str) -> str:
    from huggingface_hub import get_token

    return message.replace(get_token() or "\0", "***")
