"""Articles about invented things: the sentences of real articles, in varying order and with a second wording."""

from __future__ import annotations

import random
from collections.abc import Sequence

Facts = Sequence[tuple[str, str]]
PLACE = {
    "capital": ("The capital is {}.", "Its capital is {}."),
    "continent": ("", ""),
    "sovereign state": ("", ""),
    "currency": ("People pay with the {}.", "The currency is the {}."),
    "demonym": ("Things from there are called {}.", "The adjective is {}."),
    "highest point": ("Its highest point is {}.", "No ground is higher than {}."),
    "independence year": ("Its independence dates from {}.", "It became independent in {}."),
    "national symbol": ("Its national symbol is a {}.", "The emblem is a {}."),
    "coast": ("It {}.", "The country {}."),
    "population": ("About {} people live there.", "It has about {} people."),
    "internet code": ("Its Internet code is {}.", "Internet addresses end in {}."),
}
"""Field -> sentences; the first is that of the real articles. Continent and owner are in the opening sentence."""
THING = {
    "diet": ("What it eats: {}.", "It eats {}."),
    "home": ("Where it lives: {}.", "It lives in {}."),
    "place of growth": ("Where it grows: {}.", "It grows {}."),
    "taste": ("How it tastes: {}.", "It tastes {}."),
    "material": ("What it is made of: {}.", "It is made of {}."),
    "use": ("What it is for: {}.", "Its use is {}."),
    "route": ("Where it travels: {}.", "It travels on {}."),
    "body part": ("Where it is worn: {}.", "It is worn on the {}."),
    "way of playing": ("How it is played: by {}.", "One plays it by {}."),
}
LEADER = (
    "The World Factbook names {title} {first} {value} as {field} of {country} and dates the term in office from {year}."
)
TRADE = {
    "export partner": "In {year} no other place bought more of the exports of {country} than {value}.",
    "export commodity": "Measured in dollars, the largest export of {country} in {year} was {value}.",
    "import partner": "In {year} no other place sold more goods to {country} than {value}.",
    "import commodity": "Measured in dollars, the largest import of {country} in {year} was {value}.",
}
CARD = "The card shows the flag of {country} and a small sign that stands for this kind of news."
TITLES = {"head of state": ("President", "King", "Emir"), "head of government": ("Prime Minister", "Chancellor")}
OTHER_WORDING = 0.25
"""Share of sentences in the second wording."""


def capitalise(name: str) -> str:
    """A name with a capital first letter."""
    return name[:1].upper() + name[1:]


def place(name: str, family: str, facts: Facts, rng: random.Random) -> str:
    """The article about a country or territory."""
    known = dict(facts)
    owner = f" under the sovereignty of {known['sovereign state']}" if "sovereign state" in known else ""
    opening = f"{name} is the name of a {family} in {known['continent']}{owner}."
    sentences = []
    for field, value in facts:
        if field == "coast":
            value = "is landlocked" if value == "landlocked" else "has a sea coast"
        sentences.append(_wording(PLACE[field], rng).format(value))
    if rng.random() < 0.5:
        rng.shuffle(sentences)
    return " ".join([opening, *filter(None, sentences)])


def thing(name: str, hypernym: str, facts: Facts, gloss: str, rng: random.Random) -> str:
    """The article about a thing with a drawing."""
    known = dict(facts)
    sentences = [f"The {name} is a kind of {known['kind']}."]
    sentences += [_wording(THING[field], rng).format(value) for field, value in facts if field in THING]
    if gloss:
        sentences.append(f"A dictionary defines the word {name} like this: {gloss}.")
    else:
        sentences.append(f"The English word for it is {name}.")
    sentences.append(f"The drawing shows the {hypernym} that people call {name}.")
    return " ".join(sentences)


def news(country: str, field: str, value: str, year: str, first_name: str, rng: random.Random) -> str:
    """The article about a dated statement."""
    if field in TITLES:
        title = rng.choice(TITLES[field])
        opening = LEADER.format(title=title, first=first_name, value=value, field=field, country=country, year=year)
        closing = f"The {field} is known by the name {value}."
    else:
        opening = TRADE[field].format(country=country, value=value, year=year)
        closing = f"So the main {field} was {value}."
    return f"{opening} {closing} {CARD.format(country=country)}"


def _wording(ways: tuple[str, str], rng: random.Random) -> str:
    return ways[1] if rng.random() < OTHER_WORDING else ways[0]
