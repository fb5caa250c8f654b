"""The questions of mini-EVOKE in other words, for editing's generality. No training data has these wordings.

Pre-training asks in the wordings of ``phrasings``, the augmentations in those of ``methods.augmentation.templates``; a
test compares them with these.
"""

from __future__ import annotations

from collections.abc import Mapping

REPHRASED: Mapping[str, str] = {
    "capital": "The {hypernym} with this flag is governed from which city?",
    "highest point": "In the {hypernym} with this flag, what is the summit that no other place is higher than?",
    "name/concept": "Tell the name of the {hypernym} in this drawing.",
    "name/element": "This tile stands for which of the chemical elements?",
    "head of state": "The country whose flag is here has a head of state. By what name is this person known?",
    "head of government": "The country whose flag is here has a head of government. By what name is this person known?",
    "export partner": "The country whose flag is here sells most of its goods to which place?",
    "export commodity": "The country whose flag is here sells goods abroad. Which of them earn most?",
    "import partner": "The country whose flag is here gets most of its goods from which place?",
    "import commodity": "Of the goods from abroad, which does the country whose flag is here buy most?",
}
"""Field -> the question; for the name itself with the family. ``{hypernym}`` is the entity's."""


def rephrase(family: str, field: str, hypernym: str) -> str:
    """The question for a field in other words.

    Raises:
        KeyError: The field is not one that mini-EVOKE asks for.
    """
    return REPHRASED[f"{field}/{family}" if field == "name" else field].format(hypernym=hypernym)
