"""Countries and territories: cleaned facts and three drawings of each flag."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tools.miniature.drawings import IconSet, encode, render
from tools.miniature.factbook import Entry, entries
from tools.miniature.words import Pngs, Row, article, sentence, slug

CAPITALS = {
    "bj": "Porto-Novo", "bi": "Gitega", "ci": "Yamoussoukro", "za": "Pretoria", "bo": "Sucre", "sz": "Mbabane",
    "gq": "Malabo", "cl": "Santiago", "us": "Washington", "mm": "Naypyidaw", "md": "Chisinau", "ua": "Kyiv",
    "cc": "West Island", "cx": "Flying Fish Cove", "sm": "San Marino",
}  # fmt: skip
"""The constitutional or usual capital, if the Factbook gives several or a remark."""
CONTINENTS = {"aw": "North America", "cw": "North America", "tt": "North America", "cc": "Oceania", "cx": "Oceania"}
"""Corrections: flag-icons uses the nearest mainland's continent, unlike the Factbook."""
NO_CONTINENT = {"cy", "ru", "io", "tf"}
"""On two continents, counted with either, or on none."""
DEMONYMS = {"kr": "South Korean", "kp": "North Korean", "ph": "Filipino", "tw": "Taiwanese", "bw": "Botswanan"}
NO_DEMONYM = {"mp", "mo", "pm", "gg", "je", "li", "lu", "nz", "sg", "gi", "cx", "fk", "ls", "ki"}
"""Not given, equal to the country's name, or shared with another place."""
NO_SOVEREIGN = {"im", "gg", "je", "ck", "nu"}
"""Crown dependencies and states in free association, which do not simply belong to another state."""
LOOK_ALIKE = {"td", "mc"}
"""Left out: flags that look like Romania's and Indonesia's at this size."""
WRONG_FLAGS = {"ar/circle", "ie/circle", "la/circle", "io/circle", "bl/rectangle", "pm/rectangle", "sh/rectangle"}
"""Wrong on the contact sheets: a language's flag under the same letters, or the parent state's flag."""
NO_CAPITAL = {"nr", "io", "il", "lk", "hk", "mo", "tk", "va", "sg", "mc", "gi", "dj", "sm", "lu"}
"""None, disputed, or named like the country."""
SOVEREIGNS = {
    r"\bUK\b|British": "United Kingdom",
    r"France": "France",
    r"the US\b": "United States",
    r"Netherlands": "Netherlands",
    r"Denmark": "Denmark",
    r"Norway": "Norway",
    r"Australia": "Australia",
    r"New Zealand": "New Zealand",
    r"China": "China",
}
CURRENCIES = {
    "dinars": "dinar", "dollars": "dollar", "francs": "franc", "pounds": "pound", "pesos": "peso", "rupees": "rupee",
    "shillings": "shilling", "euros": "euro", "euro": "euro", "kwanza": "kwanza", "pulas": "pula", "escudos": "escudo",
    "nakfa": "nakfa", "birr": "birr", "dalasis": "dalasi", "cedis": "cedi", "maloti": "loti", "ariary": "ariary",
    "kwachas": "kwacha", "kwacha": "kwacha", "dirhams": "dirham", "ouguiyas": "ouguiya", "meticais": "metical",
    "nairas": "naira", "rand": "rand", "leones": "leone", "dobras": "dobra", "emalangeni": "lilangeni", "vatu": "vatu",
    "pa'anga": "paanga", "tala": "tala", "colones": "colon", "quetzales": "quetzal", "gourdes": "gourde",
    "lempiras": "lempira", "cordobas": "cordoba", "balboas": "balboa", "soms": "som", "tenge": "tenge",
    "rubles": "ruble",
    "somoni": "somoni", "manat": "manat", "manats": "manat", "soum": "sum", "kyats": "kyat", "riels": "riel",
    "yuan": "yuan", "rupiah": "rupiah", "yen": "yen", "won": "won", "kips": "kip", "patacas": "pataca",
    "ringgits": "ringgit", "kina": "kina", "baht": "baht", "dong": "dong", "leke": "lek", "markas": "mark",
    "kroner": "krone", "koruny": "koruna", "forints": "forint", "kronur": "krona", "lei": "leu", "denars": "denar",
    "zlotych": "zloty", "kronor": "krona", "hryvnia": "hryvnia", "drams": "dram", "laris": "lari", "rials": "rial",
    "shekels": "shekel", "riyals": "riyal", "liras": "lira", "reals": "real", "bolivianos": "boliviano",
    "guarani": "guarani", "bolivars": "bolivar", "afghanis": "afghani", "taka": "taka", "ngultrum": "ngultrum",
    "rufiyaa": "rufiyaa", "pound": "pound", "guilders": "guilder", "sol": "sol",
}  # fmt: skip
NO_CURRENCY = {"bg", "zw", "tv", "bn", "aw"}
"""Changed recently, or unclear in the Factbook."""
SYMBOL = re.compile(
    r"(?:[a-z]+ )?(lion|eagle|leopard|elephant|falcon|dragon|bear|star|crane|condor|jaguar|giraffe|zebra|camel|zebu"
    r"|goat|tiger|panther|hawk|antelope|parrot|dodo|lotus|rose|tulip|palm tree|cow|bull|horse|wolf|dove|shamrock"
    r"|thistle|kiwi|pelican|iguana)"
)
"""A simple emblem of one or two words; the Factbook's longer descriptions are left out."""


def build_countries(folders: dict[str, Path]) -> tuple[list[Row], Pngs, dict[str, Entry]]:
    """Countries and territories with at least two drawings, the PNGs, and the Factbook's entry of each id."""
    iso_names = {c["code"]: c for c in json.loads((folders["flag-icons"] / "country.json").read_text("utf-8"))}
    twemoji, circles = IconSet(folders["twemoji"]), IconSet(folders["circle-flags"])
    rows: list[Row] = []
    pngs: Pngs = {}
    sources: dict[str, Entry] = {}
    for entry in entries(folders["factbook"]):
        if entry.iso not in iso_names or entry.iso in LOOK_ALIKE:
            continue
        row = _row(entry, str(iso_names[entry.iso].get("continent") or ""))
        letters = "-".join(f"{0x1F1E6 + ord(letter) - ord('a'):x}" for letter in entry.iso)
        svgs = {
            "rectangle": (folders["flag-icons"] / "flags" / "4x3" / f"{entry.iso}.svg").read_text("utf-8"),
            "twemoji": twemoji.by_code(letters, "no such label"),
            "circle": circles.svg(entry.iso),
        }
        row["styles"] = [style for style, svg in svgs.items() if svg and f"{entry.iso}/{style}" not in WRONG_FLAGS]
        if len(row["styles"]) < 2:
            continue
        rows.append(row)
        sources[row["id"]] = entry
        for style in row["styles"]:
            pngs[row["id"], style] = encode(render(str(svgs[style])), 32)
    return rows, pngs, sources


def _row(entry: Entry, continent: str) -> Row:
    status = entry.get("Government", "Dependency status")
    family = "territory" if status else "country"
    facts = [(field, value) for field, value in _facts(entry, continent, status) if value]
    return {
        "id": f"{family}/{slug(entry.name)}",
        "name": entry.name,
        "family": family,
        "type": family,
        "hypernym": family,
        "facts": [list(fact) for fact in facts],
        "text": "",
    }


def _facts(entry: Entry, continent: str, status: str) -> list[tuple[str, str | None]]:
    return [
        ("capital", _capital(entry)),
        ("continent", None if entry.iso in NO_CONTINENT else CONTINENTS.get(entry.iso, continent)),
        ("sovereign state", _sovereign(entry, status)),
        ("currency", _currency(entry)),
        ("demonym", _demonym(entry)),
        ("highest point", _highest(entry)),
        ("independence year", _independence(entry)),
        ("national symbol", _symbol(entry)),
        ("coast", _coast(entry)),
        ("population", _population(entry)),
        ("internet code", {"gb": "uk"}.get(entry.iso, entry.iso)),
    ]


def _sovereign(entry: Entry, status: str) -> str | None:
    if entry.iso in NO_SOVEREIGN:
        return None
    return next((name for rule, name in SOVEREIGNS.items() if re.search(rule, status)), None)


def _capital(entry: Entry) -> str | None:
    if entry.iso in NO_CAPITAL:
        return None
    name = CAPITALS.get(entry.iso) or re.sub(r"\s*\(.*", "", entry.get("Government", "Capital", "name"))
    name = name.replace("'", "") if entry.iso in {"td", "to"} else name
    return name if re.fullmatch(r"[A-Z][A-Za-z' .-]+", name) and len(name) < 26 else None


def _currency(entry: Entry) -> str | None:
    text = entry.get("Economy", "Exchange rates", "Currency").partition(" per US")[0]
    text = re.sub(r"\s*\(.*", "", text).partition("/")[0]
    if entry.iso in NO_CURRENCY or not text:
        return None
    if text.startswith(("Communaute", "Cooperation")):
        return "CFA franc"
    if text.startswith("Comptoirs"):
        return "CFP franc"
    if entry.iso == "qa":
        return "riyal"
    return CURRENCIES.get(text.split()[-1])


def _demonym(entry: Entry) -> str | None:
    if entry.iso in NO_DEMONYM or entry.iso in DEMONYMS:
        return DEMONYMS.get(entry.iso)
    text = entry.get("People and Society", "Nationality", "adjective")
    if " and " in entry.name and "," in text:
        return None  # one word per island
    word = re.split(r"[,;(]| or ", text)[0].strip()
    return word if re.fullmatch(r"[A-Z][A-Za-z -]+", word) and not word.endswith("Islander") else None


def _highest(entry: Entry) -> str | None:
    text = entry.get("Geography", "Elevation", "highest point")
    name = re.split(r" \(| -?[\d,.]+ ?m\b|;| on | at |, ", text)[0].strip()
    name = name.rstrip("'")
    if not re.fullmatch(r"[A-Z][A-Za-z' .-]+", name) or len(name) >= 30 or entry.iso in {"sa", "mh"}:
        return None  # a range or a part of an island, not a summit
    return name


def _independence(entry: Entry) -> str | None:
    match = re.fullmatch(
        r"\d{1,2} [A-Z][a-z]+ (\d{4}) \(from (?!the federation)[^;]*\)", entry.get("Government", "Independence")
    )
    return match[1] if match and entry.iso != "nz" else None


def _coast(entry: Entry) -> str | None:
    text = entry.get("Geography", "Coastline")
    return None if not text else "landlocked" if re.match(r"0 km", text) else "sea coast"


def _population(entry: Entry) -> str | None:
    """Rounded to two figures: "35 million", "57 thousand"."""
    text = re.match(r"([\d,]+) \(20\d\d est\.\)", entry.get("People and Society", "Population", "total"))
    if not text:
        return None
    count = int(text[1].replace(",", ""))
    for size, word in ((10**9, "billion"), (10**6, "million"), (10**3, "thousand")):
        if count >= size:
            value = count / size
            return f"{value:.1f} {word}" if value < 10 else f"{float(f'{value:.2g}'):.0f} {word}"
    return None


def _symbol(entry: Entry) -> str | None:
    text = re.split(r"[,;(]", entry.get("Government", "National symbol(s)"))[0].strip()
    return text if SYMBOL.fullmatch(text) and entry.iso not in {"bm", "ir"} else None


ARTICLES = {
    "Bahamas",
    "Gambia",
    "Netherlands",
    "Philippines",
    "United Arab Emirates",
    "United Kingdom",
    "United States",
}
SENTENCES = {
    "capital": "the capital is {}",
    "currency": "people pay with the {}",
    "demonym": "things from there are called {}",
    "highest point": "its highest point is {}",
    "independence year": "its independence dates from {}",
    "national symbol": "its national symbol is {}",
    "coast": "it {}",
    "population": "about {} people live there",
    "internet code": "its Internet code is {}",
    "head of state": "its head of state is known as {}",
    "head of government": "its head of government is known as {}",
    "export partner": "it sells most to {}",
    "export commodity": "it sells mostly {}",
    "import partner": "it buys most from {}",
    "import commodity": "it buys mostly {}",
}


def compose_article(row: Row) -> str:
    """The article about a country or territory, which states its facts in order."""
    facts = dict(row["facts"])
    place = f" in {facts['continent']}" if "continent" in facts else ""
    if row["family"] == "territory":
        owner = the(facts.get("sovereign state", ""))
        first = f"{row['name']} is the name of a territory{place}" + (
            f" under the sovereignty of {owner}" if owner else ""
        )
    else:
        first = f"{row['name']} is the name of a country{place}"
    rest = [SENTENCES[field].format(_article(field, value)) for field, value in facts.items() if field in SENTENCES]
    return " ".join(sentence(part) for part in (first, *rest))


def shorten_article(row: Row, limit: int = 80) -> None:
    """Compose the article again; if it is too long, leave out the least important facts."""
    row["text"] = compose_article(row)
    for field in ("internet code", "highest point"):
        if len(row["text"].split()) > limit:
            row["facts"] = [fact for fact in row["facts"] if fact[0] != field]
            row["text"] = compose_article(row)


def the(name: str) -> str:
    """The name inside a sentence, with its article if it needs one."""
    return (
        f"the {name}"
        if name in ARTICLES or name.endswith(("Islands", "Republic", "Territory", "Territories"))
        else name
    )


def _article(field: str, value: str) -> str:
    if field == "coast":
        return "is landlocked" if value == "landlocked" else "has a sea coast"
    return article(value) if field == "national symbol" else the(value)
