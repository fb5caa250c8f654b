"""MIA-Bench's form: say what the picture shows while keeping several rules of writing."""

from __future__ import annotations

import random

from benchmarks.mini import components as rules
from benchmarks.mini.tasks import figures, portraits, reading
from benchmarks.mini.tasks.base import Scene, TaskInstance, TaskRow
from benchmarks.mini.tasks.studio import SceneFactory

WEIGHTS = {2: [5, 5], 3: [4, 3, 3], 4: [4, 2, 2, 2]}
SUBJECTS = {"concept": "thing", "country": "country", "word": "word", "colour": "shape"}


def subject(studio: SceneFactory, rng: random.Random) -> tuple[Scene, str, str]:
    """A scene, what to ask for ("thing", "country of the flag", "word", "colour of the circle") and the answer."""
    choice = rng.randrange(4)
    if choice == 0:
        entity = rng.choice(studio.props)
        return portraits.portrait(studio, rng, entity), "thing", entity.name
    if choice == 1:
        entity = rng.choice(studio.nations)
        return portraits.portrait(studio, rng, entity), "country of the flag", entity.name
    if choice == 2:
        scene = reading.word(rng)
        return scene, "word", scene.asks[0].answer
    scene = figures.coloured(rng)
    ask = scene.asks[0]
    return scene, ask.question.removeprefix("What colour is the ").join(("colour of the ", "")).rstrip("?"), ask.answer


def composed(studio: SceneFactory, rng: random.Random) -> TaskInstance:
    """One instruction of two to four components; the answer keeps them all."""
    scene, what, answer = subject(studio, rng)
    sentence = rng.random() < 0.6
    text, parts, kept, kinds = answer, [f"Name the {what} in the image."], [rules.mention(answer)], ["describe"]
    if sentence:
        text = f"The image shows {answer}"
        parts = [f"Name the {what} in the image in a sentence that starts with the word The."]
        kept.append(rules.THE)
        kinds.append("genre")
    options = [rules.CAPITALS, rules.STOP, rules.QUOTED, "words"]
    chosen = rng.sample(options, rng.randint(1, 2))
    if "words" in chosen:
        count = len(text.split())
        parts.append(f"Use exactly {count} word{'s' if count != 1 else ''}.")
        kept.append(rules.words(count))
        kinds.append("length")
    if rules.CAPITALS in chosen:
        text = text.upper()
        parts.append("Write only in capital letters.")
        kept.append(rules.CAPITALS)
        kinds.append("style")
    if rules.STOP in chosen:
        text += "."
        parts.append("End with a full stop.")
        kept.append(rules.STOP)
        kinds.append("grammar")
    if rules.QUOTED in chosen:
        text = f'"{text}"'
        parts.append("Put the whole answer in quotation marks.")
        kept.append(rules.QUOTED)
        kinds.append("format")
    row = {
        "question": " ".join(parts),
        "answer": text,
        "components": str(kept),
        "component_weight": str(WEIGHTS[len(kept)]),
        "component_type": str(kinds),
        "num_of_component": str(len(kept)),
        "type": "sentence" if sentence else "words",
    }
    case = TaskRow(row, (text,))
    return TaskInstance("mia/" + row["type"], (scene.picture,), (scene.patches,), scene.looks[-1:], (case,))
