"""The calibration and replay pools of the published models: random rows of two published data sets, as LLaVA's JSON."""

from __future__ import annotations

import io
import json
import logging
import os
import random
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from PIL import Image

from benchmarks.errors import UserError, first_line, one_line
from benchmarks.pixels import to_rgb
from harness.commands.remote_file import open_remote
from harness.config.hub import hub_errors
from harness.data.requirements import LLAVA_INSTRUCT, ONEVISION
from harness.storage.files import atomic_write, translate_os_errors

logger = logging.getLogger(__name__)

T = TypeVar("T")
SEED = 233
"""The seed of the authors' calibration samples; here of both draws."""
SETS = ("Geometry3K(MathV360K)", "iiit5k", "VizWiz(MathV360K)", "FigureQA(MathV360K)")
"""The sets of LLaVA-OneVision that KORE calibrates on: maths, reading, general, charts."""
ROWS_PER_SET = 512
"""The authors take 64; more allow other draws by other seeds, and sweeps of ``calibration_samples``."""
MIXTURE = "llava_v1_5_mix665k"
"""LLaVA-1.5's instruction data; the file of this name is also what the authors' Replay of Qwen reads."""
REPLAYED = 3_000
"""Replay takes 942 for EVOKE; more allow stages, a pseudo-task's own samples, and ``ratio`` up to 0.3."""
PICTURES = "HARNESS_LLAVA_PICTURES"
"""Environment variable: a folder with the pictures of LLaVA-1.5's instruction data, to read instead of the archives."""
ARCHIVES = {
    "coco/train2017": "http://images.cocodataset.org/zips/train2017.zip",
    "gqa/images": "https://downloads.cs.stanford.edu/nlp/data/gqa/images.zip",
    "ocr_vqa/images": "https://huggingface.co/datasets/weizhiwang/llava_v15_instruction_images/resolve/main/"
    "ocr_vqa_images_llava_v15.zip",
    "textvqa/train_images": "https://dl.fbaipublicfiles.com/textvqa/images/train_val_images.zip",
    "vg/VG_100K": "https://cs.stanford.edu/people/rak248/VG_100K_2/images.zip",
    "vg/VG_100K_2": "https://cs.stanford.edu/people/rak248/VG_100K_2/images2.zip",
}
"""Folder of a picture in the mixture to the archive in LLaVA's README; OCR-VQA's is from its pull request 1458."""
LARGEST_PICTURE = 64 << 20
"""Bytes; what is larger is no picture of these."""


def fetch_calibration(file: Path) -> Path:
    """Write random rows of each of ``SETS``, with their pictures beside the file.

    Raises:
        StorageError: A file cannot be written.
        UserError: The hub cannot be reached.
    """
    return write_samples(_onevision(), file)


def fetch_replay(file: Path) -> Path:
    """Write random rows of ``MIXTURE``, with their pictures beside the file; of archives, only these are downloaded.

    Raises:
        StorageError: A file cannot be written.
        UserError: A server cannot be reached.
    """
    rows = _download_mixture()
    with _Pictures() as pictures:
        return write_samples(_with_pictures(random.Random(SEED).sample(rows, len(rows)), pictures), file)


def draw(rows: Iterable[T], count: int, seed: int) -> list[T]:
    """Draw uniformly, without replacement, from a stream of any length, in random order (algorithm R)."""
    numbers, drawn = random.Random(seed), list[T]()
    for seen, row in enumerate(rows):
        if seen < count:
            drawn.append(row)
        elif (place := numbers.randrange(seen + 1)) < count:
            drawn[place] = row
    numbers.shuffle(drawn)
    return drawn


def write_samples(rows: Iterable[tuple[str, Mapping[str, Any]]], file: Path) -> Path:
    """Write (source, row) as LLaVA's JSON; each id begins with its source and is given to one row only.

    Args:
        rows: ``conversations``, ``id`` if it has one, and ``image``: encoded, decoded, or None for text alone.
        file: The JSON; pictures are in ``imgs`` beside it, in a folder of its name.

    Raises:
        StorageError: A file cannot be written.
        UserError: A picture cannot be read.
    """
    written = []
    for number, (source, row) in enumerate(rows):
        turns = [{"from": turn["from"], "value": turn["value"]} for turn in row["conversations"]]
        name = str(row.get("id", number)).replace("/", "_")
        sample: dict[str, Any] = {"id": f"{source}/{number}-{name}", "conversations": turns}
        if row.get("image") is not None:
            sample["image"] = f"imgs/{file.stem}/{number:06d}.png"  # two pools may share a folder
            picture = _decoded(row["image"], f"{source}, row {name}")
            with translate_os_errors(file.parent):
                (file.parent / sample["image"]).parent.mkdir(parents=True, exist_ok=True)
                picture.save(file.parent / sample["image"])
        written.append(sample)
    atomic_write(file, json.dumps(written, ensure_ascii=False, indent=1) + "\n")
    return file


def _decoded(picture: Any, place: str) -> Image.Image:
    """The pixels of a picture in RGB; ``datasets`` gives ``{"bytes": ...}`` for what it does not decode.

    Raises:
        UserError: It cannot be read.
    """
    try:
        if not isinstance(picture, Image.Image):
            picture = Image.open(io.BytesIO(picture["bytes"] if isinstance(picture, Mapping) else picture))
        return to_rgb(picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # what Pillow raises
        hint = "fetch again, in case the download was cut; if it is broken there, report the row to its publisher"
        raise UserError(f"its picture cannot be read ({first_line(error)})", location=place, hint=hint) from error


def _onevision() -> Iterator[tuple[str, dict[str, Any]]]:
    """Stream each set once, and keep its sample alone."""
    from datasets import Image as ImageFeature
    from datasets import load_dataset

    for name in SETS:
        logger.info("  %s: reading all rows, keeping %d", name, ROWS_PER_SET)
        try:
            rows = load_dataset(ONEVISION, name, split="train", streaming=True)
            undecoded = rows.cast_column("image", ImageFeature(decode=False))
            drawn = draw((row for row in undecoded if row["image"] is not None), ROWS_PER_SET, SEED)
        except hub_errors() as error:
            raise UserError(
                f"the set {name} cannot be streamed ({one_line(error)})",
                location=ONEVISION,
                hint="check the network, or give a LLaVA JSON of your own with data.calibration=FILE.json",
            ) from error
        yield from ((f"LLaVA-OneVision:{name}", row) for row in drawn)


def _download_mixture() -> list[dict[str, Any]]:
    from huggingface_hub import hf_hub_download

    try:
        path = Path(hf_hub_download(LLAVA_INSTRUCT, f"{MIXTURE}.json", repo_type="dataset"))
        rows: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
        return rows
    except hub_errors() as error:
        raise UserError(
            f"it cannot be downloaded from the hub ({one_line(error)})",
            location=f"{LLAVA_INSTRUCT}/{MIXTURE}.json",
            hint="check the network, or give a LLaVA JSON of your own with data.replay=FILE.json",
        ) from error


def _with_pictures(rows: Sequence[dict[str, Any]], pictures: _Pictures) -> Iterator[tuple[str, dict[str, Any]]]:
    """The first ``REPLAYED`` rows that can be used, with encoded pictures; the others are counted and passed over."""
    kept = unusable = missing = 0
    for row in rows:
        turns, name = _turns(row), row.get("image")
        content = pictures.read(name) if turns and name else None
        if not turns:
            unusable += 1
        elif name and content is None:
            missing += 1
        else:
            kept += 1
            part = PurePosixPath(name).parts[0] if name else "text"
            yield f"{MIXTURE}:{part}", {**row, "conversations": turns, "image": content}
        if kept == REPLAYED:
            break
    logger.info("  %d rows kept; passed over: %d without their picture, %d not a dialogue", kept, missing, unusable)


def _turns(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row's turns, from the first human one as in LLaVA's loader; empty if they do not alternate or say nothing."""
    turns = [dict(turn) for turn in row["conversations"]]
    turns = turns[1:] if turns and turns[0]["from"] == "gpt" else turns
    alternate = all(turn["from"] == ("human", "gpt")[i % 2] for i, turn in enumerate(turns))
    return turns if len(turns) > 1 and alternate and all(turn["value"].strip() for turn in turns) else []


class _Pictures:
    """Pictures of the mixture by name, from a folder or from remote archives that stay open."""

    def __init__(self) -> None:
        self._folder = os.environ.get(PICTURES)
        self._archives: dict[str, tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]] = {}

    def __enter__(self) -> _Pictures:
        return self

    def __exit__(self, *exception: object) -> None:
        for archive, _ in self._archives.values():
            archive.close()

    def read(self, name: str) -> bytes | None:
        """The encoded picture; None if it is not there or is no picture.

        Raises:
            UserError: An archive cannot be read.
        """
        content = self._from_folder(name) if self._folder else self._from_archive(name)
        try:
            if content is not None:
                _decoded(content, name)
        except UserError:
            return None
        return content

    def _from_folder(self, name: str) -> bytes | None:
        path = Path(self._folder or "") / name
        return path.read_bytes() if str(PurePosixPath(name).parent) in ARCHIVES and path.is_file() else None

    def _from_archive(self, name: str) -> bytes | None:
        folder, file = str(PurePosixPath(name).parent), PurePosixPath(name).name
        if folder not in ARCHIVES:
            return None
        try:
            if folder not in self._archives:
                archive = zipfile.ZipFile(open_remote(ARCHIVES[folder]))
                self._archives[folder] = archive, {Path(info.filename).name: info for info in archive.infolist()}
            archive, members = self._archives[folder]
            info = members.get(file)
            return archive.read(info) if info is not None and info.file_size <= LARGEST_PICTURE else None
        except zipfile.BadZipFile as error:
            raise UserError(
                f"it is no zip archive ({error})", location=ARCHIVES[folder], hint=f"set {PICTURES} to a folder"
            ) from error
