"""The page in a real browser: it opens, sorts, filters, opens a row, browses samples, in both themes and two widths."""

import re

import pytest
from attacks import attacked

from reports.build import build
from reports.leaderboard import PAGE

WIDTHS = {"wide": 1280, "phone": 390}


@pytest.fixture
def visit(browser):
    contexts = []

    def go(folder, width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.problems, page.requests = [], []
        page.on("console", lambda message: page.problems.append(message.text))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("request", lambda request: page.requests.append(request.url))
        page.goto((folder / PAGE).as_uri())
        page.wait_for_selector("#list .sample")
        page.wait_for_selector("#every tbody tr")
        return page

    yield go
    for context in contexts:
        context.close()


def column(page, title):
    heads = page.locator("#main .board thead tr:last-child th").all_inner_texts()
    return next(place for place, text in enumerate(heads) if text.split("\n")[0] == title)


def test_it_opens_sorts_and_opens_a_row(report, visit):
    page = visit(report)
    assert page.problems == []
    assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []
    place = column(page, "K.A")
    page.locator("#main .board .sort").nth(place).click()
    shown = page.locator(f"#main .board tr.line td:nth-child({place + 1}) .value").all_inner_texts()
    numbers = [float(re.match(r"[\d.]+", text)[0]) for text in shown]
    assert numbers == sorted(numbers, reverse=True)
    assert page.locator("#main .board tr.line .label").first.inner_text() != "Vanilla"
    opener = page.locator("#main .open", has_text="LoRA").first
    opener.focus()
    page.keyboard.press("Enter")
    assert opener.get_attribute("aria-expanded") == "true"
    details = page.locator(f"#{opener.get_attribute('aria-controls')}")
    assert details.is_visible()
    for text in ("learning_rate", "chosen on the tuning split", "Training loss", "983,040", "Signatures"):
        assert text in details.inner_text()


def test_differences_follow_the_chosen_baseline(report, visit):
    page = visit(report)
    place = column(page, "K.A")
    page.locator("#main select.baseline").select_option(label="LoRA")
    cells = page.locator(f"#main .board tr.line td:nth-child({place + 1})")
    values = [float(cell.get_attribute("data-v")) for cell in cells.all()]
    shown = [cell.locator(".delta").inner_text() for cell in cells.all()]
    assert shown[1] == ""
    assert float(shown[0].replace("−", "-")) == pytest.approx(values[0] - values[1], abs=0.006)


def test_rows_are_found_by_name(report, visit):
    page = visit(report)
    page.locator("#main .find").fill("kore")
    assert page.locator("#main tr.line:visible").count() == 2


def test_samples_are_browsed(report, visit):
    page = visit(report)
    assert page.locator("#list .sample").count() == 10
    total = int(page.locator("[data-outcome=all] .count").inner_text())
    parts = [int(page.locator(f"[data-outcome={kind}] .count").inner_text()) for kind in ("wins", "losses", "ties")]
    assert sum(parts) == total
    page.locator("#by-benchmark").select_option("mini-EVOKE")
    page.locator("#by-type").select_option("animal")
    page.locator("[data-outcome=wins]").click()
    card = page.locator("#list .sample").first
    assert "animal" in card.inner_text()
    best = page.locator("#one option:checked").inner_text()
    rows = {
        row.locator("th").inner_text(): row.locator("td.num").all_inner_texts()
        for row in card.locator("tbody tr").all()
    }
    assert sum(map(float, rows[best])) > sum(map(float, rows["Vanilla"]))
    assert page.locator("#list img").first.evaluate("image => image.complete && image.naturalWidth > 0")
    page.locator("[data-outcome=all]").click()
    page.locator("#by-type").select_option("")
    page.locator("#next").click()
    assert page.locator("#where").inner_text().startswith("Page 2")
    page.locator("#words").fill("no such words anywhere")
    assert "No question fits" in page.locator("#list").inner_text()
    assert page.problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_both_themes_and_widths_fit_and_pass_axe(report, visit, scheme, width):
    from axe_playwright_python.sync_playwright import Axe

    page = visit(report, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    page.locator("#main .open").nth(1).click()
    broken = Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"][:200]) for one in broken] == []


def test_the_theme_can_be_turned_round(report, visit):
    page = visit(report)
    paper = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(paper)
    page.locator("#theme").click()
    assert page.evaluate(paper) != before
    page.locator("#theme").click()
    assert page.evaluate(paper) == before


def test_hostile_answers_run_nothing(tmp_path, visit):
    """Invariant I6."""
    text = "</script><img src=x onerror=window.pwned=1><script>window.pwned=1</script>"
    build(attacked(text), tmp_path)
    page = visit(tmp_path)
    page.wait_for_selector("#list .sample")
    assert page.evaluate("window.pwned") is None
    assert page.locator("#list img").count() == 0
    assert text in page.locator("#list .sample").first.inner_text()
    assert page.problems == []
