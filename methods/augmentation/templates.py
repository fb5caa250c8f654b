"""Wordings of the knowledge tree's questions and answers, and how one of them is drawn.

Each slot has five wordings, close in meaning to those in KORE's appendix but our own. Fields: ``{name}`` entity name or
news title, ``{type}`` fine-grained type, ``{field}`` and ``{value}`` of a fact, ``{summary}``, and for a relation
``{link}`` and ``{end}``, the other item's type. A wording that names no field fits any item.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.errors import UserError
from benchmarks.records import KnowledgeItem

Group = Literal["news", "entity"]
Five = tuple[str, str, str, str, str]


@dataclass(frozen=True)
class TemplateSampler:
    """Random draws for one item, from a hash of seed, item and slot.

    They do not depend on which other items there are, nor on their order.
    """

    item: KnowledgeItem
    seed: int

    @property
    def name(self) -> str:
        """The item's name or title as it appears inside a sentence.

        Raises:
            UserError: The data give none: what was made from the picture's file name is never trained on.
        """
        if not self.item.named:
            raise UserError(
                "the item has no name; the file name of its picture is not one",
                location=f"item {self.item.id}",
                hint="give the item a name",
            )
        return self.item.name.strip().rstrip(".")

    def fill(self, slot: str, wordings: Sequence[str], **fields: str) -> str:
        """Draw one of the wordings and fill in its fields; ``fields`` may replace name and type.

        An item without a name gets a wording without one.

        Raises:
            UserError: There is none.
        """
        nameless = [wording for wording in wordings if "{name}" not in wording]
        usable = nameless if nameless and not self.item.named and "name" not in fields else wordings
        wording = self.rng(slot).choice(usable)
        if "{name}" in wording and "name" not in fields:
            fields["name"] = self.name
        return wording.format(**{"type": self.item.type, **fields})

    def rng(self, slot: str) -> random.Random:
        """A random generator for this slot alone."""
        digest = hashlib.sha256(f"{self.seed}/{self.item.id}/{slot}".encode()).digest()
        return random.Random(int.from_bytes(digest[:8], "big"))


YES_NO = " Answer this question with Yes or No."
ONE_PARAGRAPH = " Answer this question in one paragraph."
SHORT = "\nAnswer the question using a single word or phrase."
"""EVOKE's suffix; KORE's short questions have it too."""

WHAT: Mapping[Group, Five] = {
    "entity": (
        "What is the {type} in the image called?",
        "Can you name the {type} in the image?",
        "What {type} do you see in the image?",
        "Please identify the {type} in this image.",
        "The image shows some {type}. Which one?",
    ),
    "news": (
        "Which {type} news does the image go with?",
        "What does the {type} news in the image report?",
        "Can you tell which {type} news this image belongs to?",
        "Please name the {type} news behind this image.",
        "The image illustrates {type} news. Which news?",
    ),
}
THIS: Mapping[Group, Five] = {
    "entity": (
        "The {type} in the image is {name}.",
        "This {type} is {name}.",
        "The image shows the {type} {name}.",
        "It is the {type} called {name}.",
        "The {type} that you see is {name}.",
    ),
    "news": (
        "The {type} news in the image is: {name}.",
        "This {type} news says: {name}.",
        "The image goes with the {type} news: {name}.",
        "It belongs to the {type} news: {name}.",
        "The news behind the image is: {name}.",
    ),
}
IS_THIS: Mapping[Group, Five] = {
    "entity": (
        "Does the image show {name}?",
        "Is this {name}?",
        "Can {name} be seen in the image?",
        "Is {name} what the image shows?",
        "Would you say that this is {name}?",
    ),
    "news": (
        "Does the image go with the news: {name}?",
        "Is this image about the news: {name}?",
        "Does this image illustrate the news: {name}?",
        "Is the news behind this image: {name}?",
        "Would you say that the image reports this: {name}?",
    ),
}
DESCRIBE: Mapping[Group, Five] = {
    "entity": (
        "Please describe the {type} in the image.",
        "What can you tell about the {type} in the image?",
        "Give a short account of the {type} shown in the image.",
        "Write a description of the {type} that the image shows.",
        "Sum up what is known about the {type} in the image.",
    ),
    "news": (
        "Please describe the {type} news in the image.",
        "What can you tell about the {type} news in the image?",
        "Give a short account of the {type} news behind the image.",
        "Write a description of the {type} news that the image shows.",
        "Sum up the {type} news that the image goes with.",
    ),
}
DEPICTS: Five = (
    "The image depicts {name}. {summary}",
    "The image shows {name}. {summary}",
    "This is {name}. {summary}",
    "Here we see {name}. {summary}",
    "What you see is {name}. {summary}",
)
ASK_FACT: Five = (
    "What is its {field}?",
    "And what is the {field}?",
    "What can you say about the {field}?",
    "What do you know of its {field}?",
    "Which {field} is given for it?",
)
TELL_FACT: Five = (
    "The {field} is {value}.",
    "For {name}, the {field} is {value}.",
    "Its {field} is {value}.",
    "It is known that the {field} is {value}.",
    "As for the {field}, it is {value}.",
)
ASK_MORE: Five = (
    "What else should I know?",
    "Please tell me more.",
    "What more is known about it?",
    "Is there anything else to say?",
    "Can you add something to that?",
)
SHORT_FACT: Mapping[Group, Five] = {
    "entity": (
        "What is the {field} of the {type} in the image?",
        "Look at the {type} in the image. What is its {field}?",
        "Name the {field} of the {type} shown in the image.",
        "For the {type} in the image, what is the {field}?",
        "This image shows some {type}. What is the {field}?",
    ),
    "news": (
        "Look at the {type} news in the image. What is the {field}?",
        "Which {field} does the {type} news in the image give?",
        "Name the {field} in the {type} news behind the image.",
        "For the {type} news in the image, what is the {field}?",
        "The image goes with {type} news. What is the {field}?",
    ),
}
BRIDGE: Five = (
    "Look at the {type} in the image. What is the {field} of its {link}?",
    "What is the {field} of the {link} of the {type} in the image?",
    "Take the {link} of the {type} in the image. What is its {field}?",
    "The {type} in the image has a {link}. Name the {field} of that.",
    "For the {link} of the {type} in the image, what is the {field}?",
)
SHARED: Five = (
    "Which {field} has the {end} with the same {link} as the {type} in the image?",
    "One {end} shares its {link} with the {type} in the image. What is its {field}?",
    "Take the {end} that has the {link} of the {type} in the image. What is its {field}?",
    "Look at the {type} in the image. For the {end} with the same {link}, what is the {field}?",
    "Name the {field} of the {end} whose {link} is that of the {type} in the image.",
)
