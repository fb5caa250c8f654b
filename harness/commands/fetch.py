"""Downloads, made only when the user asks for them with ``fetch``. Every other command works without network."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.errors import UserError
from benchmarks.retention_specs import BY_NAME, MIRROR
from harness.config import hub
from harness.data.requirements import ONEVISION, Requirement
from harness.storage.store import StorageError, atomic_write, translate_os_errors

Say = Callable[[str], None]
TABLES = "HARNESS_TABLES"
"""Environment variable: another address than VLMEvalKit's under which the tables lie."""
SETS = ("Geometry3K(MathV360K)", "iiit5k", "VizWiz(MathV360K)", "FigureQA(MathV360K)")
"""The sets of LLaVA-OneVision that KORE calibrates on: maths, reading, general, charts."""
SAMPLES = 512
"""Of each set: enough for 256 calibration samples and for Replay's tenth of EVOKE."""
BLOCK, PATIENCE = 1 << 16, 60
WEIGHTS = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]


def fetch(needs: Sequence[Requirement], say: Say) -> list[Path]:
    """Download what is needed; returns where each thing lies. What fails does not keep the others from coming.

    Raises:
        StorageError: The disk refuses.
        UserError: A server cannot be reached or sends something else; all that failed is named.
    """
    found, failed = [], []
    if not needs:
        say("nothing lacks")
    for need in needs:
        try:
            found.append(_fetched(need, say))
        except StorageError:
            raise
        except UserError as error:
            if len(needs) == 1:
                raise
            say(f"  not fetched: {error}")
            failed.append(need.name)
    if failed:
        raise UserError(
            f"{len(failed)} of {len(needs)} things were not fetched: {', '.join(failed)}",
            hint="the reasons stand above; the same command goes on with what lacks",
        )
    return found


def fetch_dataset(repository: str) -> Path:
    """A data set of the hub, whole, such as KORE-74K.

    Raises:
        UserError: The hub cannot be reached or does not know it.
    """
    return _snapshot(repository, "dataset")


def _fetched(need: Requirement, say: Say) -> Path:
    say(f"{need.name}: from {need.source or 'nowhere'} ({need.size or 'size unknown'}; licence: {need.licence})")
    if not need.source:
        raise UserError(
            f"{need.name} lies in a folder of your own; nothing says where from", location=str(need.place),
            hint="put it there, or name a hub id",
        )  # fmt: skip
    if need.kind == "model" or need.kind == "dataset":
        return _snapshot(need.source, need.kind)
    if need.kind == "old data":
        return write_samples(_onevision(), need.place)
    return _table(need, say)


def _snapshot(repository: str, kind: hub.Kind) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    patterns = WEIGHTS if kind == "model" else None
    try:
        return Path(snapshot_download(repository, repo_type=kind, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, OSError) as error:
        raise UserError(
            f"the hub does not give it ({' '.join(str(error).split())[:200]})",
            location=repository,
            hint="check the network, HF_ENDPOINT and HF_TOKEN, or fetch it elsewhere and name the folder",
        ) from error


def _table(need: Requirement, say: Say) -> Path:
    """A TSV, resumed where a download was cut off, and in place only when its md5 is the published one."""
    spec = BY_NAME[need.name]
    address = f"{os.environ.get(TABLES, MIRROR).rstrip('/')}/{spec.file}"
    partial = need.place.with_name(need.place.name + ".part")
    with translate_os_errors(need.place):
        need.place.parent.mkdir(parents=True, exist_ok=True)
    _download(address, partial, say)
    with partial.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != spec.md5:
        partial.unlink()
        raise UserError(
            f"what came is not the published table: its md5 is {found}, not {spec.md5}",
            location=address,
            hint=f"try again later, or set {TABLES} to another mirror; nothing was replaced",
        )
    partial.replace(need.place)
    return need.place


def _download(address: str, partial: Path, say: Say) -> None:
    import requests

    have = partial.stat().st_size if partial.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    try:
        with requests.get(address, headers=headers, stream=True, timeout=PATIENCE) as reply:
            if reply.status_code == requests.codes.requested_range_not_satisfiable:
                return  # all of it was there
            reply.raise_for_status()
            resumed = reply.status_code == requests.codes.partial_content
            size = int(reply.headers.get("content-length", 0))
            say(f"  {address}: {size / 1e6:,.0f} MB{' more' if resumed else ''}")
            with translate_os_errors(partial):
                file = partial.open("ab" if resumed else "wb")
            with file:
                for block in reply.iter_content(BLOCK):
                    with translate_os_errors(
                        partial
                    ):  # the disk's errors alone: those of the network are OSErrors, too
                        file.write(block)
    except requests.RequestException as error:
        raise UserError(
            f"the download failed ({' '.join(str(error).split())[:200]})",
            location=address,
            hint="run the same command again; it goes on where it was",
        ) from error


def _onevision() -> Iterable[tuple[str, dict[str, Any]]]:
    """(set, row) of LLaVA-OneVision, streamed, so that nothing but the samples is downloaded."""
    from datasets import load_dataset

    for name in SETS:
        try:
            rows = load_dataset(ONEVISION, name, split="train", streaming=True).take(SAMPLES)
            yield from ((name, row) for row in rows)
        except (OSError, ValueError) as error:
            raise UserError(
                f"the set {name} cannot be streamed ({' '.join(str(error).split())[:200]})",
                location=ONEVISION,
                hint="check the network, or give a LLaVA JSON of your own with data.old=FILE.json",
            ) from error


def write_samples(rows: Iterable[tuple[str, dict[str, Any]]], file: Path) -> Path:
    """Rows of a `datasets` set with ``image`` and ``conversations`` as a JSON in LLaVA's format, pictures beside it."""
    written = []
    for number, (name, row) in enumerate(rows):
        if row.get("image") is None:
            continue
        picture = f"imgs/{number:06d}.png"
        with translate_os_errors(file.parent):
            (file.parent / "imgs").mkdir(parents=True, exist_ok=True)
            row["image"].convert("RGB").save(file.parent / picture)
        turns = [{"from": turn["from"], "value": turn["value"]} for turn in row["conversations"]]
        written.append({"id": f"{name}/{row.get('id', number)}", "image": picture, "conversations": turns})
    atomic_write(file, json.dumps(written, ensure_ascii=False, indent=1) + "\n")
    return file
