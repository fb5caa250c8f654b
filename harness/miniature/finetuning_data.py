"""Stage 3 of the pre-training: yes/no claims, then also old knowledge in many wordings and samples of stage 2.

A large model has read so much English that it understands any wording of a question. The miniature learns old knowledge
in the wordings of the knowledge tree as well as those of stage 2, so that it can answer a question in one wording about
knowledge that was injected in another.
"""

from __future__ import annotations

import random

from benchmarks.mini import prompts
from benchmarks.mini.lessons import Lessons, Sample
from benchmarks.mini.tasks import claims, knowledge, portraits
from benchmarks.mini.tasks.base import Pair, Scene, TaskInstance
from benchmarks.mini.tasks.scene_factory import SceneFactory
from benchmarks.mini.world import Entity, World
from benchmarks.records import IMAGE, KnowledgeItem, Picture
from methods.augmentation import templates
from methods.augmentation.knowledge_tree import knowledge_tree

CLAIMS_ONLY = 0.27
"""Share of the stage that consists of claims only."""
_NO_PICTURE = Picture(b"")
"""The tree only refers to the picture; the sample shows the scene's."""
OFFSET = 10_000_000
"""Added to an index, so that the samples are not those of stage 2."""


class FinetuningMixture:
    """A stream of stage-3 samples that is the same for the same seed.

    Args:
        world: The embedded world; only its old part is used.
        seed: Different seeds give unrelated streams.
    """

    def __init__(self, world: World, seed: int) -> None:
        self._seed = seed
        self._lessons = Lessons(world, seed)
        self.factory = self._lessons.factory
        """Its cached drawings and vocabularies."""

    def sample(self, index: int, progress: float) -> Sample:
        """One sample; ``progress`` in [0, 1] is the finished share of the stage."""
        rng = random.Random(f"drill/{self._seed}/{index}")
        draw = rng.random()
        if progress < CLAIMS_ONLY or draw < 0.38:
            return _sample(claims.sample_claim(self.factory, rng, progress))
        if draw < 0.58:
            return knowledge_sample(self.factory, rng)
        if draw < 0.72:
            form = rng.choice((knowledge.naming, knowledge.facts, knowledge.news, knowledge.news))
            return _sample(form(self.factory, rng, 1.0))
        return self._lessons.sample(index + OFFSET, 1.0)


def knowledge_sample(factory: SceneFactory, rng: random.Random) -> Sample:
    """Old knowledge in the knowledge tree's wordings: a dialogue, a caption, or a few short questions."""
    item, scene, others = _news_item(factory, rng) if rng.random() < 0.3 else _entity_item(factory, rng)
    branches: dict[str, list[Pair]] = {}
    for conversation in knowledge_tree([item], rng.randrange(2**32)):
        texts = [turn.text.replace(f"{IMAGE}\n", "") for turn in conversation.turns]
        branches.setdefault(conversation.branch, []).extend(zip(texts[::2], texts[1::2], strict=True))
    draw = rng.random()
    if draw < 0.25:
        pairs = branches["dialogue"]
    elif draw < 0.4:
        pairs = branches["caption"]
    else:
        true_claim = rng.choice(templates.IS_THIS[item.group]).format(name=item.name) + templates.YES_NO
        false_claim = rng.choice(templates.IS_THIS[item.group]).format(name=rng.choice(others)) + templates.YES_NO
        short = branches.get("vqa", [])
        pairs = [*rng.sample(short, min(3, len(short))), rng.choice(((true_claim, "Yes"), (false_claim, "No")))]
        rng.shuffle(pairs)
    return Sample("lesson/told", (scene.picture,), _with_marker(pairs), (scene.patches,), {})


def _entity_item(factory: SceneFactory, rng: random.Random) -> tuple[KnowledgeItem, Scene, tuple[str, ...]]:
    """An old entity, a scene with its drawing, and names of other entities."""
    families = rng.choices((("country", "territory"), ("concept",), ("element",)), (5, 4, 2))[0]
    entity = rng.choice([one for one in factory.described if one.family in families])
    scene = portraits.portrait(factory, rng, entity)
    facts = factory.old_facts(entity)
    item = _item(entity.name, "entity", entity.type, entity.text, rng.sample(facts, len(facts)))
    return item, scene, scene.questions[0].distractors


def _news_item(factory: SceneFactory, rng: random.Random) -> tuple[KnowledgeItem, Scene, tuple[str, ...]]:
    """An old statement about a country, a scene with its card, and the title of another."""
    entity, field, value = rng.choice(factory.old_statements)
    other = rng.choice([one for one in factory.nations if one is not entity])
    text = f"{rng.choice(REPORTED).format(field=field, name=entity.name, value=value)} {CARD.format(name=entity.name)}"
    item = _item(_title(field, entity), "news", field, text, [("country", entity.name), (field, value)])
    return item, portraits.statement_card(factory, rng, entity, field), (_title(field, other),)


REPORTED = (
    "The {field} of {name} is {value}.",
    "As for the {field} of {name}, it is {value}.",
    "{name} has this {field}: {value}.",
)
CARD = "The card shows the flag of {name} and a small sign that stands for this kind of news."


def _title(field: str, entity: Entity) -> str:
    return f"{field.capitalize() if field.startswith('head') else f'Main {field}'} of {entity.name}"


def _item(name: str, group: str, kind: str, text: str, facts: list[tuple[str, str]]) -> KnowledgeItem:
    return KnowledgeItem(name, name, group, kind, text, _NO_PICTURE, "", tuple(facts))  # type: ignore[arg-type]


def _sample(exercise: TaskInstance) -> Sample:
    """A task instance as a training sample, without captions and its row."""
    pairs: list[Pair] = []
    for case in exercise.rows:
        questions = prompts.user_turns(exercise.benchmark, case.columns, len(exercise.pictures))
        pairs += [(prompts.strip_markers(asked), says) for asked, says in zip(questions, case.answers, strict=True)]
    return Sample(exercise.task, exercise.pictures, _with_marker(pairs), exercise.patches, {})


def _with_marker(pairs: list[Pair]) -> tuple[Pair, ...]:
    """The turns, the first with the picture's marker."""
    (question, answer), *rest = pairs
    return ((f"{IMAGE}\n{question}", answer), *rest)
