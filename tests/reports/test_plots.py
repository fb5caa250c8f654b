"""Plots are the same bytes each time, have a text alternative and their data, and follow the page's policy."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from helpers.attacks import ATTACKS, attacked
from reports.html.svg import inline_svg
from reports.plots import style
from reports.plots.all_plots import draw_plots
from reports.plots.dimensions import dimensions
from reports.record import Run
from reports.statistics.analysis import analyse
from reports.text import format_number


@pytest.fixture(scope="module")
def drawn(analysis):
    return draw_plots(analysis)


def test_all_are_drawn_with_text_and_data(analysis, drawn):
    assert [plot.key for plot in drawn] == ["tradeoff", "dimensions", "types", "losses", "costs"]
    for plot in drawn:
        assert len(plot.alt) > 60
        assert len(plot.data) > 1
        assert {len(record) for record in plot.data} == {len(plot.data[0])}
        assert plot.pdf.startswith(b"%PDF")
    assert format_number(analysis.main[1, "K.A"].value) in drawn[0].alt


def test_papers_take_the_pdf(analysis, monkeypatch):
    """Journals refuse Type 3 fonts."""
    monkeypatch.setitem(style.RC, "pdf.fonttype", style.PDF_FONTS)
    with style.styled():
        pdf = dimensions(analysis).pdf
    assert b"/CIDFontType2" in pdf
    assert b"/Type3" not in pdf


def test_equal_runs_give_equal_bytes(analysis, drawn):
    again = draw_plots(analysis)
    assert [plot.svg for plot in again] == [plot.svg for plot in drawn]
    assert [plot.pdf for plot in again] == [plot.pdf for plot in drawn]
    assert b"<dc:date>" not in drawn[0].svg
    assert b"CreationDate" not in drawn[0].pdf


def test_inline_drawings_have_no_styles_and_no_shared_ids(drawn):
    seen = set()
    for plot in drawn:
        assert b"style=" in plot.svg
        text = inline_svg(plot.svg, plot.key, plot.alt)
        assert "style" not in text.replace("font-style", "")
        assert "http" not in text.replace("http://www.w3.org", "")
        root = ElementTree.fromstring(text)  # noqa: S314
        ids = {element.get("id") for element in root.iter() if element.get("id")}
        targets = set(re.findall(r"url\(#([^)]+)\)", text)) | {
            element.get("href")[1:] for element in root.iter() if element.get("href")
        }
        assert targets <= ids
        assert not ids & seen
        seen |= ids
        assert root.get("aria-label") == plot.alt


def test_colours_differ_in_lightness_or_shape():
    looks = [style.series_style(number, number) for number in range(11)]
    assert len({(one.colour, one.marker) for one in looks}) == 11
    assert len({one.marker for one in looks[:6]}) == 6


def test_hostile_labels_are_drawn_as_text():
    """Invariant I6."""
    run = attacked(ATTACKS[13])
    base, lora, _ = run.cells
    rows = (replace(lora, label=text, variant=text) for text in (ATTACKS[0], *ATTACKS[12:14], *ATTACKS[16:18]))
    for plot in draw_plots(analyse(replace(run, cells=(base, *rows)))):
        root = ElementTree.fromstring(plot.svg)  # noqa: S314
        names = {element.tag.rsplit("}", 1)[-1] for element in root.iter()}
        assert not names & {"script", "image", "a", "foreignObject"}


def test_nothing_to_draw():
    assert draw_plots(analyse(Run("empty"))) == ()
