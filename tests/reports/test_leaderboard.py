"""The page is one file that reaches nowhere, runs only its own script, and takes nothing for markup."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from attacks import ATTACKS, attacked
from fake_run import fake_run
from test_tables import shapes

from benchmarks.errors import UserError
from reports.analysis import analyse
from reports.build import PAGE, build, write_whole
from reports.leaderboard import leaderboard
from reports.plots import plots
from reports.samples import embed, samples
from reports.tables import tables
from reports.verdict import verdict


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
    analysis = analyse(run)
    return leaderboard(analysis, tables(analysis), plots(analysis) if draw else ()).decode()


def digest(text):
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_the_policy_allows_this_script_and_style_and_nothing_else(report):
    page = (report / PAGE).read_text("utf-8")
    outline = Outline(page)
    policy = next(dict(attrs)["content"] for tag, attrs in outline.tags if dict(attrs).get("http-equiv"))
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split("; ")}
    style, stored, script = outline.raw
    assert rules["default-src"] == ["'none'"]
    assert rules["style-src"] == [f"'{digest(style)}'"]
    assert rules["script-src"] == [f"'{digest(script)}'"]
    assert rules["img-src"] == ["data:"]
    assert json.loads(stored)["rows"]
    assert not any(
        name in ("style", "src", "srcset") or name.startswith("on") for _, a in outline.tags for name, _ in a
    )
    assert "unsafe" not in policy


def test_it_is_one_small_file_without_links_out(report):
    page = (report / PAGE).read_bytes()
    assert len(page) < 3_000_000
    links = re.findall(rb"""(?:href|src|action)=["']([^"']*)""", page)
    assert links
    assert all(link.startswith(b"#") for link in links)
    assert not re.search(rb"https?://(?!www\.w3\.org)", page)


def test_big_runs_stay_under_3_mb_and_say_so():
    analysis = analyse(fake_run(("Vanilla", "LoRA", "KORE"), (0,), per_benchmark=60))
    few = samples(analysis, budget=60_000)
    assert len(json.dumps(few)) < 70_000
    assert 0 < len(few["items"]) < few["total"] == 290 + 720
    assert len({item["benchmark"] for item in few["items"]}) == 13
    assert samples(analysis, budget=60_000) == few
    assert len(samples(analysis)["items"]) == few["total"]


@pytest.fixture(scope="module")
def calm(few_draws):
    return Outline(page_of(attacked("calm")))


@pytest.mark.parametrize("text", ATTACKS, ids=range(len(ATTACKS)))
def test_hostile_text_adds_no_element_and_no_attribute(text, calm):
    """Invariant I6."""
    wild = Outline(page_of(attacked(text)))
    count = lambda outline: sorted((tag, tuple(name for name, _ in attrs)) for tag, attrs in outline.tags)  # noqa: E731
    assert count(wild) == count(calm)
    assert wild.raw[0] == calm.raw[0]
    assert wild.raw[2] == calm.raw[2]
    assert json.loads(wild.raw[1])["pictures"] == {}


def test_embedded_data_cannot_end_its_element():
    text = embed({"a": "</script><!--&\u2028"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": "</script><!--&\u2028"}


def test_equal_runs_give_equal_pages(run, report):
    assert page_of(run, draw=True) == (report / PAGE).read_text("utf-8")


@pytest.mark.parametrize("name", shapes())
def test_odd_runs_make_a_page(name):
    page = page_of(shapes()[name][0], draw=name in ("nothing", "nan", "all failed", "200 types"))
    assert "</html>" in page
    assert not re.search(r">\s*nan\b", page, re.IGNORECASE)
    assert "Undefined" not in page


def test_the_verdict_names_winners_and_doubts(analysis):
    found = {one.topic: one for one in verdict(analysis)}
    assert found["Learned most"].subject.startswith("KORE")
    assert "above the untouched base" in found["Learned most"].text
    assert "not significant" in found["Kept most"].text or "significant" in found["Kept most"].text
    lost = fake_run(("Vanilla",), (0,), 8)
    unmoved = replace(lost, cells=(*lost.cells, replace(lost.cells[0], method="lora", label="LoRA")))
    assert {one.topic: one.subject for one in verdict(analyse(unmoved))}["Learned most"] == "No method, clearly"
    twins = fake_run(("Vanilla", "LoRA", "Replay"), (0,), 8)
    one, two = twins.cells[1], twins.cells[2]
    same = replace(twins, cells=(twins.cells[0], one, replace(two, scores=one.scores)))
    assert "not significant" in {f.topic: f.text for f in verdict(analyse(same))}["Learned most"]


def test_a_limited_run_names_no_winner():
    """Invariant I5."""
    run = fake_run(("Vanilla", "LoRA", "KORE"), (0,), 4)
    limited = replace(run, cells=tuple(replace(cell, marks=("limited",)) for cell in run.cells))
    assert [one.topic for one in verdict(analyse(limited))] == ["Not ranked"]
    assert "Learned most" in [one.topic for one in verdict(analyse(run))]


def test_build_writes_everything_through_the_writer(run, tmp_path):
    seen = {}
    paths = build(fake_run(("Vanilla", "LoRA"), (0,), 2), tmp_path, lambda path, content: seen.update({path: content}))
    assert list(seen) == paths
    assert paths[0] == tmp_path / PAGE
    assert {path.suffix for path in paths} == {".html", ".md", ".csv", ".tex", ".json", ".svg", ".pdf", ".txt"}
    assert list(tmp_path.iterdir()) == []


def test_the_default_writer_leaves_the_old_file_when_it_fails(tmp_path, monkeypatch):
    target = tmp_path / "a.txt"
    write_whole(target, b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="No space left"):
        write_whole(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_picture_markers_are_not_shown():
    run = fake_run(("Vanilla",), (0,), 2)
    marked = replace(run, questions=tuple(replace(q, text=f"<image>\n{q.text}") for q in run.questions))
    assert samples(analyse(marked))["items"][0]["question"].startswith("What is known")
    two = replace(
        run, questions=tuple(replace(q, text="<image><image>\nx", pictures=("p1", "p2")) for q in run.questions)
    )
    assert samples(analyse(two))["items"][0]["question"] == "[picture] [picture]\nx"
