"""A content-addressed store: every entry is written atomically and verified when read (invariant I1).

An entry is identified by what made it: its id is the digest of a cache key (I2, I6). Its manifest is written last. An
entry that does not match its manifest is quarantined, counted and computed again.
"""

from __future__ import annotations

import errno
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.storage.digests import Json, canonical, digest, file_digest
from harness.storage.files import atomic_replace, atomic_write, translate_os_errors
from harness.storage.journal import Journal

if TYPE_CHECKING:
    import torch

CacheKey = Mapping[str, Json]
"""What made an entry: plain JSON values, none of them a name or a path that could come to mean something else."""


class Store:
    """Entries under one folder, by kind and cache key.

    Several processes may use one folder at once.

    Args:
        root: The folder; created by the first write.
        scratch: Where temporary files go [default: below the folder]. If it is given, the folder is only read: new
            entries are written to the scratch folder, and a damaged one stays where it is.
    """

    def __init__(self, root: Path, scratch: Path | None = None) -> None:
        self.root, self._scratch = root, scratch or root / "scratch"
        self._read_only = scratch is not None
        self._written = scratch / "entries" if scratch else root
        """Where new entries are written."""
        self.quarantined: list[str] = []
        """What was found damaged since this object was created."""

    def has(self, kind: str, key: CacheKey) -> bool:
        """Whether an entry is stored; it is verified only when read."""
        return self._manifest(kind, digest(key)).exists()

    def read_json(self, kind: str, key: CacheKey) -> Json | None:
        """The stored value, or None if it is missing or damaged."""
        path = self._verified(kind, digest(key), "json")
        return None if path is None else _load_json(path)

    def read_by_id(self, kind: str, entry_id: str) -> tuple[Json, CacheKey] | None:
        """The JSON value and the cache key of the entry with this id, or None."""
        path = self._verified(kind, entry_id, "json")
        manifest = self._read_manifest(kind, entry_id)
        return None if path is None or manifest is None else (_load_json(path), manifest["recipe"])

    def write_json(self, kind: str, key: CacheKey, value: Json) -> Json:
        """Store a JSON value; returns it as it will be read, so that the first run and later ones see the same."""
        content = canonical(value)
        self._write(kind, key, "json", lambda path: path.write_bytes(content))
        return json.loads(content.decode("utf-8", "surrogatepass"))

    def read_tensors(self, kind: str, key: CacheKey) -> dict[str, torch.Tensor] | None:
        """The stored tensors on the CPU, or None if they are missing or damaged."""
        path = self._verified(kind, digest(key), "safetensors")
        if path is None:
            return None
        from safetensors.torch import load_file

        return dict(load_file(path))

    def write_tensors(self, kind: str, key: CacheKey, tensors: Mapping[str, torch.Tensor]) -> str:
        """Store tensors as safetensors; returns the SHA-256 of the file, which is equal for equal tensors."""
        on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
        return self._write(kind, key, "safetensors", lambda path: _save_tensors(on_cpu, path))

    def content_digest(self, kind: str, key: CacheKey) -> str | None:
        """The SHA-256 of an entry's content, from its manifest."""
        manifest = self._read_manifest(kind, digest(key))
        return None if manifest is None else str(manifest["sha256"])

    def journal(self, kind: str, key: CacheKey, rank: int = 0) -> Journal:
        """The log in which one process collects the parts of an entry."""
        return Journal(self._folder(kind) / f"{digest(key)}.{rank}.log", self.quarantined)

    def journals(self, kind: str, key: CacheKey) -> list[Journal]:
        """The logs of all processes that collect parts of an entry."""
        return [Journal(path, self.quarantined) for path in sorted(self._folder(kind).glob(f"{digest(key)}.*.log"))]

    def checkpoint(self, kind: str, key: CacheKey) -> StoredCheckpoint:
        """The saved state of the computation of an entry."""
        return StoredCheckpoint(self, f"{kind}_checkpoint", key)

    @contextmanager
    def locked(self, kind: str, key: CacheKey) -> Iterator[None]:
        """Let one process at a time compute an entry; the others wait, and find it. A kill releases the lock."""
        from filelock import FileLock

        path = self.scratch("locks") / f"{kind}-{digest(key)}"
        with translate_os_errors(path):
            lock = FileLock(path)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def scratch(self, *parts: str) -> Path:
        """A folder for temporary files of other code; its content is not trusted later."""
        path = self._scratch.joinpath(*parts)
        with translate_os_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        return path

    def remove(self, kind: str, key: CacheKey) -> None:
        """Delete an entry if it exists."""
        with translate_os_errors(self._folder(kind)):
            for path in self._files(kind, digest(key)):
                if path.is_relative_to(self._written):
                    path.unlink(missing_ok=True)

    def entries(self) -> Iterator[tuple[str, str]]:
        """(kind, id) of every entry, in a fixed order."""
        for path in sorted(self.root.glob("*/*.manifest")):
            yield path.parent.name, path.stem

    def all_json(self, kind: str) -> list[Json]:
        """The values of all intact JSON entries of a kind."""
        folders = {self._folder(kind), self.root / kind}
        ids = sorted({path.stem for folder in folders for path in folder.glob("*.manifest")})
        entries = (self.read_by_id(kind, entry_id) for entry_id in ids)
        return [entry[0] for entry in entries if entry is not None]

    def size(self) -> int:
        """Bytes on the disk."""
        return sum(path.stat().st_size for path in self.root.rglob("*") if path.is_file())

    def check(self, kind: str, entry_id: str) -> bool:
        """Whether an entry still matches its manifest; a damaged one is quarantined."""
        manifest = self._read_manifest(kind, entry_id)
        return manifest is not None and self._verified(kind, entry_id, manifest["suffix"]) is not None

    def _folder(self, kind: str) -> Path:
        """Where new entries of a kind are written."""
        if not kind.isidentifier():
            raise ValueError(f"{kind!r} is not a kind of entry")
        return self._written / kind

    def _manifest(self, kind: str, entry_id: str) -> Path:
        """The manifest of an entry, whether it exists or not."""
        new = self._folder(kind) / f"{entry_id}.manifest"
        return new if not self._read_only or new.exists() else self.root / kind / new.name

    def _files(self, kind: str, entry_id: str) -> list[Path]:
        """The files of an entry, its manifest first: once that is gone, the entry is gone, whatever happens next."""
        folder = self._manifest(kind, entry_id).parent
        return sorted(folder.glob(f"{entry_id}.*"), key=lambda path: path.suffix != ".manifest")

    def _write(self, kind: str, key: CacheKey, suffix: str, write: Callable[[Path], object]) -> str:
        entry_id = digest(key)
        path = self._folder(kind) / f"{entry_id}.manifest"
        with atomic_replace(self._folder(kind) / f"{entry_id}.{suffix}") as temporary:
            write(temporary)
            sha256 = file_digest(temporary)
            # An old manifest beside the new content would make the content look damaged.
            path.unlink(missing_ok=True)
        atomic_write(path, canonical({"sha256": sha256, "suffix": suffix, "recipe": key}))
        return sha256

    def _read_manifest(self, kind: str, entry_id: str) -> dict[str, Any] | None:
        try:
            manifest = _parse_manifest(self._manifest(kind, entry_id).read_bytes())
        except FileNotFoundError:  # perhaps only just now, by another process that writes the entry again
            return None
        if manifest is not None and digest(manifest["recipe"]) == entry_id:
            return manifest
        self._quarantine(kind, entry_id)
        return None

    def _verified(self, kind: str, entry_id: str, suffix: str) -> Path | None:
        manifest = self._read_manifest(kind, entry_id)
        if manifest is None:
            return None
        path = self._manifest(kind, entry_id).with_suffix(f".{suffix}")
        if manifest["suffix"] == suffix and path.is_file() and file_digest(path) == manifest["sha256"]:
            return path
        self._quarantine(kind, entry_id)
        return None

    def _quarantine(self, kind: str, entry_id: str) -> None:
        """Move a damaged entry to a folder where it can be inspected, so that it is computed again."""
        self.quarantined.append(f"{kind}/{entry_id[:12]}")
        if self._read_only:
            return
        target = self.root / "damaged" / f"{kind}-{entry_id[:16]}-{secrets.token_hex(4)}"
        with translate_os_errors(target):
            target.mkdir(parents=True)
            for path in self._files(kind, entry_id):
                path.replace(target / path.name)


class StoredCheckpoint:
    """The state of one training. Satisfies ``harness.training.checkpoint.Checkpoint``.

    The tensors alternate between two slots, and the JSON state, written last, names the current one, so a kill while
    saving leaves the previous state.
    """

    def __init__(self, store: Store, kind: str, key: CacheKey) -> None:
        self._store, self._kind, self._key = store, kind, key

    def save(self, tensors: Mapping[str, torch.Tensor], state: Json) -> None:
        """Replace what was saved before."""
        current = self._store.read_json(self._kind, self._key)
        slot = 0 if current is None else 1 - int(current["slot"])
        sha256 = self._store.write_tensors(self._kind, self._slot(slot), tensors)
        self._store.write_json(self._kind, self._key, {"slot": slot, "sha256": sha256, "state": state})

    def load(self) -> tuple[dict[str, torch.Tensor], Json] | None:
        """What was saved last, or None if that is nothing or damaged."""
        current = self._store.read_json(self._kind, self._key)
        if current is None or self._store.content_digest(self._kind, self._slot(current["slot"])) != current["sha256"]:
            return None
        tensors = self._store.read_tensors(self._kind, self._slot(current["slot"]))
        return None if tensors is None else (tensors, current["state"])

    def discard(self) -> None:
        """Delete what was saved."""
        for key in (self._key, self._slot(0), self._slot(1)):
            self._store.remove(self._kind, key)

    def _slot(self, number: int) -> CacheKey:
        return {"of": digest(self._key), "slot": number}


def _load_json(path: Path) -> Json:
    return json.loads(path.read_text("utf-8", "surrogatepass"))


def _save_tensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Save as safetensors; its error becomes an ``OSError`` again, whose number it hides."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path)
    except SafetensorError as error:
        full = "No space" in str(error) or "os error 28" in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from error


def _parse_manifest(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) and {"sha256", "suffix", "recipe"} <= value.keys() else None
