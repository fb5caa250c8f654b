"""Build the further drawings: ``python -m tools.miniature.build_pictures [--work DIR]``.

Emoji outside the world, drawn by its artists. They have no names and no facts: pre-training only learns from them which
drawings show the same thing. None is, or looks like, a new or tuning concept.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.mini.cards import on_paper
from benchmarks.mini.world import DATA, FURTHER, World, load_world
from tools.miniature.concepts import TABLE
from tools.miniature.drawings import ICON_SETS, IconSet, encode, render
from tools.miniature.sources import fetch, run_build
from tools.miniature.words import Pngs

GROUPS = ("smileys-emotion", "animals-nature", "food-drink", "travel-places", "activities", "objects", "symbols")
FEWEST = 3
"""Styles that an emoji must have."""
COLOURS = 24
CLOSE = 32.0
"""Root mean square difference of RGB at 16 by 16 pixels below which a drawing shows the same as another."""


def build(work: Path) -> None:
    """Fetch the sources into ``work`` and write ``FURTHER``."""
    folders = fetch(work)
    pngs = draw(folders)
    unlike = far_from(load_world(), pngs)
    keys = [key for key in pngs if key[0] in unlike]
    table = pa.table(
        {"entity": [key[0] for key in keys], "style": [key[1] for key in keys], "png": [pngs[key] for key in keys]}
    )
    pq.write_table(table, DATA / FURTHER, compression="zstd")


def draw(folders: dict[str, Path]) -> Pngs:
    """(code point, style) -> PNG, of all emoji of ``GROUPS`` that are not in the table of concepts."""
    emoji = json.loads((folders["emojibase"] / "en" / "data.json").read_text("utf-8"))
    groups = json.loads((folders["emojibase"] / "meta" / "groups.json").read_text("utf-8"))["groups"]
    labels = {line.split("\t")[0] for line in TABLE.read_text("utf-8").splitlines()}
    sets = {style: IconSet(folders[key]) for style, key in ICON_SETS.items()}
    pngs: Pngs = {}
    for entry in emoji:
        if groups.get(str(entry.get("group"))) not in GROUPS or entry["label"] in labels:
            continue
        found = {style: icons.by_code(entry["hexcode"], entry["label"]) for style, icons in sets.items()}
        svgs = {style: svg for style, svg in found.items() if svg}
        if len(svgs) >= FEWEST:
            pngs |= {(entry["hexcode"].lower(), style): encode(render(svg), COLOURS) for style, svg in svgs.items()}
    return pngs


def far_from(world: World, pngs: Pngs) -> set[str]:
    """The emoji none of whose drawings looks like one of a new or tuning concept in the same style."""
    unseen = [one for one in world.entities if one.family == "concept" and one.split != "old"]
    near = set()
    for style in ICON_SETS:
        known = np.stack([thumbnail(world.pngs[one.id, style]) for one in unseen if style in one.styles])
        for code, other in pngs:
            if other == style:
                gaps = np.sqrt(((known - thumbnail(pngs[code, style])) ** 2).mean(1))
                near |= {code} if gaps.min() < CLOSE else set()
    return {code for code, _ in pngs} - near


def thumbnail(png: bytes) -> npt.NDArray[np.float32]:
    """The picture on white, 16 by 16 RGB, flattened."""
    with Image.open(io.BytesIO(png)) as image:
        paper = Image.fromarray(on_paper(np.asarray(image.convert("RGBA"))))
    return np.asarray(paper.resize((16, 16), Image.Resampling.BOX), dtype=np.float32).ravel()


if __name__ == "__main__":
    run_build(build, __doc__)
