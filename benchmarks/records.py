"""The plain data that all packages exchange. Does not import torch."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from PIL import Image, UnidentifiedImageError

from benchmarks.errors import UserError
from benchmarks.pixels import oriented_size, to_rgb

IMAGE = "<image>"
"""Marks the position of the next picture inside a user turn."""

T = TypeVar("T")
Role = Literal["user", "assistant"]
Status = Literal["parsed", "unparsed", "empty", "failed"]


class ReadableFile(Protocol):
    """A file on disk or inside an archive."""

    def read_bytes(self) -> bytes:
        """Read the content.

        Raises:
            OSError: The file cannot be read.
        """


Source = Path | bytes | ReadableFile


@dataclass(frozen=True)
class Picture:
    """An encoded image, in a file or in memory, identified by its content and never by its name."""

    source: Source = field(repr=False)

    @property
    def encoded(self) -> bytes:
        """The file's bytes, unchanged; read on each access because a whole data set does not fit into memory.

        Raises:
            UserError: The file cannot be read, or its content has changed.
        """
        if isinstance(self.source, bytes):
            return self.source
        try:
            content = self.source.read_bytes()
        except OSError as error:
            raise UserError(
                f"the picture cannot be read ({error.strerror})", location=str(self.source), hint="put the file there"
            ) from error
        first_digest = vars(self).get("sha256")  # set once the cached property below was read
        if first_digest is not None and hashlib.sha256(content).hexdigest() != first_digest:
            raise UserError(
                "the picture has changed since it was first read",
                location=str(self.source),
                hint="run the command again",
            )
        return content

    @cached_property
    def sha256(self) -> str:
        """Hex digest of the encoded bytes."""
        return hashlib.sha256(self.encoded).hexdigest()

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, upright, read from the file's header.

        Raises:
            UserError: The bytes are not an image, or it exceeds Pillow's decompression bomb limit.
        """
        return self._open(oriented_size)

    def pixels(self) -> Image.Image:
        """Decode to RGB, as ``benchmarks.pixels`` says.

        Raises:
            UserError: The bytes are not an image, are truncated, exceed Pillow's decompression bomb limit, or have
                values that cannot be shown in 8-bit RGB.
        """
        return self._open(to_rgb)

    def _open(self, use: Callable[[Image.Image], T]) -> T:
        location = f"picture {self.sha256[:12]}" if isinstance(self.source, bytes) else str(self.source)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                return use(Image.open(io.BytesIO(self.encoded)))
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise UserError("the picture has too many pixels", location=location, hint="scale it down") from error
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"  # which names only a buffer
            raise UserError(
                f"the picture is damaged or not an image{reason}",
                location=location,
                hint="save it again as PNG or JPEG",
            ) from error
        except ValueError as error:
            raise UserError(
                f"the picture cannot be shown ({error})", location=location, hint="save it as an 8-bit PNG or JPEG"
            ) from error


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation."""

    role: Role
    text: str


@dataclass(frozen=True)
class Conversation:
    """A training sample: alternating turns, user first; each ``<image>`` in a turn is replaced by a picture.

    Raises:
        UserError: The number of markers differs from the number of pictures, or roles do not alternate.
    """

    id: str
    turns: tuple[Turn, ...]
    pictures: tuple[Picture, ...] = ()
    branch: str = "knowledge"
    """Where the sample comes from: knowledge, dialogue, recognition, caption, vqa, replay, ..."""

    def __post_init__(self) -> None:
        markers = sum(turn.text.count(IMAGE) for turn in self.turns)
        if markers != len(self.pictures):
            raise UserError(
                f"{markers} {IMAGE} markers but {len(self.pictures)} pictures",
                location=f"conversation {self.id}",
                hint="give one marker for each picture",
            )
        roles = [turn.role for turn in self.turns]
        if not roles or roles != [("user", "assistant")[i % 2] for i in range(len(roles))]:
            raise UserError(
                f"turns must alternate, user first; found {roles}",
                location=f"conversation {self.id}",
                hint="put the turns in order",
            )

    @cached_property
    def sha256(self) -> str:
        """Hex digest of the turns and pictures, whatever the sample's id."""
        content = [[turn.role, turn.text] for turn in self.turns], [picture.sha256 for picture in self.pictures]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def content_digest(conversations: Iterable[Conversation]) -> str:
    """Hex digest of the content of conversations, in order."""
    return hashlib.sha256("".join(sample.sha256 for sample in conversations).encode()).hexdigest()


@dataclass(frozen=True)
class KnowledgeItem:
    """One piece of new knowledge, as EVOKE's injection file holds it.

    ``group`` is EVOKE's first split ("news" or "entity"), ``type`` the fine-grained type. ``facts`` are (field, value)
    pairs that a deterministic augmentation may use; published EVOKE has none.
    """

    id: str
    name: str
    group: Literal["news", "entity"]
    type: str
    text: str
    picture: Picture
    prompt: str
    """The injection question, e.g. "Can you describe the bird in the image?" (no marker)."""
    facts: tuple[tuple[str, str], ...] = ()
    named: bool = True
    """Whether the data give the name. If not, it was made from the picture's file name: shown, and never trained on."""

    @property
    def given_name(self) -> str:
        """The name that the data give; empty if they give none."""
        return self.name if self.named else ""


@dataclass(frozen=True)
class Question:
    """One evaluation question: one or more user turns; each is answered before the next is asked."""

    id: str
    benchmark: str
    turns: tuple[str, ...]
    pictures: tuple[Picture, ...]
    reference: str
    """The gold answer as its benchmark stores it."""
    group: str = ""
    """Coarse split: news/entity, MME's perception/reasoning, ..."""
    type: str = ""
    """Fine-grained type or category."""
    cluster: str = ""
    """Questions with the same cluster share an image and are not independent."""
    max_new_tokens: int = 128
    repetition_penalty: float | None = None
    """None for the model's own, from its ``generation_config``."""
    table_text: str = ""
    """The question column of the benchmark's table, without options, hint or instruction; empty without a table."""
    template: str = ""
    """The protocol whose text stands around the turns; empty for the model's own chat template."""

    @property
    def open_dialogue(self) -> list[str]:
        """The turns with an empty answer after each but the last, as the length of the whole dialogue is counted."""
        return [text for turn in self.turns for text in (turn, "")][:-1]


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer to one question: one text per turn. ``error`` is set if generation failed.

    ``truncated``: in some turn it used all the new tokens that it may have, and did not end.
    """

    question_id: str
    texts: tuple[str, ...]
    new_tokens: int = 0
    truncated: bool = False
    error: str = ""


@dataclass(frozen=True)
class ItemScore:
    """One question's score: metric name -> value in [0, 1]."""

    question_id: str
    values: Mapping[str, float]
    status: Status = "parsed"


@dataclass(frozen=True)
class Score:
    """One benchmark's score for one cell. All metrics, including the headline, are on 0-100.

    ``headline`` is None if the benchmark could not be scored (no judge). ``notes`` explain marks such as "rule judge".
    """

    benchmark: str
    headline: float | None
    metrics: Mapping[str, float]
    items: tuple[ItemScore, ...]
    judge: str = ""
    notes: tuple[str, ...] = ()
    pending: int = 0
    """Calls to a judge that failed. Such a score is not stored, so the next run asks again."""
