"""Generator, image source and judge by the names that the command line gives them."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.errors import UserError
from benchmarks.records import Picture
from harness.augmenting.growing import Parts
from harness.augmenting.ledger import Budget, DryChat, KeptChat
from harness.store import Store
from methods.augmentation.generators.base import Generator
from methods.augmentation.generators.chat import Chat, ChatGenerator
from methods.augmentation.generators.rule import Rule
from methods.augmentation.grounding import Judge
from methods.augmentation.images.base import ImageSource
from methods.augmentation.images.own import Own

if TYPE_CHECKING:
    import numpy as np

    from harness.augmenting.options import Options
    from methods.augmentation.images.clip import Embedder

EMBEDDINGS, FOUND = "embeddings", "found_pictures"
"""The kinds of entry that image sources leave in the store."""


def open_parts(options: Options, store: Store, budget: Budget) -> tuple[Parts, Parts | None, DryChat | None]:
    """What grows the trees; and the same with a chat model that calls nobody, where a forecast is due.

    Raises:
        UserError: A name is unknown, or something that it needs is missing.
    """
    chat = open_chat(options.generator)
    only_itself = options.images == "own"
    generator: Generator = Rule(options.seed)
    if chat is not None:
        generator = ChatGenerator(KeptChat(chat, store, budget), only_itself)
    parts = Parts(
        kind=options.kind,
        seed=options.seed,
        generator=generator,
        images=open_images(options, store),
        judge=open_judge(options.check, generator),
        negatives=options.negatives,
        relations=options.relations,
    )
    if chat is None:
        return parts, None, None
    dry = DryChat(chat, store)
    cheap = ChatGenerator(dry, only_itself)
    judge = cheap if isinstance(parts.judge, ChatGenerator) else None
    return parts, dataclasses.replace(parts, generator=cheap, judge=judge), dry


def open_chat(name: str) -> Chat | None:
    """``openai:MODEL`` or ``local:FOLDER``; None for ``rule``, which needs none.

    Raises:
        UserError: It is nothing of these.
    """
    kind, _, rest = name.partition(":")
    if name == "rule":
        return None
    if kind == "openai" and rest:
        from methods.augmentation.generators.endpoint import Endpoint

        return Endpoint(rest)
    if kind == "local" and rest:
        from methods.augmentation.generators.local import LocalChat

        return LocalChat(Path(rest))
    raise UserError("no such generator", where=f"--generator {name}", mend="give rule, openai:MODEL or local:FOLDER")


def open_images(options: Options, store: Store) -> ImageSource:
    """``own``, ``folder:FOLDER`` or ``web``; the last two with ``--clip``.

    Raises:
        UserError: It is nothing of these, or there is no CLIP.
    """
    name = options.images
    if name == "own":
        return Own(options.seed)
    kind, _, rest = name.partition(":")
    if name != "web" and (kind != "folder" or not rest):
        raise UserError("no such image source", where=f"--images {name}", mend="give own, folder:FOLDER or web")
    if options.clip is None:
        raise UserError(
            "pictures are chosen by CLIP, and none is given", where=f"--images {name}", mend="add --clip FOLDER"
        )
    from methods.augmentation.images.clip import Clip
    from methods.augmentation.images.searched import FolderSearch, Searched
    from methods.augmentation.images.web import WebSearch

    embedder = KeptEmbedder(Clip(options.clip), store)
    search = WebSearch(_kept(store)) if name == "web" else FolderSearch(Path(rest), embedder)
    return Searched(search, embedder, options.seed, options.alike)


def open_judge(name: str, generator: Generator) -> Judge | None:
    """``text`` (strings and numbers alone), ``generator`` (asks it as a judge) or ``entailment:FOLDER``.

    Raises:
        UserError: It is nothing of these, or the generator is no model.
    """
    kind, _, rest = name.partition(":")
    if name == "text":
        return None
    if name == "generator" and isinstance(generator, ChatGenerator):
        return generator
    if kind == "entailment" and rest:
        from methods.augmentation.entailment import Entailment

        return Entailment(Path(rest))
    raise UserError(
        "no such check", where=f"--check {name}", mend="give text, entailment:FOLDER, or generator if that is a model"
    )


class KeptEmbedder:
    """Embeddings of pictures are computed once. Satisfies ``Embedder``."""

    def __init__(self, embedder: Embedder, store: Store) -> None:
        self._embedder, self._store, self.digest = embedder, store, embedder.digest

    def pictures(self, pictures: Sequence[Picture]) -> np.ndarray:
        """(n, d) float32, each of length 1."""
        import numpy as np

        recipes = [{"clip": self.digest, "picture": picture.sha256} for picture in pictures]
        rows = [self._store.read_json(EMBEDDINGS, recipe) for recipe in recipes]
        missing = [number for number, row in enumerate(rows) if row is None]
        if missing:
            made = self._embedder.pictures([pictures[number] for number in missing])
            for number, vector in zip(missing, made, strict=True):
                rows[number] = self._store.write_json(EMBEDDINGS, recipes[number], [float(each) for each in vector])
        return np.array(rows, dtype=np.float32)

    def words(self, text: str) -> np.ndarray:
        """(d,) float32, of length 1."""
        return self._embedder.words(text)


def _kept(store: Store) -> Callable[[Mapping[str, Any], Callable[[], list[bytes]]], list[bytes]]:
    """Remembers downloads."""

    def kept(key: Mapping[str, Any], download: Callable[[], list[bytes]]) -> list[bytes]:
        found = store.read_json(FOUND, key)
        if found is None:
            found = store.write_json(FOUND, key, [base64.b64encode(each).decode() for each in download()])
        return [base64.b64decode(each) for each in found]

    return kept
