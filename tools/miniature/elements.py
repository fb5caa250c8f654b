"""Chemical elements: facts from mendeleev, drawings in three tile layouts."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from benchmarks.mini.canvas import SIDE
from tools.miniature.drawings import encode
from tools.miniature.words import Pngs, Row, article, plain, sentence, slug

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
SERIES = {
    "Nonmetals": "nonmetal",
    "Noble gases": "noble gas",
    "Alkali metals": "alkali metal",
    "Alkaline earth metals": "alkaline earth metal",
    "Metalloids": "metalloid",
    "Halogens": "halogen",
    "Poor metals": "post-transition metal",
    "Transition metals": "transition metal",
    "Lanthanides": "lanthanide",
    "Actinides": "actinide",
}
WRONG_YEARS = {"neodymium", "nihonium"}
"""Elements for which mendeleev lists the year of isolation or recognition as discovery."""
QUERY = """
    select e.name, e.symbol, e.atomic_number, e.period, s.name, s.color, e.discovery_year, e.is_radioactive
    from elements e join series s on e.series_id = s.id where e.atomic_number <= 118 order by e.atomic_number
"""


def build_elements(folder: Path) -> tuple[list[Row], Pngs]:
    """The 118 elements with three tiles each."""
    rows: list[Row] = []
    pngs: Pngs = {}
    with sqlite3.connect(folder / "mendeleev" / "elements.db") as database:
        records = database.execute(QUERY).fetchall()
    for name, symbol, number, period, series, colour, year, radioactive in records:
        name = plain(name).lower()
        year = None if name in WRONG_YEARS or (year or 0) <= 1600 else year
        facts = [
            ["symbol", symbol],
            ["atomic number", str(number)],
            ["series", SERIES[series]],
            ["period", str(period)],
        ]
        if year:
            facts.append(["discovery year", str(year)])
        parts = [
            f"the chemical element {name} is one of 118 that are known.",
            f"its symbol is {symbol} and its atomic number is {number}.",
            f"it belongs to period {period} of the periodic table and is counted as {article(SERIES[series])}.",
            f"it was discovered in {year}." if year else "",
            "it has no stable form: all its isotopes are radioactive." if radioactive else "",
        ]
        row: Row = {
            "id": f"element/{slug(name)}",
            "name": name,
            "family": "element",
            "type": "element",
            "hypernym": "element",
            "facts": facts,
            "text": " ".join(sentence(part) for part in parts if part),
            "styles": ["card", "tile", "disc"],
        }
        rows.append(row)
        for style, draw in (("card", _card), ("tile", _tile), ("disc", _disc)):
            pngs[row["id"], style] = encode(draw(symbol, number, colour), 24)
    return rows, pngs


def _write(image: Image.Image, text: str, size: int, centre: tuple[int, int], fill: str, bold: bool = True) -> None:
    font = ImageFont.truetype(str(FONTS / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")), size)
    ImageDraw.Draw(image).text(centre, text, fill=fill, font=font, anchor="mm")


def _card(symbol: str, number: int, colour: str) -> Image.Image:
    """Large symbol on the series' colour, number in the corner."""
    image = Image.new("RGBA", (SIDE, SIDE), colour)
    ImageDraw.Draw(image).rectangle((0, 0, SIDE - 1, SIDE - 1), outline="#202020", width=2)
    _write(image, symbol, 34, (32, 38), "#101010")
    _write(image, str(number), 12, (16, 11), "#101010", bold=False)
    return image


def _tile(symbol: str, number: int, colour: str) -> Image.Image:
    """White tile with a coloured band; number above, symbol below."""
    image = Image.new("RGBA", (SIDE, SIDE), "#fbfbf6")
    ImageDraw.Draw(image).rectangle((0, 0, SIDE, 21), fill=colour)
    _write(image, str(number), 17, (32, 11), "#101010")
    _write(image, symbol, 30, (32, 44), "#202a55")
    return image


def _disc(symbol: str, number: int, colour: str) -> Image.Image:
    """Dark disc with a coloured rim, white symbol, number below."""
    image = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    ImageDraw.Draw(image).ellipse((1, 1, SIDE - 2, SIDE - 2), fill="#20242c", outline=colour, width=5)
    _write(image, symbol, 26, (32, 27), "#ffffff")
    _write(image, str(number), 13, (32, 49), "#ffffff", bold=False)
    return image
