"""Downloads, made only when the user asks for them with ``fetch``. Every other command works without network."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.errors import UserError, one_line
from benchmarks.retention_specs import MIRROR, SPEC_BY_NAME
from harness.commands.fetch_pools import fetch_calibration, fetch_replay
from harness.config import hub
from harness.data.requirements import LLAVA_INSTRUCT, Requirement
from harness.storage.files import StorageError, translate_os_errors

logger = logging.getLogger(__name__)

TABLES = "HARNESS_TABLES"
"""Environment variable: an address to fetch the tables from, in place of VLMEvalKit's."""
BLOCK = 1 << 16
"""Bytes that are written at once."""
TIMEOUT = 60
"""Seconds to wait for a server."""
WEIGHTS = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]


def fetch(needs: Sequence[Requirement]) -> list[Path]:
    """Download what is needed; returns the path of each download. A failure does not stop the others.

    Raises:
        StorageError: A file cannot be written.
        UserError: A server cannot be reached or sends something else; names all that failed.
    """
    paths, failed = [], []
    if not needs:
        logger.info("nothing is missing")
    for need in needs:
        try:
            paths.append(_fetch(need))
        except StorageError:
            raise
        except UserError as error:
            if len(needs) == 1:
                raise
            logger.warning("not fetched: %s", error)
            failed.append(need.name)
    if failed:
        raise UserError(
            f"{len(failed)} of {len(needs)} things were not fetched: {', '.join(failed)}",
            hint="the reasons are above; the same command continues with what is missing",
        )
    return paths


def fetch_snapshot(repository: str, kind: hub.Kind) -> Path:
    """Download a model without pickles, or a whole data set, from the hub.

    Raises:
        UserError: The hub cannot be reached or does not know it.
    """
    from huggingface_hub import snapshot_download

    patterns = WEIGHTS if kind == "model" else None
    try:
        return Path(snapshot_download(repository, repo_type=kind, allow_patterns=patterns))
    except hub.hub_errors() as error:
        raise UserError(
            f"it cannot be downloaded from the hub ({one_line(error)})",
            location=repository,
            hint="check the network, HF_ENDPOINT and HF_TOKEN, or fetch it elsewhere and name the folder",
        ) from error


def _fetch(need: Requirement) -> Path:
    source, size = need.source or "nowhere", need.size or "size unknown"
    logger.info("%s: from %s (%s; licence: %s)", need.name, source, size, need.licence)
    if not need.source:
        raise UserError(
            f"{need.name} is in a folder of your own; nothing says where from",
            location=str(need.path),
            hint="put it there, or name a hub id",
        )
    if need.kind == "model" or need.kind == "dataset":
        return fetch_snapshot(need.source, need.kind)
    if need.kind == "pool":
        return fetch_replay(need.path) if need.source == LLAVA_INSTRUCT else fetch_calibration(need.path)
    return _table(need)


def _table(need: Requirement) -> Path:
    """Download a TSV, continuing a partial download; put it in place only if its md5 is the published one."""
    address = need.source.replace(MIRROR, os.environ.get(TABLES, MIRROR).rstrip("/"))
    published = need.md5 or SPEC_BY_NAME[need.name].md5
    partial = need.path.with_name(need.path.name + ".part")
    with translate_os_errors(need.path):
        need.path.parent.mkdir(parents=True, exist_ok=True)
    _download(address, partial)
    with partial.open("rb") as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if md5 != published:
        partial.unlink()
        raise UserError(
            f"the download is not the published table: its md5 is {md5}, not {published}",
            location=address,
            hint=f"try again later, or set {TABLES} to another mirror; nothing was replaced",
        )
    partial.replace(need.path)
    return need.path


def _download(address: str, partial: Path) -> None:
    import requests

    size = partial.stat().st_size if partial.exists() else 0
    headers = {"Range": f"bytes={size}-"} if size else {}
    try:
        with requests.get(address, headers=headers, stream=True, timeout=TIMEOUT) as reply:
            if reply.status_code == requests.codes.requested_range_not_satisfiable:
                return  # the partial download is complete
            reply.raise_for_status()
            resumed = reply.status_code == requests.codes.partial_content
            size = int(reply.headers.get("content-length", 0))
            logger.info("  %s: %s MB%s", address, f"{size / 1e6:,.0f}", " more" if resumed else "")
            with translate_os_errors(partial):
                file = partial.open("ab" if resumed else "wb")
            with file:
                for block in reply.iter_content(BLOCK):
                    with translate_os_errors(partial):  # only the disk's errors: those of the network are OSErrors too
                        file.write(block)
    except requests.RequestException as error:
        raise UserError(
            f"the download failed ({one_line(error)})",
            location=address,
            hint="run the same command again; it goes on where it was",
        ) from error
