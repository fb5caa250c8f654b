"""Concepts with an emoji: facts from a manually checked table, definitions from WordNet."""

from __future__ import annotations

import json
from pathlib import Path

from tools.miniature.drawings import ICON_SETS, IconSet, encode, render
from tools.miniature.wordnet import WordNet
from tools.miniature.words import Pngs, Row, sentence, slug

TABLE = Path(__file__).with_name("concepts.tsv")
PHRASES = {
    "diet": "what it eats: {}",
    "home": "where it lives: {}",
    "place of growth": "where it grows: {}",
    "taste": "how it tastes: {}",
    "material": "what it is made of: {}",
    "use": "what it is for: {}",
    "route": "where it travels: {}",
    "body part": "where it is worn: {}",
    "way of playing": "how it is played: by {}",
}
PLURALS = {
    "ballet shoes", "blueberries", "bowling pins", "cherries", "chopsticks", "fries", "glasses", "gloves", "goggles",
    "grapes", "headphones", "jeans", "maracas", "nesting dolls", "pancakes", "peanuts", "scales", "scissors", "shorts",
    "skis", "socks", "sunglasses",
}  # fmt: skip
WRONG_SENSE = {
    "peacock", "dolphin", "jellyfish", "hedgehog", "deer", "rose", "chili", "coconut", "spaghetti", "chocolate",
    "lollipop", "hut", "bank", "castle", "cloud", "fire", "tram", "scooter", "rickshaw", "crown", "hammer", "bow",
    "cow", "needle", "set square", "hourglass", "abacus", "pill", "gem", "ring", "joystick", "balloon", "newspaper",
    "shield",
    "toilet", "cigarette", "bell pepper", "sun", "ox", "bell", "fries", "ferry", "fried egg", "candy", "badminton",
}  # fmt: skip
"""Found by reading: WordNet defines something other than the drawings show, or nothing useful."""


def build_concepts(folders: dict[str, Path]) -> tuple[list[Row], Pngs]:
    """All concepts with drawings in at least three styles, and their PNGs."""
    emoji = json.loads((folders["emojibase"] / "en" / "data.json").read_text("utf-8"))
    codes = {entry["label"]: entry["hexcode"] for entry in emoji}
    sets = {style: IconSet(folders[key]) for style, key in ICON_SETS.items()}
    wordnet = WordNet(folders["wordnet"])
    rows: list[Row] = []
    pngs: Pngs = {}
    for line in TABLE.read_text("utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        label, name, kind_of, hypernym, facts, *wrong = line.split("\t")
        if label not in codes:
            continue
        svgs = {style: icons.by_code(codes[label], label) for style, icons in sets.items()}
        styles = [style for style, svg in svgs.items() if svg and style not in " ".join(wrong).split()]
        if len(styles) < 3:
            continue
        row = _row(name, kind_of, hypernym, facts, wordnet)
        row["styles"] = styles
        rows.append(row)
        for style in styles:
            pngs[row["id"], style] = encode(render(str(svgs[style])))
    return rows, pngs


def _row(name: str, kind_of: str, hypernym: str, facts: str, wordnet: WordNet) -> Row:
    pairs = [[part.strip() for part in fact.split("=")] for fact in facts.split(";")]
    kind = next(value for field, value in pairs if field == "kind")
    subject = f"the {name} {'are' if name in PLURALS else 'is'}"
    first = sentence(f"{subject} a kind of {kind}")
    rest = [sentence(PHRASES[field].format(value)) for field, value in pairs if field in PHRASES]
    gloss = None if name in WRONG_SENSE else wordnet.gloss(name, kind_of)
    definition = (
        f"A dictionary defines the word {name} like this: {gloss}." if gloss else f"The English word for it is {name}."
    )
    drawing = f"The drawing shows the {hypernym} that people call {name}."
    return {
        "id": f"concept/{slug(name)}",
        "name": name,
        "family": "concept",
        "type": kind_of,
        "hypernym": hypernym,
        "facts": pairs,
        "text": " ".join([first, *rest, definition, drawing]),
    }
