"""Build the embedded world: ``python -m benchmarks.mini.build [--work DIR]``."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.mini.build.concepts import concepts
from benchmarks.mini.build.countries import compose, countries
from benchmarks.mini.build.elements import elements
from benchmarks.mini.build.sources import fetch
from benchmarks.mini.build.split import assign, fixed_old
from benchmarks.mini.world import DATA

FIELDS = ("id", "name", "family", "type", "hypernym", "facts", "text", "split", "styles")


def build(work: Path) -> None:
    """Fetch the sources into ``work`` and write the data files."""
    folders = fetch(work)
    places, pngs, entries = countries(folders)
    things, thing_pngs = concepts(folders)
    atoms, atom_pngs = elements(folders["mendeleev"])
    for place in places:
        place["text"] = compose(place)
    rows = [*places, *things, *atoms]
    assign(rows, fixed_old(rows))
    write(
        {"entities": [{field: row[field] for field in FIELDS} for row in rows], "news": []},
        {**pngs, **thing_pngs, **atom_pngs},
    )


def write(world: dict[str, Any], pngs: dict[tuple[str, str], bytes]) -> None:
    """Write world.json (one row a line) and drawings.parquet."""
    DATA.mkdir(exist_ok=True)
    parts = [
        f'"{key}": [\n' + ",\n".join(json.dumps(row, ensure_ascii=True) for row in rows) + "\n]"
        for key, rows in world.items()
    ]
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
