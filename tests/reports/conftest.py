import shutil
from contextlib import contextmanager

import pytest

from harness.storage.files import atomic_write
from helpers.fake_run import fake_run
from helpers.figures import without_rendering
from reports.build import build
from reports.plots import style
from reports.statistics import resampling
from reports.statistics.analysis import analyse

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@contextmanager
def fewer():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resampling, "N_BOOTSTRAP", 400)
        patch.setattr(resampling, "N_PERMUTATIONS", 1999)
        patch.setitem(style.RC, "pdf.fonttype", 3)  # far quicker to embed
        yield


@pytest.fixture(scope="module", autouse=True)
def few_draws():
    """Fewer draws than in a real report; the simulations of test_statistics choose their own number."""
    with fewer():
        yield


@pytest.fixture(scope="module", autouse=True)
def figures_are_not_rendered():
    """Here they are the subject, and rendered."""


@pytest.fixture
def empty_figures():
    """Figures without rendering, for tests of many pages."""
    with without_rendering():
        yield


@pytest.fixture(scope="session")
def run():
    return fake_run(seeds=(0, 1), per_benchmark=24)


@pytest.fixture(scope="session")
def analysis(run):
    with fewer():
        return analyse(run)


@pytest.fixture(scope="session")
def report(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    with fewer():
        build(run, folder, atomic_write)
    return folder


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        found = next(filter(None, map(shutil.which, (*BROWSERS, own))), None)
        assert found, "no Chromium here: `make test` installs one; by hand, `apt-get install chromium`"
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()
