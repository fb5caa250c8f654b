"""The page in a real browser: it opens, sorts, filters, opens a row, browses samples, in both themes and two widths."""

import base64
import random
import re
from dataclasses import replace

import pytest

from harness.storage.files import atomic_write
from helpers.attacks import attacked
from helpers.fake_run import fake_run
from reports.build import build
from reports.html.leaderboard import PAGE

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


@pytest.mark.slow
def test_differences_and_their_tests_follow_the_chosen_baseline(report, analysis, visit):
    page = visit(report)
    place = column(page, "K.A")
    page.wait_for_selector("#main select.baseline:not([disabled])")
    page.locator("#main select.baseline").select_option(label="LoRA")
    cells = page.locator(f"#main .board tr.line td:nth-child({place + 1})").all()
    labels = page.locator("#main .board tr.line .label").all_inner_texts()
    rows = {row.label: number for number, row in enumerate(analysis.rows)}
    for label, cell in zip(labels, cells, strict=True):
        test = analysis.against[rows["LoRA"]].get((rows[label], "K.A"))
        shown = cell.locator(".delta").inner_text().replace("−", "-")
        assert (shown == "") == (test is None)
        if test is not None:
            assert float(shown) == pytest.approx(test.delta, abs=0.0051)
            assert cell.locator(".star").inner_text() == ("*" if test.p < 0.05 else "")
            assert bool(re.search("gain|loss", cell.get_attribute("class"))) == (test.p < 0.05)
    assert "LoRA" in page.locator("#main .against").inner_text()
    page.locator("#main select.baseline").select_option(label="Vanilla")
    stars = [cell.locator(".star").inner_text() for cell in page.locator("#main .board tr.line td[data-m]").all()]
    assert stars.count("*") == sum(one.significant for one in analysis.main.values())


@pytest.mark.slow
def test_every_score_is_sorted_filtered_and_compared(report, analysis, visit):
    page = visit(report)
    where, rows = page.locator("#every-where"), page.locator("#every tbody tr")
    total = len(analysis.main) + len(analysis.benchmarks) + len(analysis.types)
    assert f"{total:,} scores" in where.inner_text()
    for name, wanted in (
        ("method", "kore"),
        ("variant", "no-constraint"),
        ("benchmark", "mini-POPE"),
        ("dimension", "HAL"),
    ):
        page.locator(f"#every-{name}").select_option(label=wanted)
    assert rows.count() == 1
    number = next(n for n, row in enumerate(analysis.rows) if row.label == "KORE (no constraint)")
    one = analysis.benchmarks[number, "POPE"]
    assert f"{one.value:.2f}" in rows.first.inner_text()
    page.locator("#every-baseline").select_option(label="KORE")
    base = next(n for n, row in enumerate(analysis.rows) if row.label == "KORE")
    test = analysis.against[base][number, "POPE"]
    cells = rows.first.locator("td").all_inner_texts()
    assert float(cells[-2].split("\n")[0].replace("−", "-")) == pytest.approx(test.delta, abs=0.0051)
    assert float(cells[-1].removeprefix("< ")) == pytest.approx(test.p, abs=0.0011)
    for name in ("method", "variant", "benchmark", "dimension"):
        page.locator(f"#every-{name}").select_option(label="All")
    page.locator("#every-type").select_option(label="entity · animal")
    assert rows.count() == 2 * len(analysis.rows)
    for by, order in (("score", "descending"), ("score", "ascending"), ("method", "ascending")):
        page.locator(f"#every [data-by={by}]").click()
        head = page.locator(f"#every th:has([data-by={by}])")
        assert head.get_attribute("aria-sort") == order
        place = 8 if by == "score" else 1
        texts = [
            text.split("\n")[0] for text in page.locator(f"#every tbody td:nth-child({place + 1})").all_inner_texts()
        ]
        values = list(map(float, texts)) if by == "score" else texts
        assert values == sorted(values, reverse=order == "descending")
    page.locator("#every-type").select_option(label="All")
    page.locator("#every-next").click()
    assert "Page 2" in where.inner_text()
    assert page.problems == []


@pytest.mark.slow
def test_columns_and_rows_are_filtered(report, visit):
    page = visit(report)
    page.locator("#main .columns").select_option(label="Retention by dimension")
    assert page.locator("#main .board thead tr:last-child th:visible").count() == 1 + 7
    page.locator("#main .columns").select_option(label="All columns")
    page.locator("#main .facet[data-facet=method]").select_option(label="kore")
    assert page.locator("#main tr.line:visible").count() == 2
    page.locator("#main .facet[data-facet=variant]").select_option(label="none")
    assert page.locator("#main tr.line:visible .label").all_inner_texts() == ["KORE"]


@pytest.fixture
def no_plots(monkeypatch):
    """Those that look at plots take ``report``."""
    monkeypatch.setattr("reports.build.draw_plots", lambda _: ())


@pytest.mark.slow
def test_what_cannot_be_ranked_is_marked_and_never_sorted_above(run, tmp_path, visit, no_plots):
    """Invariant I5."""
    marks = {"KORE": ("limited",), "Replay": ("transductive",)}
    cells = tuple(replace(cell, marks=marks.get(cell.label, ())) for cell in run.cells)
    cells = tuple(
        replace(cell, status="diverged", reason="loss nan", scores={}) if cell.label == "LoRA" else cell
        for cell in cells
    )
    build(replace(run, cells=cells), tmp_path, atomic_write)
    page = visit(tmp_path)
    for _ in range(2):
        page.locator("#main .board .sort").nth(column(page, "K.A")).click()
        labels = page.locator("#main .board tr.line .label").all_inner_texts()
        assert labels[2:] == ["LoRA", "Replay", "KORE"]
    lines = {line.locator(".label").inner_text(): line for line in page.locator("#main .board tr.line").all()}
    assert lines["KORE"].locator(".state").inner_text() == "limited"
    assert lines["LoRA"].locator(".state").inner_text() == "diverged"
    for label in ("KORE", "Replay", "LoRA"):
        assert "unranked" in lines[label].get_attribute("class")
        assert lines[label].locator(".best, .second").count() == 0
    page.locator("#every [data-by=score]").click()
    page.locator("#every-dimension").select_option(label="Adaptation")
    while page.locator("#every-next").is_enabled():
        page.locator("#every-next").click()
    assert page.locator("#every tbody tr").last.get_attribute("class") == "line unranked"


@pytest.mark.slow
def test_a_picture_beyond_the_page_is_a_link_away(run, tmp_path, visit, monkeypatch, no_plots):
    bare, *_ = build(replace(run, pictures={}), tmp_path / "bare", atomic_write)
    monkeypatch.setattr("reports.html.leaderboard.MAX_BYTES", bare.stat().st_size + 20_000)
    noise = random.Random(3)
    made = {key: uri[:-4] + base64.b64encode(noise.randbytes(9000)).decode() for key, uri in run.pictures.items()}
    build(replace(run, pictures=made), tmp_path, atomic_write)
    page = visit(tmp_path)
    link = page.locator("#list a", has_text="picture").first
    card = page.locator("#list .sample", has=page.locator("a", has_text="picture")).first
    question, place = card.locator(".where").last.inner_text(), link.get_attribute("href")
    assert re.fullmatch(r"samples/\d{3}\.html#\d+", place)
    page.goto((tmp_path / PAGE).as_uri().replace(PAGE, place))
    page.wait_for_selector("#list img")
    assert question in page.locator("#list .where").all_inner_texts()
    assert page.problems == []


@pytest.mark.slow
def test_rows_are_found_by_name(report, visit):
    page = visit(report)
    page.locator("#main .find").fill("kore")
    assert page.locator("#main tr.line:visible").count() == 2
    page.locator("#pairs .find").fill("replay")
    assert page.locator("#pairs tbody tr:visible").count() == 3 * 3, "on each of three measures against three others"


@pytest.mark.slow
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


@pytest.mark.slow
def test_of_many_answers_the_two_compared_come_first(tmp_path, visit, no_plots):
    few = fake_run(("Vanilla", "LoRA"), (0,), 2)
    rows = (replace(few.cells[1], label=f"lora:a-rather-long-variant-{n}", variant=f"v{n}") for n in range(11))
    build(replace(few, cells=(few.cells[0], *rows)), tmp_path, atomic_write)
    page = visit(tmp_path, WIDTHS["phone"])
    page.locator("#one").select_option(label="lora:a-rather-long-variant-9")
    answers = page.locator("#list .answers").first
    names = answers.locator("tbody th").all_inner_texts()
    assert names[:2] == ["Vanilla", "lora:a-rather-long-variant-9"]
    assert sorted(names[2:]) == sorted(f"lora:a-rather-long-variant-{n}" for n in range(11) if n != 9)
    assert answers.evaluate("box => box.scrollHeight > box.clientHeight")
    answers.focus()
    assert fits(page)
    assert violations(page) == []


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def violations(page):
    from axe_playwright_python.sync_playwright import Axe

    return [(one["id"], one["nodes"][0]["html"][:200]) for one in Axe().run(page).response["violations"]]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_both_themes_and_widths_fit_and_pass_axe(report, visit, scheme, width):
    page = visit(report, width, scheme)
    assert fits(page)
    page.locator("#main .open").nth(1).click()
    assert violations(page) == []


@pytest.mark.slow
def test_the_theme_can_be_toggled(report, visit):
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
    build(attacked(text), tmp_path, atomic_write)
    page = visit(tmp_path)
    page.wait_for_selector("#list .sample")
    assert page.evaluate("window.pwned") is None
    assert page.locator("#list img").count() == 0
    assert text in page.locator("#list .sample").first.inner_text()
    assert page.problems == []
