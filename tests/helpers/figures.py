"""Reports without the rendering of their figures, which is most of the time of a small run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from reports.plots import style

EMPTY = {
    "svg": b'<?xml version="1.0" encoding="utf-8"?>\n<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"></svg>',
    "pdf": b"%PDF-1.4\n%%EOF\n",
}


@contextmanager
def without_rendering() -> Iterator[None]:
    """Figures are drawn, with their data and texts, and saved as empty pictures. ``tests/reports`` renders them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "save", lambda figure, kind: EMPTY[kind])
        yield
