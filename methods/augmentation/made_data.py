"""The training data that are made by rule, by name: what the setting ``data`` may say besides a path.

The registry is open. A file of one's own (``--plugin``) adds data under another name:

    from methods.augmentation.made_data import register

    @register("short", "one sentence for each item")
    def short(knowledge, seed):
        return [...]

Each function imports what it needs when it runs, so that checking a name loads no picture library. It does so by an
import and not by a name in a string, since the cache key of a training covers the code of what is imported.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import UserError
from benchmarks.records import Conversation, KnowledgeItem
from methods.augmentation.tree_shape import BRANCHES, RELATION, ROUNDS

Make = Callable[[Sequence[KnowledgeItem], int], list[Conversation]]
"""Makes the conversations about these items, with a seed for wording and edits."""
OWN = "methods."
"""Start of the names of this package's modules, whose code is part of each training's cache key."""


@dataclass(frozen=True)
class MadeData:
    """Training data that are made by rule.

    Attributes:
        about: What they are, for listings.
        make: Makes them.
        branches: Branches of the knowledge tree without which they are not what they are called.
        identity: The name, with a digest of the file that defines them if it is not part of this package.
    """

    about: str
    make: Make
    branches: tuple[str, ...]
    identity: str


MADE: dict[str, MadeData] = {}
"""By name."""


def register(name: str, about: str, branches: Sequence[str] = ()) -> Callable[[Make], Make]:
    """Register a function that makes training data under a name.

    Args:
        name: As ``--data`` takes it.
        about: What the data are.
        branches: Those of the knowledge tree that must not be empty.
    """
    return lambda make: _add(name, MadeData(about, make, tuple(branches), _identity(name, make)))


def _add(name: str, made: MadeData) -> Make:
    other = MADE.get(name)
    if other is not None and (other.make.__module__, other.about) != (made.make.__module__, made.about):
        raise UserError(
            f"two kinds of training data are named {name!r}", location=made.make.__module__, hint="rename one"
        )
    MADE[name] = made
    return made.make


def _identity(name: str, make: Make) -> str:
    if make.__module__.startswith(OWN):
        return name
    return f"{name}-{hashlib.sha256(Path(inspect.getfile(make)).read_bytes()).hexdigest()[:16]}"


@register("evoke", "the knowledge as published in EVOKE")
def _published(knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
    from methods.augmentation.knowledge_tree import published_conversation

    return [published_conversation(item) for item in knowledge]


@register("kore", "KORE's knowledge tree", BRANCHES)
def _tree(knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
    from methods.augmentation.knowledge_tree import knowledge_tree

    return knowledge_tree(knowledge, seed)


@register("kore-negatives", "the knowledge tree, with recognition questions whose answer is No", BRANCHES)
def _negatives(knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
    from methods.augmentation.knowledge_tree import with_negatives

    return with_negatives(knowledge, seed)


@register("kore-relations", "the knowledge tree, with questions over two items", (*BRANCHES, RELATION))
def _relations(knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
    from methods.augmentation.relations import with_relations

    return with_relations(knowledge, seed)


@register("text-agnostic", "as published, and with words replaced, inserted, swapped, deleted")
def _text_agnostic(knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
    from methods.augmentation.baselines import text_agnostic

    return [conversation for item in knowledge for conversation in text_agnostic(item, seed)]


@register("text-aware", "as published, and in other words")
def _text_aware(knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
    from methods.augmentation.baselines import text_aware
    from methods.augmentation.generators.rule_based import RuleGenerator

    generator = RuleGenerator(seed)
    return [conversation for item in knowledge for conversation in text_aware(item, generator)]


@register("image-agnostic", "as published, and over flipped, cropped, rotated, recoloured, noisy pictures")
def _image_agnostic(knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
    from methods.augmentation.baselines import image_agnostic

    return [conversation for item in knowledge for conversation in image_agnostic(item, seed)]


@register("image-aware", "as published, and over mild edits of the picture, which stand for other pictures of the same")
def _image_aware(knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
    from methods.augmentation.baselines import image_aware
    from methods.augmentation.images.base import OwnImages

    images = OwnImages(seed)
    return [conversation for item in knowledge for conversation in image_aware(item, images)]


@register("question-answer", "a short question for the name and for each fact", ("vqa",))
def _question_answer(knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
    from methods.augmentation.formats import question_answer

    return [conversation for item in knowledge for conversation in question_answer(item, seed)]


@register("numbered-facts", "the facts as a numbered list")
def _numbered_facts(knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
    from methods.augmentation.formats import numbered_facts

    return [numbered_facts(item, seed) for item in knowledge]


def _branches(branches: Sequence[str]) -> Make:
    """Make the knowledge tree with these of its branches."""

    def make(knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
        return [conversation for conversation in _tree(knowledge, seed) if conversation.branch in branches]

    return make


def _rounds(rounds: int) -> Make:
    """Make the knowledge tree with dialogues of at most so many rounds."""

    def make(knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
        from methods.augmentation.knowledge_tree import knowledge_tree

        return knowledge_tree(knowledge, seed, rounds)

    return make


def _with_errors(rate: float, *, checked: bool) -> Make:
    """Make the knowledge tree with this share of its statements wrong."""

    def make(knowledge: Sequence[KnowledgeItem], seed: int) -> list[Conversation]:
        from methods.augmentation.images.base import OwnImages
        from methods.augmentation.invented_errors import InventingGenerator
        from methods.augmentation.knowledge_tree import item_conversations

        generator, images = InventingGenerator(knowledge, seed, rate), OwnImages(seed)
        texts = ((item, generator.write(item, checked=checked)) for item in knowledge)
        return [each for item, written in texts for each in item_conversations(item, seed, written, images)]

    return make


for _branch in BRANCHES:
    _others = tuple(other for other in BRANCHES if other != _branch)
    register(f"kore-{_branch}", f"of the knowledge tree the branch {_branch} alone", (_branch,))(_branches((_branch,)))
    register(f"kore-without-{_branch}", f"the knowledge tree without its branch {_branch}", _others)(_branches(_others))
for _number in range(1, ROUNDS + 1):
    _unit = "round" if _number == 1 else "rounds"
    _about = f"the knowledge tree with dialogues of at most {_number} {_unit}"
    register(f"kore-{_number}-{_unit}", _about, BRANCHES)(_rounds(_number))
for _percent in (5, 10, 20, 40):
    _about = f"the knowledge tree with {_percent} % of its statements about facts made wrong"
    register(f"kore-wrong-{_percent}", _about, BRANCHES)(_with_errors(_percent / 100, checked=False))
    _about += ", without those that the string check finds"
    register(f"kore-wrong-{_percent}-checked", _about, BRANCHES)(_with_errors(_percent / 100, checked=True))
