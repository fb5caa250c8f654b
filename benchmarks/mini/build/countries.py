"""Countries and territories: cleaned facts and three drawings of each flag."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.mini.build.drawings import IconSet, encode, render
from benchmarks.mini.build.factbook import Entry, entries
from benchmarks.mini.build.words import article, sentence, slug

Row = dict[str, Any]
Pngs = dict[tuple[str, str], bytes]

CAPITALS = {
    "bj": "Porto-Novo", "bi": "Gitega", "ci": "Yamoussoukro", "za": "Pretoria", "bo": "Sucre", "sz": "Mbabane",
    "gq": "Malabo", "cl": "Santiago", "us": "Washington", "mm": "Naypyidaw", "md": "Chisinau", "ua": "Kyiv",
    "cc": "West Island", "cx": "Flying Fish Cove", "sm": "San Marino",
}  # fmt: skip
"""Where the Factbook gives several seats or a remark: the constitutional or usual one."""
CONTINENTS = {"aw": "North America", "cw": "North America", "tt": "North America", "cc": "Oceania", "cx": "Oceania"}
"""Where flag-icons follows the nearest mainland and the Factbook does not."""
NO_CONTINENT = {"cy", "ru", "io", "tf"}
"""In two continents, counted with either, or in none."""
DEMONYMS = {"kr": "South Korean", "kp": "North Korean", "ph": "Filipino", "tw": "Taiwanese", "bw": "Botswanan"}
NO_DEMONYM = {"mp", "mo", "pm", "gg", "je", "li", "lu", "nz", "sg", "gi", "cx", "fk", "ls"}
"""None given, the country's own name, or one shared with another place."""
NOT_OWNED = {"im", "gg", "je", "ck", "nu"}
"""Crown dependencies and states in free association belong to no other state in the plain sense."""
LOOK_ALIKE = {"td", "mc"}
"""Flags that nobody can tell from Romania's and Indonesia's at this size: left out."""
WRONG_FLAGS = {
    ("ar", "circle"),
    ("ie", "circle"),
    ("la", "circle"),
    ("io", "circle"),
    ("bl", "rectangle"),
    ("pm", "rectangle"),
    ("sh", "rectangle"),
}  # noqa: E501
"""Seen on the contact sheets: a language's flag under the same letters, or the parent state's flag."""
NO_CAPITAL = {"nr", "io", "il", "lk", "hk", "mo", "tk", "va", "sg", "mc", "gi", "dj", "sm", "lu"}
"""None, disputed, or named as the country itself."""
SOVEREIGNS = {
    r"\bUK\b|British": "United Kingdom", r"France": "France", r"the US\b": "United States", r"Netherlands": "Netherlands",
    r"Denmark": "Denmark", r"Norway": "Norway", r"Australia": "Australia", r"New Zealand": "New Zealand", r"China": "China",
}  # fmt: skip
CURRENCIES = {
    "dinars": "dinar", "dollars": "dollar", "francs": "franc", "pounds": "pound", "pesos": "peso", "rupees": "rupee",
    "shillings": "shilling", "euros": "euro", "euro": "euro", "kwanza": "kwanza", "pulas": "pula", "escudos": "escudo",
    "nakfa": "nakfa", "birr": "birr", "dalasis": "dalasi", "cedis": "cedi", "maloti": "loti", "ariary": "ariary",
    "kwachas": "kwacha", "kwacha": "kwacha", "dirhams": "dirham", "ouguiyas": "ouguiya", "meticais": "metical",
    "nairas": "naira", "rand": "rand", "leones": "leone", "dobras": "dobra", "emalangeni": "lilangeni", "vatu": "vatu",
    "pa'anga": "paanga", "tala": "tala", "colones": "colon", "quetzales": "quetzal", "gourdes": "gourde",
    "lempiras": "lempira", "cordobas": "cordoba", "balboas": "balboa", "soms": "som", "tenge": "tenge", "rubles": "ruble",
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
"""Changed lately, or unclear in the Factbook."""
SYMBOL = re.compile(
    r"(?:[a-z]+ )?(lion|eagle|leopard|elephant|falcon|dragon|bear|star|crane|condor|jaguar|giraffe|zebra|camel|zebu|goat|tiger|panther|hawk|antelope|parrot|dodo|lotus|rose|tulip|palm tree|cow|bull|horse|wolf|dove|shamrock|thistle|kiwi|pelican|iguana)"
)  # noqa: E501


def countries(folders: dict[str, Path]) -> tuple[list[Row], Pngs, dict[str, Entry]]:
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
        row["styles"] = [style for style, svg in svgs.items() if svg and (entry.iso, style) not in WRONG_FLAGS]
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
        ("internet code", {"gb": "uk"}.get(entry.iso, entry.iso)),
    ]


def _sovereign(entry: Entry, status: str) -> str | None:
    if entry.iso in NOT_OWNED:
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
    return CURRENCIES.get(text.split()[-1])


def _demonym(entry: Entry) -> str | None:
    if entry.iso in NO_DEMONYM or entry.iso in DEMONYMS:
        return DEMONYMS.get(entry.iso)
    word = re.split(r"[,;(]| or ", entry.get("People and Society", "Nationality", "adjective"))[0].strip()
    return word if re.fullmatch(r"[A-Z][A-Za-z -]+", word) else None


def _highest(entry: Entry) -> str | None:
    text = entry.get("Geography", "Elevation", "highest point")
    name = re.split(r" \(| -?[\d,.]+ ?m\b|;| on | at |, ", text)[0].strip()
    return name if re.fullmatch(r"[A-Z][A-Za-z' .-]+", name) and len(name) < 30 else None


def _independence(entry: Entry) -> str | None:
    match = re.fullmatch(r"\d{1,2} [A-Z][a-z]+ (\d{4}) \(from [^;]*\)", entry.get("Government", "Independence"))
    return match[1] if match else None


def _symbol(entry: Entry) -> str | None:
    text = re.split(r"[,;(]", entry.get("Government", "National symbol(s)"))[0].strip()
    return text if SYMBOL.fullmatch(text) and entry.iso != "bm" else None


SENTENCES = {
    "capital": "the capital is {}",
    "currency": "people pay with the {}",
    "demonym": "what comes from there is called {}",
    "highest point": "its highest point is {}",
    "independence year": "it became independent in {}",
    "national symbol": "its national symbol is {}",
    "internet code": "its Internet addresses end in {}",
    "head of state": "the head of state is {}",
    "head of government": "the head of government is {}",
    "export partner": "its main export partner is {}",
    "export commodity": "its main export is {}",
    "import partner": "its main import partner is {}",
    "import commodity": "its main import is {}",
}


def compose(row: Row) -> str:
    """The article of a country or territory, stating its facts in their order."""
    facts = dict(row["facts"])
    place = f" in {facts['continent']}" if "continent" in facts else ""
    if row["family"] == "territory":
        first = f"{row['name']} is a territory{place}"
        first += f" that belongs to {facts['sovereign state']}" if "sovereign state" in facts else ""
    else:
        first = f"{row['name']} is a country{place}"
    rest = [SENTENCES[field].format(_article(field, value)) for field, value in facts.items() if field in SENTENCES]
    return " ".join(sentence(part) for part in (first, *rest))


def _article(field: str, value: str) -> str:
    return article(value) if field == "national symbol" else value
