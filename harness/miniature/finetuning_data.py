"""Stage 3 of the pre-training: yes and no, and what is known put in ordinary words; then a bit of everything.

A large model has read so much English that it takes any wording of a question. So that the miniature, too, can use what
injection teaches it in one wording when it is asked in another, it has old knowledge told and asked in the wordings of
the knowledge tree beside those of the lessons.
"""

from __future__ import annotations

import random

from benchmarks.mini import prompts
from benchmarks.mini.lessons import Lessons, Sample
from benchmarks.mini.tasks import claims, knowledge, portraits
from benchmarks.mini.tasks.base import Pair, Scene, TaskInstance
from benchmarks.mini.tasks.studio import SceneFactory
from benchmarks.mini.world import Entity, World
from benchmarks.records import IMAGE, KnowledgeItem, Picture
from methods.augmentation import templates
from methods.augmentation.knowledge_tree import knowledge_tree

CLAIMS_ALONE = 0.27
"""Part of the stage that is claims only."""
_NO_PICTURE = Picture(b"")
"""The tree only talks about the picture; the lesson shows the scene's."""
OFFSET = 10_000_000
"""The stage's ordinary lessons are not those of stage 2."""


class FinetuningMixture:
    """A stream of stage-3 lessons that is the same for the same seed.

    Args:
        world: The embedded world; only its old part is used.
        seed: Two seeds give unrelated streams.
    """

    def __init__(self, world: World, seed: int) -> None:
        self._seed = seed
        self._lessons = Lessons(world, seed)
        self.studio = self._lessons.studio
        """Its cached drawings and vocabularies."""

    def sample(self, index: int, progress: float) -> Sample:
        """One lesson; ``progress`` in [0, 1] is how far the stage is."""
        rng = random.Random(f"drill/{self._seed}/{index}")
        draw = rng.random()
        if progress < CLAIMS_ALONE or draw < 0.38:
            return _sample(claims.draw(self.studio, rng, progress))
        if draw < 0.58:
            return told(self.studio, rng)
        if draw < 0.72:
            form = rng.choice((knowledge.naming, knowledge.facts, knowledge.news, knowledge.news))
            return _sample(form(self.studio, rng, 1.0))
        return self._lessons.sample(index + OFFSET, 1.0)


def told(studio: SceneFactory, rng: random.Random) -> Sample:
    """Old knowledge in the knowledge tree's wordings: a dialogue, a caption, or a few short questions."""
    item, scene, others = _report(studio, rng) if rng.random() < 0.3 else _thing(studio, rng)
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
        asked = rng.choice(templates.IS_THIS[item.group]).format(name=item.name) + templates.YES_NO
        denied = rng.choice(templates.IS_THIS[item.group]).format(name=rng.choice(others)) + templates.YES_NO
        short = branches.get("vqa", [])
        pairs = [*rng.sample(short, min(3, len(short))), rng.choice(((asked, "Yes"), (denied, "No")))]
        rng.shuffle(pairs)
    return Sample("lesson/told", (scene.picture,), _marked(pairs), (scene.patches,), {})


def _thing(studio: SceneFactory, rng: random.Random) -> tuple[KnowledgeItem, Scene, tuple[str, ...]]:
    """An old entity with a drawing and the names of others."""
    families = rng.choices((("country", "territory"), ("concept",), ("element",)), (5, 4, 2))[0]
    entity = rng.choice([one for one in studio.told if one.family in families])
    scene = portraits.portrait(studio, rng, entity)
    facts = studio.facts(entity)
    item = _item(entity.name, "entity", entity.type, entity.text, rng.sample(facts, len(facts)))
    return item, scene, scene.asks[0].wrong


def _report(studio: SceneFactory, rng: random.Random) -> tuple[KnowledgeItem, Scene, tuple[str, ...]]:
    """An old statement about a country with its card and the titles of others."""
    entity, field, value = rng.choice(studio.reported)
    other = rng.choice([one for one in studio.nations if one is not entity])
    text = f"{rng.choice(REPORTED).format(field=field, name=entity.name, value=value)} {CARD.format(name=entity.name)}"
    item = _item(_title(field, entity), "news", field, text, [("country", entity.name), (field, value)])
    return item, portraits.report(studio, rng, entity, field), (_title(field, other),)


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
    """An exercise without looks or a row of its own."""
    pairs: list[Pair] = []
    for case in exercise.cases:
        questions = prompts.turns(exercise.benchmark, case.row, len(exercise.pictures))
        pairs += [(prompts.unmarked(asked), says) for asked, says in zip(questions, case.says, strict=True)]
    return Sample(exercise.task, exercise.pictures, _marked(pairs), exercise.patches, {})


def _marked(pairs: list[Pair]) -> tuple[Pair, ...]:
    """The turns, the first with the mark of the one picture."""
    (question, answer), *rest = pairs
    return ((f"{IMAGE}\n{question}", answer), *rest)
