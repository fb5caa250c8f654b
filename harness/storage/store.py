"""The only place that writes files: each is written whole or not at all and verified when read (invariant I1).

An entry is known by what made it: its name is the sha256 of a canonical JSON (I2, I6), and its content lies beside
a manifest that is written last. An entry that does not match its manifest is set aside, counted and computed again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.errors import UserError

if TYPE_CHECKING:
    import torch

Json = Any
CacheKey = Mapping[str, Json]
"""What made an entry: plain JSON values, none of them a name or a path that could come to mean something else."""

_TEMPORARY = ".part"


class StorageError(UserError):
    """The disk or the folder refuses; what was stored before is whole."""


def canonical(value: Json) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, UTF-8.

    Raises:
        ValueError: The value holds NaN or an infinity.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "surrogatepass")


def digest(value: Json) -> str:
    """Hex sha256 of the canonical JSON."""
    return hashlib.sha256(canonical(value)).hexdigest()


def file_digest(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def atomic_write(path: Path, content: bytes | str, *, flush: bool = True) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    Args:
        path: The file.
        content: All of it.
        flush: Whether it must outlast a power cut; not for what is cheap to make again and checked before use.

    Raises:
        StorageError: The disk is full, or the folder cannot be written.
    """
    data = content.encode() if isinstance(content, str) else content
    with atomic_replace(path, flush=flush) as temporary:
        temporary.write_bytes(data)


@contextmanager
def atomic_replace(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Give a temporary file in the same folder; once the block ends well, flush it and put it in the place of ``path``.

    Raises:
        StorageError: The disk is full, or the folder cannot be written; ``path`` is as it was.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_TEMPORARY}")
    with translate_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            if flush:
                _flush(temporary)
            temporary.replace(path)
            if flush:
                _flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def translate_os_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses into an error that says what to do."""
    advice = {
        errno.ENOSPC: ("the disk is full", "free some space and run the command again; it goes on from here"),
        errno.EDQUOT: ("the disk quota is used up", "free some space and run the command again; it goes on from here"),
        errno.EROFS: ("the folder is read-only", "give another folder with --out"),
        errno.EACCES: ("the folder may not be written", "change its permissions, or give another with --out"),
        errno.EPERM: ("the folder may not be written", "change its permissions, or give another with --out"),
        errno.ENOTDIR: ("a file stands where a folder is needed", "give another folder with --out"),
        errno.EEXIST: ("a file stands where a folder is needed", "give another folder with --out"),
    }
    try:
        yield
    except OSError as error:
        problem, hint = advice.get(error.errno or 0, (f"cannot be written ({error})", "check the disk and run again"))
        raise StorageError(problem, location=str(path), hint=hint) from error


def _save_tensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """As safetensors, whose own error hides what the operating system said."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path)
    except SafetensorError as error:
        full = "No space" in str(error) or "os error 28" in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error)) from error


def _flush(path: Path) -> None:
    """Have the operating system put a file or a folder's listing on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Store:
    """Entries under one folder, by kind and recipe.

    Args:
        root: Where they lie; made when first written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.quarantined: list[str] = []
        """What was found damaged since this object was made."""

    def has(self, kind: str, recipe: CacheKey) -> bool:
        """Whether an entry was stored; it is verified only when read."""
        return self._manifest(kind, digest(recipe)).exists()

    def read_json(self, kind: str, recipe: CacheKey) -> Json | None:
        """The stored value, or None where there is none or it was damaged."""
        path = self._verified(kind, digest(recipe), "json")
        return None if path is None else json.loads(path.read_text("utf-8", "surrogatepass"))

    def read_key(self, kind: str, key: str) -> tuple[Json, CacheKey] | None:
        """The JSON value with this key and its recipe, whoever made it, or None."""
        path = self._verified(kind, key, "json")
        manifest = self._read_manifest(kind, key)
        if path is None or manifest is None:
            return None
        return json.loads(path.read_text("utf-8", "surrogatepass")), manifest["recipe"]

    def write_json(self, kind: str, recipe: CacheKey, value: Json) -> Json:
        """Store a JSON value; returns it as it will be read, so that a first run and a later one see the same."""
        content = canonical(value)
        self._write(kind, recipe, "json", lambda path: path.write_bytes(content))
        return json.loads(content.decode("utf-8", "surrogatepass"))

    def read_tensors(self, kind: str, recipe: CacheKey) -> dict[str, torch.Tensor] | None:
        """The stored tensors on the CPU, or None where there are none or they were damaged."""
        path = self._verified(kind, digest(recipe), "safetensors")
        if path is None:
            return None
        from safetensors.torch import load_file

        return dict(load_file(path))

    def write_tensors(self, kind: str, recipe: CacheKey, tensors: Mapping[str, torch.Tensor]) -> str:
        """Store tensors as safetensors; returns the sha256 of the file, equal for equal tensors."""
        whole = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
        return self._write(kind, recipe, "safetensors", lambda path: _save_tensors(whole, path))

    def content_digest(self, kind: str, recipe: CacheKey) -> str | None:
        """The sha256 of an entry's content, as its manifest says."""
        manifest = self._read_manifest(kind, digest(recipe))
        return None if manifest is None else str(manifest["sha256"])

    def journal(self, kind: str, recipe: CacheKey, place: int = 0) -> Journal:
        """The append-only log that grows towards an entry; each process that works on it has its own."""
        return Journal(self._folder(kind) / f"{digest(recipe)}.{place}.log", self.quarantined)

    def journals(self, kind: str, recipe: CacheKey) -> list[Journal]:
        """All logs that grow towards an entry."""
        return [Journal(path, self.quarantined) for path in sorted(self._folder(kind).glob(f"{digest(recipe)}.*.log"))]

    def checkpoint(self, kind: str, recipe: CacheKey) -> StoredCheckpoint:
        """The state of a computation under way towards an entry."""
        return StoredCheckpoint(self, f"{kind}_checkpoint", recipe)

    def scratch(self, *parts: str) -> Path:
        """A folder for others' temporary files; nothing in it is trusted later."""
        path = self.root.joinpath("scratch", *parts)
        with translate_os_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        return path

    def remove_partials(self) -> None:
        """Remove what a killed process left half written. Call it while holding the run's lock."""
        for path in self.root.rglob(f".*{_TEMPORARY}"):
            with translate_os_errors(path):
                path.unlink(missing_ok=True)

    def remove(self, kind: str, recipe: CacheKey) -> None:
        """Forget an entry, if it is there: first its manifest, then its content."""
        key = digest(recipe)
        with translate_os_errors(self._folder(kind)):
            for path in sorted(self._folder(kind).glob(f"{key}.*"), key=_manifest_first):
                path.unlink(missing_ok=True)

    def entries(self) -> Iterator[tuple[str, str]]:
        """(kind, key) of every entry, in a fixed order."""
        for path in sorted(self.root.glob("*/*.manifest")):
            yield path.parent.name, path.stem

    def all_json(self, kind: str) -> list[Json]:
        """The values of all whole JSON entries of a kind."""
        found = (self.read_key(kind, path.stem) for path in sorted(self._folder(kind).glob("*.manifest")))
        return [each[0] for each in found if each is not None]

    def size(self) -> int:
        """Bytes on the disk."""
        return sum(path.stat().st_size for path in self.root.rglob("*") if path.is_file())

    def check(self, kind: str, key: str) -> bool:
        """Whether an entry still matches its manifest; a damaged one is set aside."""
        manifest = self._read_manifest(kind, key)
        return manifest is not None and self._verified(kind, key, manifest["suffix"]) is not None

    def _folder(self, kind: str) -> Path:
        if not kind.isidentifier():
            raise ValueError(f"{kind!r} is no kind of entry")
        return self.root / kind

    def _manifest(self, kind: str, key: str) -> Path:
        return self._folder(kind) / f"{key}.manifest"

    def _write(self, kind: str, recipe: CacheKey, suffix: str, write: Callable[[Path], object]) -> str:
        key = digest(recipe)
        path = self._folder(kind) / f"{key}.{suffix}"
        with atomic_replace(path) as temporary:
            write(temporary)
            # Between new content and new manifest there must not be an old one, which would call the content damaged.
            self._manifest(kind, key).unlink(missing_ok=True)
            sha256 = file_digest(temporary)
        manifest = {"sha256": sha256, "suffix": suffix, "recipe": recipe}
        atomic_write(self._manifest(kind, key), canonical(manifest))
        return sha256

    def _read_manifest(self, kind: str, key: str) -> dict[str, Any] | None:
        path = self._manifest(kind, key)
        if not path.exists():
            return None
        manifest = _parsed(path.read_bytes())
        if manifest is not None and digest(manifest["recipe"]) == key:
            return manifest
        self._quarantine(kind, key)
        return None

    def _verified(self, kind: str, key: str, suffix: str) -> Path | None:
        manifest = self._read_manifest(kind, key)
        if manifest is None:
            return None
        path = self._folder(kind) / f"{key}.{suffix}"
        if manifest["suffix"] == suffix and path.is_file() and file_digest(path) == manifest["sha256"]:
            return path
        self._quarantine(kind, key)
        return None

    def _quarantine(self, kind: str, key: str) -> None:
        """Move a damaged entry out of the way, so that it is computed again and can be looked at."""
        target = self.root / "damaged" / f"{kind}-{key[:16]}-{secrets.token_hex(4)}"
        with translate_os_errors(target):
            target.mkdir(parents=True)
            for path in sorted(self._folder(kind).glob(f"{key}.*"), key=_manifest_first):
                path.replace(target / path.name)
        self.quarantined.append(f"{kind}/{key[:12]}")


class StoredCheckpoint:
    """Where one training keeps its state. Satisfies ``harness.training.checkpoint.Checkpoint``.

    The tensors go into one of two slots in turn, and the JSON state, written last, says into which: a kill while saving
    leaves the state before.
    """

    def __init__(self, store: Store, kind: str, recipe: CacheKey) -> None:
        self._store, self._kind, self._recipe = store, kind, recipe

    def save(self, tensors: Mapping[str, torch.Tensor], state: Json) -> None:
        """Replace what was saved before."""
        now = self._store.read_json(self._kind, self._recipe)
        slot = 0 if now is None else 1 - int(now["slot"])
        sha256 = self._store.write_tensors(self._kind, self._slot(slot), tensors)
        self._store.write_json(self._kind, self._recipe, {"slot": slot, "sha256": sha256, "state": state})

    def load(self) -> tuple[dict[str, torch.Tensor], Json] | None:
        """What was saved last, or None where nothing was or it was damaged."""
        now = self._store.read_json(self._kind, self._recipe)
        if now is None or self._store.content_digest(self._kind, self._slot(now["slot"])) != now["sha256"]:
            return None
        tensors = self._store.read_tensors(self._kind, self._slot(now["slot"]))
        return None if tensors is None else (tensors, now["state"])

    def discard(self) -> None:
        """Forget it."""
        for recipe in (self._recipe, self._slot(0), self._slot(1)):
            self._store.remove(self._kind, recipe)

    def _slot(self, number: int) -> CacheKey:
        return {"of": digest(self._recipe), "slot": number}


class Journal:
    """An append-only log: one checked JSON value a line. A line torn by a kill is dropped.

    Args:
        path: The file; made when first appended to.
        quarantined: Where damaged lines are counted.
    """

    def __init__(self, path: Path, quarantined: list[str]) -> None:
        self.path, self._quarantined = path, quarantined

    def read(self) -> list[Json]:
        """All whole lines in order. What is torn or damaged is cut out of the file."""
        if not self.path.exists():
            return []
        lines = self.path.read_bytes().splitlines(keepends=True)
        values = [value for line in lines if (value := _checked(line)) is not None]
        if len(values) < len(lines):
            # Only the last line can be torn by a kill; any other is damage.
            damaged = [number for number, line in enumerate(lines[:-1], 1) if _checked(line) is None]
            self._quarantined += [f"{self.path.parent.name}/{self.path.stem[:12]} line {number}" for number in damaged]
            atomic_write(self.path, b"".join(_line(value) for value in values))
        return values

    def append(self, values: Sequence[Json]) -> None:
        """Add lines and flush them to the disk.

        Raises:
            StorageError: The disk is full or the folder is read-only; the lines before are whole.
        """
        with translate_os_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(b"".join(_line(value) for value in values))
                file.flush()
                os.fsync(file.fileno())

    def discard(self) -> None:
        """Remove the log."""
        with translate_os_errors(self.path):
            self.path.unlink(missing_ok=True)


def _line(value: Json) -> bytes:
    body = canonical(value)
    return hashlib.sha256(body).hexdigest()[:16].encode() + b" " + body + b"\n"


def _checked(line: bytes) -> Json | None:
    """The value of a line, or None where its checksum or its end does not fit."""
    checksum, _, body = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or hashlib.sha256(body).hexdigest()[:16].encode() != checksum:
        return None
    return json.loads(body.decode("utf-8", "surrogatepass"))


def _parsed(text: bytes) -> dict[str, Any] | None:
    """A manifest, or None where the text is none."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) and {"sha256", "suffix", "recipe"} <= value.keys() else None


def _manifest_first(path: Path) -> bool:
    """Sorts an entry's manifest before its content: once it is gone the entry is gone, whatever happens next."""
    return path.suffix != ".manifest"
