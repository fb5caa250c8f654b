"""News: dated statements about old countries; for other old countries the same fields are old facts."""

from __future__ import annotations

import re
from collections import Counter
from typing import NamedTuple

from tools.miniature.countries import the
from tools.miniature.factbook import Entry
from tools.miniature.split import rank
from tools.miniature.words import Row, sentence, slug

LEADERS = {"head of state": "chief of state", "head of government": "head of government"}
TRADE = {
    "export partner": "Exports - partners",
    "export commodity": "Exports - commodities",
    "import partner": "Imports - partners",
    "import commodity": "Imports - commodities",
}
FIELDS = (*LEADERS, *TRADE)
SAME_ANSWER = 4
"""Maximum occurrences of an answer within a type, so that a constant guess scores low."""
TUNING_SHARE = 0.12

SHORT_NAMES = {
    "USA": "United States", "UK": "United Kingdom", "UAE": "United Arab Emirates", "S. Korea": "South Korea",
    "Cote d'Ivoire": "Ivory Coast", "NZ": "New Zealand", "Burma": "Myanmar",
    "Congo, Democratic Republic of the": "DR Congo",
}  # fmt: skip
PLAIN_NAMES = {"packaged medicines": "packaged medicine"}
UNSUITABLE = {
    "other foods",
    "other animals",
    "ships",
    "fake hair",
    "processed hair",
    "animal meal",
    "mattress materials",
}
NOT_LEADERS = {
    "head of state/ad", "head of government/cv", "head of state/ly", "head of government/ly", "head of state/sd",
    "head of government/ro", "head of state/sm", "head of government/va", "head of state/mm", "head of government/mm",
    "head of state/gw", "head of government/gw", "head of state/ve", "head of government/nl", "head of government/xk",
    "head of state/tg", "head of government/ws", "head of state/ci", "head of government/vc", "head of government/kr",
    "head of state/kp", "head of government/kp", "head of government/sa", "head of state/af", "head of state/bt",
}  # fmt: skip
"""Excluded by hand: an interim or contested office, or a name that the Factbook's capitals do not mark clearly."""


class Statement(NamedTuple):
    """One dated statement of the Factbook."""

    field: str
    value: str
    year: int
    template: str
    """The sentence, with {} for the country."""


def parse_statements(entry: Entry) -> list[Statement]:
    """All usable dated statements about one country."""
    statements = _leaders(entry)
    for field, heading in TRADE.items():
        text = entry.get("Economy", heading)
        year = re.search(r"\((20\d\d)\)", text)
        value = _partner(text) if "partner" in field else _commodity(text)
        if value and year:
            statements.append(Statement(field, value, int(year[1]), _trade_sentence(field, value, year[1])))
    return statements


def _leaders(entry: Entry) -> list[Statement]:
    leaders: list[Statement] = []
    for field, heading in LEADERS.items():
        text = entry.get("Government", "Executive branch", heading)
        match = re.match(r"([A-Z][^();]+?) \(since ((?:\d{1,2} )?(?:[A-Z][a-z]+ )?(\d{4}))\)", text)
        if not match or f"{field}/{entry.iso}" in NOT_LEADERS:
            continue
        words = match[1].split()
        capitals = [word for word in words if re.fullmatch(r"(?:al-|el-)?[A-Z][A-Z'-]+", word)]
        if not capitals or any(re.fullmatch(r"[IVX]+", word) for word in capitals):
            continue
        value = " ".join(_title_case(word) for word in capitals)
        full = " ".join(_title_case(word) if word in capitals else word for word in words)
        if any(value == other.value for other in leaders):
            continue  # one person in both offices counts once
        template = f"the World Factbook names {full} as {field} of {{}} and dates the term in office from {match[2]}"
        leaders.append(Statement(field, value, int(match[3]), template))
    return leaders


def _title_case(word: str) -> str:
    return re.sub(r"[A-Z]+", lambda letters: letters[0].capitalize(), word)


def _partner(text: str) -> str | None:
    match = re.match(r"([A-Z][A-Za-z.' -]+?) \d+%", text)
    return SHORT_NAMES.get(match[1], match[1]) if match else None


def _commodity(text: str) -> str | None:
    first = re.split(r",| \(", text)[0].strip()
    return (
        PLAIN_NAMES.get(first, first)
        if re.fullmatch(r"[a-z]+(?: [a-z]+)?", first) and first not in UNSUITABLE
        else None
    )


def _trade_sentence(field: str, value: str, year: str) -> str:
    return {
        "export partner": f"in {year} no other place bought more of the exports of {{}} than {the(value)}",
        "export commodity": f"measured in dollars, the largest export of {{}} in {year} was {value}",
        "import partner": f"in {year} no other place sold more goods to {{}} than {the(value)}",
        "import commodity": f"measured in dollars, the largest import of {{}} in {year} was {value}",
    }[field]


def is_old(statement: Statement, country: str) -> bool:
    """Whether the statement is an old fact: leaders by date, trade for a fixed half of the countries."""
    if statement.field in LEADERS:
        return statement.year <= 2021
    return int(rank(f"{statement.field}|{country}"), 16) % 2 == 0


def is_news(statement: Statement, country: str) -> bool:
    """Whether the statement may be injected as news."""
    return statement.year >= 2025 if statement.field in LEADERS else not is_old(statement, country)


def build_news(rows: list[Row], statements: dict[str, list[Statement]], names: set[str]) -> list[Row]:
    """Build balanced news about the old countries, split into new and tuning.

    Args:
        rows: The old countries.
        statements: Statements by country id.
        names: Names of old entities; a trade partner must be one of them.
    """
    items = []
    for field in FIELDS:
        seen: Counter[str] = Counter()
        members = []
        for row in sorted(rows, key=lambda row: rank(f"{field}|news|{row['id']}")):
            for statement in statements[row["id"]]:
                partner_unknown = "partner" in field and statement.value not in names
                if statement.field != field or not is_news(statement, row["id"]) or partner_unknown:
                    continue
                if seen[statement.value] < SAME_ANSWER:
                    seen[statement.value] += 1
                    members.append(_item(row, statement))
        for position, item in enumerate(members):
            item["split"] = "tuning" if position < round(TUNING_SHARE * len(members)) else "new"
        items += sorted(members, key=lambda item: str(item["id"]))
    return items


def _item(row: Row, statement: Statement) -> Row:
    field, value, country = statement.field, statement.value, row["name"]
    label = field.capitalize() if field in LEADERS else f"Main {field}"
    title = f"{label} of {the(country)}, {statement.year}"
    statement_sentence = sentence(statement.template.format(the(country)))
    closing = {
        "head of state": f"The head of state is known by the name {value}.",
        "head of government": f"The head of government is known by the name {value}.",
        "export partner": f"So the main export partner was {the(value)}.",
        "export commodity": f"So the main export commodity was {value}.",
        "import partner": f"So the main import partner was {the(value)}.",
        "import commodity": f"So the main import commodity was {value}.",
    }[field]
    card = f"The card shows the flag of {the(country)} and a small sign that stands for this kind of news."
    return {
        "id": f"news/{slug(field)}/{slug(country)}",
        "title": title,
        "type": field,
        "entity": row["id"],
        "text": f"{statement_sentence} {closing} {card}",
        "facts": [["country", country], [field, value], ["year", str(statement.year)]],
        "split": "",
    }
