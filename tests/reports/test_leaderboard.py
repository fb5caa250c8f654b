"""The page is one file that loads nothing, runs only its own script, and treats no text as markup."""

import base64
import hashlib
import random
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_tables import shapes

from benchmarks.errors import UserError
from harness.storage.files import atomic_write
from helpers.attacks import ATTACKS, attacked_analysis
from helpers.fake_run import fake_run
from reports.build import build
from reports.html.findings import summarize_findings
from reports.html.leaderboard import MAX_BYTES, PAGE, render_pages
from reports.html.sample_browser import collect_samples, fit_to_page
from reports.html.score_data import pack_json, unpack_json
from reports.plots import style
from reports.plots.all_plots import draw_plots
from reports.plots.losses import losses, subsample
from reports.record import TrainingStep
from reports.statistics.analysis import analyse
from reports.tables.tables import make_tables


class Outline(HTMLParser):
    """Tags with their attributes, and the text inside scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.raw, self._open = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, tuple(sorted(attrs))))
        self._open = tag if tag in ("script", "style") else None

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open:
            self.raw.append(data)


def page_of(run, draw=False):
    return page_about(analyse(run), draw)


def page_about(analysis, draw=False):
    return render_pages(analysis, make_tables(analysis), draw_plots(analysis) if draw else ())[PAGE].decode()


def digest(text):
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_the_policy_allows_this_script_and_style_and_nothing_else(report):
    page = (report / PAGE).read_text("utf-8")
    outline = Outline(page)
    policy = next(dict(attrs)["content"] for tag, attrs in outline.tags if dict(attrs).get("http-equiv"))
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split("; ")}
    style, numbers, stored, script = outline.raw
    assert rules["default-src"] == ["'none'"]
    assert rules["style-src"] == [f"'{digest(style)}'"]
    assert rules["script-src"] == [f"'{digest(script)}'"]
    assert rules["img-src"] == ["data:"]
    assert unpack_json(stored)["rows"]
    assert unpack_json(numbers)["measures"]
    assert not any(
        name in ("style", "src", "srcset") or name.startswith("on") for _, a in outline.tags for name, _ in a
    )
    assert "unsafe" not in policy


def test_it_is_one_small_file_without_links_out(report):
    page = (report / PAGE).read_bytes()
    assert len(page) < MAX_BYTES < 3_000_000
    links = re.findall(rb"""(?:href|src|action)=["']([^"']*)""", page)
    assert links
    assert all(link.startswith(b"#") for link in links)
    assert not re.search(rb"https?://(?!www\.w3\.org)", page)


@pytest.fixture(scope="module")
def crowded(few_draws):
    """More pictures than a small page can hold."""
    run = fake_run(("Vanilla", "LoRA", "KORE"), (0,), per_benchmark=20)
    questions = tuple(replace(q, pictures=(f"{q.benchmark} {q.id}",)) for q in run.questions)
    # Random bytes, as compressed pictures are; one of them for each question.
    noise = random.Random(1)
    letters = lambda: base64.b64encode(noise.randbytes(900)).decode()  # noqa: E731
    made = {question.pictures[0]: f"data:image/webp;base64,{letters()}" for question in questions}
    return collect_samples(analyse(replace(run, questions=questions, pictures=made)))


def test_every_question_is_shown_and_pictures_fill_the_room(crowded):
    whole = fit_to_page(crowded, 10_000_000)
    assert (whole.shown, whole.total, whole.shards) == (530, 530, {})
    assert len(unpack_json(whole.data)["pictures"]) == 530
    small = fit_to_page(crowded, 160_000)
    data = unpack_json(small.data)
    assert small.shown == small.total == len(data["items"]) == 530
    assert 130_000 < len(small.data) <= 160_000
    assert 50 < len(data["pictures"]) < 300
    assert len({item["benchmark"] for item in data["items"] if item["pictures"][0] in data["pictures"]}) == 13
    assert fit_to_page(crowded, 160_000) == small


def test_pictures_that_do_not_fit_are_on_further_pages(crowded, monkeypatch):
    monkeypatch.setattr("reports.html.sample_browser.SHARD_BYTES", 200_000)
    small = fit_to_page(crowded, 160_000)
    assert len(small.shards) > 1
    links = [item["more"] for item in unpack_json(small.data)["items"] if "more" in item]
    assert len(links) == 530 - len(unpack_json(small.data)["pictures"])
    shown = unpack_json(small.data)
    parts = {name: unpack_json(shard.data) for name, shard in small.shards.items()}
    for item in shown["items"]:
        assert ("more" in item) == (item["pictures"][0] not in shown["pictures"])
        if "more" in item:
            name, place = item["more"].split("#")
            there = parts[name]
            assert there["items"][int(place)]["id"] == item["id"]
            assert item["pictures"][0] in there["pictures"]
    assert all(len(shard.data) < 300_000 for shard in small.shards.values())


def test_long_answers_are_cut_before_questions_are_left_out(crowded):
    noise = random.Random(2)
    long = [
        item | {"answers": [[noise.randbytes(220).hex(), "", 1.0] for _ in item["answers"]]} for item in crowded.items
    ]
    tight = fit_to_page(replace(crowded, items=long, pictures={}), 150_000)
    assert tight.shown == 530
    assert max(len(answer[0]) for item in unpack_json(tight.data)["items"] for answer in item["answers"]) == 51
    least = fit_to_page(replace(crowded, items=long, pictures={}), 50_000)
    assert 0 < least.shown < least.total == 530
    assert len(least.data) <= 50_000
    assert fit_to_page(crowded, -1).shown == 0


@pytest.fixture(scope="module")
def harmless(few_draws):
    return Outline(page_about(attacked_analysis("harmless")))


@pytest.mark.parametrize("text", ATTACKS, ids=range(len(ATTACKS)))
def test_hostile_text_adds_no_element_and_no_attribute(text, harmless):
    """Invariant I6."""
    attacked = Outline(page_about(attacked_analysis(text)))
    count = lambda outline: sorted((tag, tuple(name for name, _ in attrs)) for tag, attrs in outline.tags)  # noqa: E731
    assert count(attacked) == count(harmless)
    assert attacked.raw[0] == harmless.raw[0]
    assert attacked.raw[3] == harmless.raw[3]
    assert unpack_json(attacked.raw[2])["pictures"] == {}


def test_packed_data_contain_only_base64_letters():
    text = pack_json({"a": "</script><!--&\u2028"})
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", text)
    assert unpack_json(text) == {"a": "</script><!--&\u2028"}
    assert pack_json({"a": 1}) == pack_json({"a": 1})


def test_equal_runs_give_equal_pages(run, report):
    assert page_of(run, draw=True) == (report / PAGE).read_text("utf-8")


@pytest.mark.parametrize("name", shapes())
def test_odd_runs_make_a_page(name, empty_figures):
    page = page_of(shapes()[name][0], draw=name in ("nothing", "nan", "all failed", "200 types"))
    assert "</html>" in page
    assert not re.search(r">\s*nan\b", page, re.IGNORECASE)
    assert "Undefined" not in page


def test_findings_name_winners_and_doubts(analysis):
    found = {one.topic: one for one in summarize_findings(analysis)}
    assert found["Learned most"].subject.startswith("KORE")
    assert "above the untouched base" in found["Learned most"].text
    assert "not significant" in found["Kept most"].text or "significant" in found["Kept most"].text
    lost = fake_run(("Vanilla",), (0,), 8)
    unmoved = replace(lost, cells=(*lost.cells, replace(lost.cells[0], method="lora", label="LoRA")))
    assert {one.topic: one.subject for one in summarize_findings(analyse(unmoved))}[
        "Learned most"
    ] == "No method, clearly"
    twins = fake_run(("Vanilla", "LoRA", "Replay"), (0,), 8)
    one, two = twins.cells[1], twins.cells[2]
    same = replace(twins, cells=(twins.cells[0], one, replace(two, scores=one.scores)))
    assert "not significant" in {f.topic: f.text for f in summarize_findings(analyse(same))}["Learned most"]


def test_a_limited_run_names_no_winner():
    """Invariant I5."""
    run = fake_run(("Vanilla", "LoRA", "KORE"), (0,), 4)
    limited = replace(run, cells=tuple(replace(cell, marks=("limited",)) for cell in run.cells))
    assert [one.topic for one in summarize_findings(analyse(limited))] == ["Not ranked"]
    assert "Learned most" in [one.topic for one in summarize_findings(analyse(run))]


def test_long_trainings_do_not_enlarge_the_page():
    run = fake_run(("Vanilla", "LoRA"), (0,), 1, {"news": {"x": 1}})
    sizes = []
    for count in (100, 20_000):
        steps = tuple(TrainingStep(n, 1 + 1 / (1 + n)) for n in range(count))
        analysis = analyse(replace(run, cells=(run.cells[0], replace(run.cells[1], training=steps))))
        with style.styled():
            drawn = losses(analysis)
        page = render_pages(analysis, make_tables(analysis), [drawn])[PAGE].decode()
        assert (f"The first 240 of {count:,} records; all are in plots/losses.csv." in page) == (count > 240)
        assert len(drawn.data) == 1 + count
        assert "to 1.00 at step 19999" in page or count < 1000
        sizes.append(len(page))
    assert sizes[1] < sizes[0] + 60_000


@given(st.integers(0, 3000), st.integers(2, 400))
def test_subsampling_includes_the_ends_and_limits_the_number(count, most):
    kept = subsample(count, most)
    assert kept == sorted(set(kept))
    assert len(kept) == min(count, most)
    assert count == 0 or (kept[0], kept[-1]) == (0, count - 1)


def test_build_writes_everything_through_the_writer(run, tmp_path):
    seen = {}
    paths = build(fake_run(("Vanilla", "LoRA"), (0,), 2), tmp_path, lambda path, content: seen.update({path: content}))
    assert list(seen) == paths
    assert paths[0] == tmp_path / PAGE
    assert {path.suffix for path in paths} == {".html", ".md", ".csv", ".tex", ".json", ".svg", ".pdf", ".txt"}
    assert list(tmp_path.iterdir()) == []


def test_the_writer_of_the_commands_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch):
    target = tmp_path / "a.txt"
    atomic_write(target, b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="the disk is full"):
        atomic_write(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_picture_markers_are_not_shown():
    run = fake_run(("Vanilla",), (0,), 2)
    samples = lambda analysis: {"items": collect_samples(analysis).items}  # noqa: E731
    marked = replace(run, questions=tuple(replace(q, text=f"<image>\n{q.text}") for q in run.questions))
    assert samples(analyse(marked))["items"][0]["question"].startswith("What is known")
    two = replace(
        run, questions=tuple(replace(q, text="<image><image>\nx", pictures=("p1", "p2")) for q in run.questions)
    )
    assert samples(analyse(two))["items"][0]["question"] == "[picture] [picture]\nx"
