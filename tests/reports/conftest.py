from pathlib import Path

import pytest
from fake_run import fake_run

from reports import statistics
from reports.analysis import analyse
from reports.build import build

CHROMIUM = next(
    (path for name in ("chromium", "google-chrome", "chrome") if (path := Path("/usr/bin") / name).exists()), None
)


@pytest.fixture(scope="session", autouse=True)
def few_draws():
    """Enough draws to see every rule at work; the simulations of test_statistics choose their own number."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "DRAWS", 400)
        patch.setattr(statistics, "FLIPS", 1999)
        yield


@pytest.fixture(scope="session")
def run():
    return fake_run(seeds=(0, 1), per_benchmark=24)


@pytest.fixture(scope="session")
def analysis(run):
    return analyse(run)


@pytest.fixture(scope="session")
def report(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    build(run, folder)
    return folder


@pytest.fixture(scope="session")
def browser():
    assert CHROMIUM, "no browser at /usr/bin/chromium: run `apt-get install chromium`, or `make test`, which does it"
    from playwright.sync_api import sync_playwright

    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        yield browser
        browser.close()
