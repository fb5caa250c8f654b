from __future__ import annotations

import pytest

from helpers.figures import without_rendering


@pytest.fixture(scope="module", autouse=True)
def figures_are_not_rendered():
    with without_rendering():
        yield
