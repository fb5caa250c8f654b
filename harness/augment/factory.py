"""Build the generator, image source and support checker that the command line names."""

from __future__ import annotations

from pathlib import Path

from benchmarks.errors import UserError
from harness.augment.builder import Components
from harness.augment.image_cache import CachedDownloads, CachedEmbedder
from harness.augment.options import Options
from harness.llm.budget import Budget
from harness.llm.cache import CachedChat
from harness.storage.store import Store
from methods.augmentation.generators.base import Generator
from methods.augmentation.generators.chat import ChatGenerator
from methods.augmentation.generators.rule_based import RuleGenerator
from methods.augmentation.grounding import SupportChecker
from methods.augmentation.images.base import ImageSource, OwnImages


def build_components(options: Options, store: Store, budget: Budget) -> Components:
    """Everything that conversations are made with.

    Raises:
        UserError: A name is unknown, or something that it needs is missing.
    """
    generator = build_generator(options, store, budget)
    return Components(
        kind=options.kind,
        seed=options.seed,
        generator=generator,
        images=build_images(options, store),
        checker=build_checker(options.check, generator),
        negatives=options.negatives,
        relations=options.relations,
    )


def build_generator(options: Options, store: Store, budget: Budget) -> Generator:
    """``rule``, ``openai:MODEL`` or ``local:FOLDER``; the replies of models are cached.

    Raises:
        UserError: There is no such generator.
    """
    kind, _, model = options.generator.partition(":")
    only_itself = options.images == "own"
    if options.generator == "rule":
        return RuleGenerator(options.seed)
    if kind == "openai" and model:
        from methods.augmentation.generators.openai_endpoint import Endpoint

        return ChatGenerator(CachedChat(Endpoint(model), store, budget), only_itself)
    if kind == "local" and model:
        from methods.augmentation.generators.hf_local import LocalChat

        return ChatGenerator(CachedChat(LocalChat(Path(model)), store, budget), only_itself)
    hint = "give rule, openai:MODEL or local:FOLDER"
    raise UserError("no such generator", location=f"--generator {options.generator}", hint=hint)


def build_images(options: Options, store: Store) -> ImageSource:
    """``own``, ``folder:FOLDER`` or ``web``; the last two need ``--clip``.

    Raises:
        UserError: There is no such image source, or no CLIP.
    """
    location = f"--images {options.images}"
    if options.images == "own":
        return OwnImages(options.seed)
    kind, _, folder = options.images.partition(":")
    if options.images != "web" and (kind != "folder" or not folder):
        raise UserError("no such image source", location=location, hint="give own, folder:FOLDER or web")
    if options.clip is None:
        raise UserError("pictures are chosen by CLIP, and none is given", location=location, hint="add --clip FOLDER")
    from methods.augmentation.images.clip import Clip
    from methods.augmentation.images.search import FolderSearch, ImageSearch
    from methods.augmentation.images.web_search import WebSearch

    embedder = CachedEmbedder(Clip(options.clip), store)
    search = WebSearch(CachedDownloads(store)) if options.images == "web" else FolderSearch(Path(folder), embedder)
    return ImageSearch(search, embedder, options.seed, options.alike)


def build_checker(name: str, generator: Generator) -> SupportChecker | None:
    """``text`` (strings and numbers only: None), ``generator`` (asked as a judge) or ``entailment:FOLDER``.

    Raises:
        UserError: There is no such check, or the generator is not a model.
    """
    kind, _, folder = name.partition(":")
    if name == "text":
        return None
    if name == "generator" and isinstance(generator, ChatGenerator):
        return generator
    if kind == "entailment" and folder:
        from methods.augmentation.grounding import EntailmentChecker

        return EntailmentChecker(Path(folder))
    hint = "give text, entailment:FOLDER, or generator if that is a model"
    raise UserError("no such check", location=f"--check {name}", hint=hint)
