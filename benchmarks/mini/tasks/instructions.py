"""mini-MIA-Bench: say what the picture shows while following several writing rules."""

from __future__ import annotations

import random
from dataclasses import replace

from benchmarks.mini import components as rules
from benchmarks.mini.tasks import figures, portraits, reading
from benchmarks.mini.tasks.base import Scene, TaskInstance, TaskRow
from benchmarks.mini.tasks.scene_factory import SceneFactory

WEIGHTS = {2: [5, 5], 3: [4, 3, 3], 4: [4, 2, 2, 2]}
STYLES = {
    rules.CAPITALS: ("style", "Write only in capital letters.", "{}"),
    rules.STOP: ("grammar", "End with a full stop.", "{}."),
    rules.QUOTED: ("format", "Put the whole answer in quotation marks.", '"{}"'),
}
"""Rule -> (component type, instruction, template of the answer)."""


def pick_subject(factory: SceneFactory, rng: random.Random) -> tuple[Scene, str, str]:
    """A scene, what is asked ("thing", "country of the flag", "word", "colour of the circle") and the answer."""
    choice = rng.randrange(4)
    if choice == 0:
        entity = rng.choice(factory.scene_concepts)
        return portraits.portrait(factory, rng, entity), "thing", entity.name
    if choice == 1:
        entity = rng.choice(factory.nations)
        return portraits.portrait(factory, rng, entity), "country of the flag", entity.name
    if choice == 2:
        scene = reading.word(rng)
        return scene, "word", scene.questions[0].answer
    scene = figures.coloured(rng)
    spec = scene.questions[0]
    shape = spec.question.removeprefix("What colour is the ").removesuffix("?")
    return scene, f"colour of the {shape}", spec.answer


def compose(factory: SceneFactory, rng: random.Random) -> TaskInstance:
    """One instruction with two to four components; the answer follows all of them."""
    scene, what, answer = pick_subject(factory, rng)
    sentence = rng.random() < 0.6
    text, parts, components, kinds = answer, [f"Name the {what} in the image."], [rules.mention(answer)], ["describe"]
    if sentence:
        text = f"The image shows {answer}"
        parts = [f"Name the {what} in the image in a sentence that starts with the word The."]
        components.append(rules.THE)
        kinds.append("genre")
    chosen = rng.sample([*STYLES, "words"], rng.randint(1, 2))
    if "words" in chosen:
        count = len(text.split())
        parts.append(f"Use exactly {count} word{'s' if count != 1 else ''}.")
        components.append(rules.words(count))
        kinds.append("length")
    for rule, (kind, part, template) in STYLES.items():
        if rule in chosen:
            text = text.upper() if rule == rules.CAPITALS else template.format(text)
            parts.append(part)
            components.append(rule)
            kinds.append(kind)
    columns = {
        "question": " ".join(parts),
        "answer": text,
        "components": str(components),
        "component_weight": str(WEIGHTS[len(components)]),
        "component_type": str(kinds),
        "num_of_component": str(len(components)),
        "type": "sentence" if sentence else "words",
    }
    instance = TaskInstance.from_scene("mia/" + columns["type"], scene, [TaskRow(columns, (text,))])
    return replace(instance, captions=scene.captions[-1:])
