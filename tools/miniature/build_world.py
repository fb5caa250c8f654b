"""Build the embedded world: ``python -m tools.miniature.build_world [--work DIR]``."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.mini.cards import SIGNS
from benchmarks.mini.world import DATA, world_of
from tools.miniature.concepts import concepts
from tools.miniature.countries import compose, countries, shorten
from tools.miniature.elements import elements
from tools.miniature.evoke import write_evoke
from tools.miniature.lookalike import look_alikes
from tools.miniature.news import is_old, news, statements
from tools.miniature.sources import fetch
from tools.miniature.split import assign, fixed_old

FIELDS = ("id", "name", "family", "type", "hypernym", "facts", "text", "split", "styles")

Row = dict[str, Any]
Pngs = dict[tuple[str, str], bytes]


def build(work: Path) -> None:
    """Fetch the sources into ``work`` and write the data files."""
    folders = fetch(work)
    places, pngs, entries = countries(folders)
    things, thing_pngs = concepts(folders)
    atoms, atom_pngs = elements(folders["mendeleev"])
    pngs = {**pngs, **thing_pngs, **atom_pngs}
    for place in places:
        place["text"] = compose(place)
    rows = [*places, *things, *atoms]
    known = {row["id"]: statements(entries[row["id"]]) for row in places if row["family"] == "country"}
    told = {statement.value for found in known.values() for statement in found}
    assign(rows, fixed_old(rows, told) | look_alikes(places, pngs) | set(SIGNS.values()))
    old = [row for row in places if row["split"] == "old" and row["id"] in known]
    items = news(old, known, {row["name"] for row in rows if row["split"] == "old"})
    for row in old:
        row["facts"] += [[s.field, s.value] for s in known[row["id"]] if is_old(s, row["id"])]
        shorten(row)
    raw = {"entities": [{field: row[field] for field in FIELDS} for row in rows], "news": items}
    write(raw, pngs)
    write_evoke(world_of(raw, pngs), DATA / "evoke")


def write(raw: dict[str, list[Row]], pngs: Pngs) -> None:
    """Write world.json (one row a line) and drawings.parquet."""
    DATA.mkdir(exist_ok=True)
    parts = [f'"{key}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]" for key, rows in raw.items()]
    (DATA / "world.json").write_text("{" + ",\n".join(parts) + "}\n", "utf-8")
    keys = list(pngs)
    table = pa.table(
        {"entity": [key[0] for key in keys], "style": [key[1] for key in keys], "png": [pngs[key] for key in keys]}
    )
    pq.write_table(table, DATA / "drawings.parquet", compression="zstd")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="where packages are kept between builds")
    arguments = parser.parse_args()
    if arguments.work:
        build(arguments.work)
    else:
        with tempfile.TemporaryDirectory() as folder:
            build(Path(folder))
