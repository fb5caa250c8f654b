"""Generator, image source and judge by the names that the command line gives them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import UserError
from harness.augment.builder import Components
from harness.augment.forecast import DryRunChat
from harness.llm.budget import Budget
from harness.llm.cache import CachedChat, CachedDownloads, CachedEmbedder
from harness.storage.store import Store
from methods.augmentation.generators.base import Generator
from methods.augmentation.generators.chat import Chat, ChatGenerator
from methods.augmentation.generators.rule_based import RuleGenerator
from methods.augmentation.grounding import SupportChecker
from methods.augmentation.images.base import ImageSource
from methods.augmentation.images.own_picture import OwnImages

if TYPE_CHECKING:
    from harness.augment.options import Options


def open_parts(
    options: Options, store: Store, budget: Budget
) -> tuple[Components, Components | None, DryRunChat | None]:
    """What grows the trees; and the same with a chat model that calls nobody, where a forecast is due.

    Raises:
        UserError: A name is unknown, or something that it needs is missing.
    """
    chat = open_chat(options.generator)
    only_itself = options.images == "own"
    generator: Generator = RuleGenerator(options.seed)
    if chat is not None:
        generator = ChatGenerator(CachedChat(chat, store, budget), only_itself)
    parts = Components(
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
    dry = DryRunChat(chat, store)
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
        from methods.augmentation.generators.openai_endpoint import Endpoint

        return Endpoint(rest)
    if kind == "local" and rest:
        from methods.augmentation.generators.hf_local import LocalChat

        return LocalChat(Path(rest))
    raise UserError("no such generator", location=f"--generator {name}", hint="give rule, openai:MODEL or local:FOLDER")


def open_images(options: Options, store: Store) -> ImageSource:
    """``own``, ``folder:FOLDER`` or ``web``; the last two with ``--clip``.

    Raises:
        UserError: It is nothing of these, or there is no CLIP.
    """
    name = options.images
    if name == "own":
        return OwnImages(options.seed)
    kind, _, rest = name.partition(":")
    if name != "web" and (kind != "folder" or not rest):
        raise UserError("no such image source", location=f"--images {name}", hint="give own, folder:FOLDER or web")
    if options.clip is None:
        raise UserError(
            "pictures are chosen by CLIP, and none is given", location=f"--images {name}", hint="add --clip FOLDER"
        )
    from methods.augmentation.images.clip import Clip
    from methods.augmentation.images.search import FolderSearch, ImageSearch
    from methods.augmentation.images.web_search import WebSearch

    embedder = CachedEmbedder(Clip(options.clip), store)
    search = WebSearch(CachedDownloads(store)) if name == "web" else FolderSearch(Path(rest), embedder)
    return ImageSearch(search, embedder, options.seed, options.alike)


def open_judge(name: str, generator: Generator) -> SupportChecker | None:
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
        "no such check",
        location=f"--check {name}",
        hint="give text, entailment:FOLDER, or generator if that is a model",
    )
