"""What published benchmarks were made from, to say which samples of other data are related to them.

A related sample is not a question of the benchmark: it comes from a data set that the benchmark took questions or
pictures from. Only benchmarks that say so are listed, so that no mark is no proof that nothing is related.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

COCO = ("COCO", "A-OKVQA", "OKVQA", "VQAv2", "RefCOCO")
"""COCO, and sets of questions about its pictures."""
MADE_FROM: Mapping[str, tuple[str, ...]] = {
    # The 31 data sets in source.json of AI4Math/MathVista; two of them, A-OKVQA and VQA2.0, ask about COCO's pictures.
    "MathVista": (
        *("A-OKVQA", "AI2D", "ChartQA", "CLEVR-Math", "DocVQA", "DVQA", "FigureQA", "FunctionQA", "Geometry3K", "GEOS"),
        *("GeoQA+", "IconQA", "IQTest", "KVQA", "MapQA", "PaperQA", "ParsVQA-Caps", "PlotQA", "PMC-VQA", "SciBench"),
        *("ScienceQA", "Super-CLEVR", "TabMWP", "TextVQA", "TheoremQA", "TQA", "UniGeo", "VizWiz", "VQA-AS"),
        *("VQA-RAD", "VQA2.0", *COCO),
    ),
    "OCRVQA": ("OCR-VQA",),  # the test set of the same data
    "POPE": COCO,  # its pictures are COCO's of 2014, most of which COCO counts as training pictures since 2017
    "ScienceQA": ("ScienceQA",),
}
"""Benchmark to the data sets that it took questions or pictures from."""


def related(source: str, benchmarks: Iterable[str]) -> list[str]:
    """The benchmarks that were made from the same data set as samples of this source.

    Args:
        source: ``DATASET:PART`` or ``PART``; what is in brackets, as in ``FigureQA(MathV360K)``, does not count.
        benchmarks: Names of published benchmarks.
    """
    name = _plain(source.rpartition(":")[2].partition("(")[0])
    return [each for each in benchmarks if name and name in map(_plain, MADE_FROM.get(each, ()))]


def _plain(name: str) -> str:
    return re.sub("[^a-z0-9.+]", "", name.lower())
