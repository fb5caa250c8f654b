"""Build the embedded world: ``python -m tools.miniature.build_world [--work DIR]``."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.mini.cards import SIGNS
from benchmarks.mini.world import DATA, build_world
from tools.miniature.concepts import build_concepts
from tools.miniature.countries import build_countries, compose_article, shorten_article
from tools.miniature.elements import build_elements
from tools.miniature.evoke import write_evoke
from tools.miniature.lookalike import look_alikes
from tools.miniature.news import build_news, is_old, parse_statements
from tools.miniature.sources import fetch, run_build
from tools.miniature.split import assign_splits, must_stay_old
from tools.miniature.words import Pngs, Row

FIELDS = ("id", "name", "family", "type", "hypernym", "facts", "text", "split", "styles")


def build(work: Path) -> None:
    """Fetch the sources into ``work`` and write the data files."""
    folders = fetch(work)
    places, pngs, entries = build_countries(folders)
    things, thing_pngs = build_concepts(folders)
    atoms, atom_pngs = build_elements(folders["mendeleev"])
    pngs = {**pngs, **thing_pngs, **atom_pngs}
    for place in places:
        place["text"] = compose_article(place)
    rows = [*places, *things, *atoms]
    statements = {row["id"]: parse_statements(entries[row["id"]]) for row in places if row["family"] == "country"}
    values = {statement.value for by_country in statements.values() for statement in by_country}
    assign_splits(rows, must_stay_old(rows, values) | look_alikes(places, pngs) | set(SIGNS.values()))
    old = [row for row in places if row["split"] == "old" and row["id"] in statements]
    items = build_news(old, statements, {row["name"] for row in rows if row["split"] == "old"})
    for row in old:
        row["facts"] += [[s.field, s.value] for s in statements[row["id"]] if is_old(s, row["id"])]
        shorten_article(row)
    raw = {"entities": [{field: row[field] for field in FIELDS} for row in rows], "news": items}
    write(raw, pngs)
    write_evoke(build_world(raw, pngs), DATA / "evoke")


def write(raw: dict[str, list[Row]], pngs: Pngs) -> None:
    """Write world.json (one row per line) and drawings.parquet."""
    DATA.mkdir(exist_ok=True)
    parts = [f'"{key}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]" for key, rows in raw.items()]
    (DATA / "world.json").write_text("{" + ",\n".join(parts) + "}\n", "utf-8")
    keys = list(pngs)
    table = pa.table(
        {"entity": [key[0] for key in keys], "style": [key[1] for key in keys], "png": [pngs[key] for key in keys]}
    )
    pq.write_table(table, DATA / "drawings.parquet", compression="zstd")


if __name__ == "__main__":
    run_build(build, __doc__)
