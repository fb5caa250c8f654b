"""Phrasings of the question for each field: one reserved for evaluation, others for lessons, none in KORE's form."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Phrasing:
    """The questions for one field of one family of entities.

    Every text may contain ``{hypernym}``; those in ``recall`` contain ``{name}`` and need no picture.
    """

    evaluation: str
    """Used in mini-EVOKE about new entities, and in pre-training only about old ones."""
    lessons: tuple[str, ...]
    recall: tuple[str, ...]


def phrasing(family: str, field: str) -> Phrasing:
    """The phrasings of a field ("name" for the name itself).

    Raises:
        KeyError: The field is unknown.
    """
    if field == "name":
        return NAMES[family]
    if field in NEWS:
        return NEWS[field]
    return FACTS[field]


NAMES = {
    "country": Phrasing(
        "Which country flies this flag?",
        ("Whose flag is this?", "This flag belongs to which country?", "Name the country with this flag."),
        (),
    ),
    "territory": Phrasing(
        "Which territory flies this flag?",
        ("Whose flag is this?", "This flag belongs to which territory?", "Name the territory with this flag."),
        (),
    ),
    "concept": Phrasing(
        "Which {hypernym} does the drawing show?",
        ("What is shown here?", "What does one call this?", "Name the {hypernym} you see.", "What is this?"),
        (),
    ),
    "element": Phrasing(
        "Which chemical element does this tile stand for?",
        ("Which element has this symbol?", "Name the element on the tile.", "Whose tile is this?"),
        ("Which element has the symbol {symbol}?",),
    ),
}
"""Family -> the questions for its name; an element's ``recall`` uses ``{symbol}``."""

FACTS = {
    "capital": Phrasing(
        "Which city is the seat of government of the {hypernym} whose flag is shown?",
        ("Name the capital city that goes with this flag.", "This flag flies over which capital?", "Which capital?"),
        ("Which city is the capital of {name}?", "From which city is {name} governed?"),
    ),
    "continent": Phrasing(
        "In which part of the world lies the {hypernym} whose flag is shown?",
        ("On which continent does this flag fly?", "Name the continent for this flag.", "Which continent?"),
        ("On which continent is {name}?", "In which part of the world lies {name}?"),
    ),
    "sovereign state": Phrasing(
        "To which state does the territory with this flag belong?",
        (
            "Which state owns the place with this flag?",
            "Name the state behind this territory.",
            "Which state rules here?",
        ),
        ("To which state does {name} belong?", "Which state rules {name}?"),
    ),
    "currency": Phrasing(
        "What money do people use in the {hypernym} whose flag is shown?",
        (
            "Name the money that goes with this flag.",
            "With what money does one pay under this flag?",
            "Which currency?",
        ),
        ("What money is used in {name}?", "With what does one pay in {name}?"),
    ),
    "demonym": Phrasing(
        "What word describes people from the {hypernym} whose flag is shown?",
        ("Which adjective goes with this flag?", "What are things from here called?", "Which demonym?"),
        ("Which adjective goes with {name}?", "What are things from {name} called?"),
    ),
    "highest point": Phrasing(
        "Which summit rises highest in the {hypernym} whose flag is shown?",
        ("Name the top summit that goes with this flag.", "Where is the ground highest here?", "Which summit?"),
        ("Which summit rises highest in {name}?", "Where is the ground of {name} highest?"),
    ),
    "independence year": Phrasing(
        "When did the {hypernym} whose flag is shown become independent?",
        ("Since which year is the country with this flag independent?", "Freedom came in which year?", "Which year?"),
        ("When did {name} become independent?", "Since which year is {name} independent?"),
    ),
    "national symbol": Phrasing(
        "What stands as an emblem for the {hypernym} whose flag is shown?",
        ("Name the emblem that goes with this flag.", "Which emblem do people use here?", "Which emblem?"),
        ("What is the emblem of {name}?", "Which emblem stands for {name}?"),
    ),
    "coast": Phrasing(
        "Does the {hypernym} whose flag is shown have a sea coast or is it landlocked?",
        ("Sea coast or landlocked?", "Can one sail from here, or is it landlocked?", "Has it a sea coast?"),
        ("Has {name} a sea coast or is it landlocked?", "Can ships land in {name}?"),
    ),
    "population": Phrasing(
        "About how many people live in the {hypernym} whose flag is shown?",
        ("How many people live under this flag?", "Give the number of people here.", "How many people?"),
        ("About how many people live in {name}?", "How many people has {name}?"),
    ),
    "internet code": Phrasing(
        "With which letters do Internet addresses end in the {hypernym} whose flag is shown?",
        ("Which two letters go with this flag?", "Name the Internet ending for this flag.", "Which Internet letters?"),
        ("With which letters do Internet addresses of {name} end?", "Which Internet ending has {name}?"),
    ),
    "symbol": Phrasing(
        "Which letters stand for the element on this tile?",
        ("Read the symbol.", "Which symbol is written here?", "Give the letters on the tile."),
        ("Which letters stand for {name}?", "How is {name} written in a formula?"),
    ),
    "atomic number": Phrasing(
        "How many protons has an atom of the element on this tile?",
        ("Give the number of protons.", "Which atomic number?", "How many protons?"),
        ("How many protons has an atom of {name}?", "Which atomic number has {name}?"),
    ),
    "series": Phrasing(
        "To which group of related elements does the one on this tile belong?",
        ("What sort of element is this?", "Name the series.", "Which series?"),
        ("What sort of element is {name}?", "To which series does {name} belong?"),
    ),
    "period": Phrasing(
        "In which row of the periodic table stands the element on this tile?",
        ("Which row of the table?", "Name the row.", "Which period?"),
        ("In which row of the periodic table is {name}?", "Which period has {name}?"),
    ),
    "discovery year": Phrasing(
        "When was the element on this tile found?",
        ("In which year did people discover it?", "Year of discovery?", "Found in which year?"),
        ("When was {name} discovered?", "In which year was {name} found?"),
    ),
    "kind": Phrasing(
        "What sort of thing does the drawing show?",
        ("To which kind does this belong?", "What kind is it?", "Which kind?"),
        ("What sort of thing is {name}?", "To which kind does {name} belong?"),
    ),
    "diet": Phrasing(
        "On what does the animal in the drawing feed?",
        ("What does it eat?", "Name its food.", "What is its food?"),
        ("What does the {name} eat?", "On what does the {name} feed?"),
    ),
    "home": Phrasing(
        "Where does one find the animal in the drawing?",
        ("Where does it live?", "Name the place where it lives.", "Which place does it live in?"),
        ("Where does the {name} live?", "Where does one find the {name}?"),
    ),
    "place of growth": Phrasing(
        "Where does the thing in the drawing grow?",
        ("How does it grow?", "Name where it grows.", "It grows where?"),
        ("Where does {name} grow?", "How does {name} grow?"),
    ),
    "taste": Phrasing(
        "How does the thing in the drawing taste?",
        ("Name its taste.", "Sweet or sour?", "Which taste?"),
        ("How does {name} taste?", "Which taste has {name}?"),
    ),
    "material": Phrasing(
        "From what is the thing in the drawing made?",
        ("What is it made of?", "What does it consist of?", "Name what is in it."),
        ("What is {name} made of?", "From what does one make {name}?"),
    ),
    "use": Phrasing(
        "What do people do with the thing in the drawing?",
        ("What is it for?", "For what does one use it?", "Name its use."),
        ("What is a {name} for?", "For what does one use a {name}?"),
    ),
    "route": Phrasing(
        "On or through what does the vehicle in the drawing move?",
        ("Where does it travel?", "On what does it move?", "Name its way."),
        ("Where does a {name} travel?", "On what does a {name} move?"),
    ),
    "body part": Phrasing(
        "On which part of the body does one wear the thing in the drawing?",
        ("Where is it worn?", "Which part of the body is it for?", "Worn where?"),
        ("Where does one wear {name}?", "On which part of the body is {name} worn?"),
    ),
    "way of playing": Phrasing(
        "By what action does one make the instrument in the drawing sound?",
        ("How is it played?", "How does one play it?", "Name how it is played."),
        ("How does one play the {name}?", "How is the {name} played?"),
    ),
}

NEWS = {
    "head of state": Phrasing(
        "By what name is the head of state known in the country whose flag is shown?",
        ("Who is head of state under this flag?", "Name the head of state here.", "Head of state?"),
        ("Who is head of state of {name}?", "Name the head of state of {name}."),
    ),
    "head of government": Phrasing(
        "By what name is the head of government known in the country whose flag is shown?",
        ("Who leads the government under this flag?", "Name the head of government here.", "Head of government?"),
        ("Who is head of government of {name}?", "Who leads the government of {name}?"),
    ),
    "export partner": Phrasing(
        "Which place buys most from the country whose flag is shown?",
        ("Who buys most of what this country sells?", "Name the top buyer here.", "Top buyer?"),
        ("Who buys most from {name}?", "Where do most exports of {name} go?"),
    ),
    "export commodity": Phrasing(
        "Which goods earn most abroad for the country whose flag is shown?",
        ("What does this country sell most?", "Name the top export here.", "Top export?"),
        ("What does {name} sell most?", "Which goods are the top export of {name}?"),
    ),
    "import partner": Phrasing(
        "Which place sells most to the country whose flag is shown?",
        ("From where does this country buy most?", "Name the top seller here.", "Top seller?"),
        ("Who sells most to {name}?", "From where does {name} buy most?"),
    ),
    "import commodity": Phrasing(
        "Which goods does the country whose flag is shown buy most from abroad?",
        ("What does this country buy most?", "Name the top import here.", "Top import?"),
        ("What does {name} buy most?", "Which goods are the top import of {name}?"),
    ),
}
"""Fields of dated statements: old facts for some countries, news for others."""
