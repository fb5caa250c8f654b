"""Pictures in the messages of a chat model: named by content where they are stored, sent as data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.records import IMAGE, Picture
from methods.augmentation.generators.chat import Chat, Completion, Message

NAMED = "sha256:"
"""How the address of a picture begins in a message that is stored, so that the store holds no second copy of it."""
FORMATS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif"}
"""What endpoints accept besides WebP, by how the bytes begin; other pictures are sent as PNG."""


class PictureChat:
    """Sends the pictures that messages name by their content. Satisfies ``Chat``.

    Args:
        chat: The model.
        pictures: Each picture by its SHA-256.
    """

    def __init__(self, chat: Chat, pictures: Mapping[str, Picture]) -> None:
        self.identity, self._chat, self._pictures = chat.identity, chat, pictures

    def complete(self, messages: Sequence[Message], schema: Mapping[str, Any], max_tokens: int) -> Completion:
        """The reply."""
        return self._chat.complete([self._with_pictures(message) for message in messages], schema, max_tokens)

    def _with_pictures(self, message: Message) -> Message:
        content = message["content"]
        if isinstance(content, str):
            return message
        return {**message, "content": [self._part(part) for part in content]}

    def _part(self, part: Mapping[str, Any]) -> Mapping[str, Any]:
        if part["type"] != "image_url":
            return part
        picture = self._pictures[part["image_url"]["url"].removeprefix(NAMED)]
        return {"type": "image_url", "image_url": {"url": data_uri(picture)}}


def turn_content(text: str, pictures: Iterator[Picture]) -> str | list[dict[str, Any]]:
    """A user turn as the content of a message: its text, or texts and pictures in their order.

    Args:
        text: With ``<image>`` at the place of each picture.
        pictures: Those of the question that were not shown yet; those of this turn are taken.
    """
    first, *others = text.split(IMAGE)
    if not others:
        return text
    parts = list(_text_part(first))
    for piece in others:
        parts.append({"type": "image_url", "image_url": {"url": f"{NAMED}{next(pictures).sha256}"}})
        parts += _text_part(piece)
    return parts


def _text_part(text: str) -> Iterable[dict[str, Any]]:
    """A part for a text between pictures; none for white space, which some endpoints refuse."""
    return [{"type": "text", "text": text.strip()}] if text.strip() else []


def data_uri(picture: Picture) -> str:
    """A picture as its file's bytes, or as PNG if endpoints do not accept its format."""
    encoded = picture.encoded
    kind = next((kind for start, kind in FORMATS.items() if encoded.startswith(start)), "")
    if not kind and encoded[:4] == b"RIFF" and encoded[8:12] == b"WEBP":
        kind = "webp"
    if not kind:
        buffer = io.BytesIO()
        picture.pixels().save(buffer, "PNG")
        kind, encoded = "png", buffer.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode('ascii')}"
