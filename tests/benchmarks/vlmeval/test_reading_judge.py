"""A language model that reads what VLMEvalKit's rules cannot read, as its ``run.py`` lets it."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks.records import Answer
from benchmarks.retention import Retention, questions_batch, score_batch
from benchmarks.retention_specs import SPEC_BY_NAME
from helpers import synthetic
from helpers.official_vlmeval import Reader
from helpers.paths import PYTHONPATH, TESTS

CHOICES = {"a thing": "B", "of that kind": "D. blue", "the one you see": "C", "hard to say": "A", "c": "C"}
WORDS = {"maybe so": "Yes", "Yes and no": "No", "perhaps not": "No.", "Unknown": "yes", "maybe": "Yes", "perhaps": "No"}
READER = dict.fromkeys(("MMBench", "SEEDBench2_Plus", "ScienceQA", "MMMU"), CHOICES)
READER |= dict.fromkeys(("MME", "POPE", "HallusionBench"), WORDS)


def table_of(name):
    """The synthetic table; half of its answers are such that only the reader can read them."""
    rows, predictions = synthetic.TABLES[name]()
    said = list(READER[name])[:4]
    rows = [{key: {"None": "owl", "NA": "fox"}.get(value, value) for key, value in row.items()} for row in rows]
    return rows, {
        index: said[place // 2 % len(said)] if place % 2 or not text else text
        for place, (index, text) in enumerate(predictions.items())
    }


def scores_of(folder, tables, judge, protocol="vlmevalkit"):
    opened = [
        Retention(synthetic.write(rows, folder / f"{n}.tsv"), folder / "w", SPEC_BY_NAME[n], "", judge(n), protocol)
        for n, (rows, _) in tables.items()
    ]
    jobs = [
        (benchmark, asked, [Answer(q.id, (tables[benchmark.name][1][q.id],)) for q in asked])
        for benchmark, asked in zip(opened, questions_batch(opened), strict=True)
    ]
    return dict(zip(tables, zip(opened, score_batch(jobs), strict=True), strict=True))


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """Our scores with the reader and without any judge, and VLMEvalKit's own with the same reader."""
    folder = tmp_path_factory.mktemp("read")
    tables = {name: table_of(name) for name in READER}
    readers = {name: Reader(replies) for name, replies in READER.items()}
    ours, alone = scores_of(folder, tables, readers.get), scores_of(folder, tables, lambda _: "")
    jobs = {
        name: {"tsv": str(folder / f"{name}.tsv"), "predictions": predictions, "reader": READER[name]}
        for name, (_, predictions) in tables.items()
    }
    (folder / "jobs.json").write_text(json.dumps(jobs))
    environment = dict(os.environ, PYTHONPATH=PYTHONPATH, PRED_FORMAT="tsv", TQDM_DISABLE="1", HOME=str(folder))
    command = [sys.executable, str(TESTS / "helpers" / "official_vlmeval.py"), "jobs.json", "golden.json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return ours, alone, json.loads((folder / "golden.json").read_text()), readers


@pytest.mark.parametrize("name", READER)
def test_headlines_with_a_reader_are_vlmevalkit_s(read, name):
    ours, alone, golden, readers = read
    _, score = ours[name]
    assert score.headline == pytest.approx(golden[name], abs=1e-9)
    assert score.metrics["unparsed"] == 0 < alone[name][1].metrics["unparsed"]
    assert len(set(readers[name].asked)) == len(readers[name].asked) > 0


@pytest.mark.parametrize("name", READER)
def test_it_is_recorded_like_every_other_judge(read, name):
    ours, alone, _, _ = read
    (benchmark, score), (without, other) = ours[name], alone[name]
    assert (score.judge, other.judge) == ("reader", "")
    assert "what the rule cannot read is read by reader" in score.notes
    assert score.metrics["coverage"] == 100
    assert "|judge reader|" in benchmark.signature()
    assert benchmark.fingerprint() != without.fingerprint()
    assert score.metrics["headline_lenient"] == other.metrics["headline_lenient"]  # by rule, whoever judges


@pytest.mark.slow
def test_the_rule_judge_and_llava_s_protocol_read_no_choices(tmp_path):
    def refuse(_):
        reader = Reader({})
        reader.replies = None
        return reader

    tables = {name: table_of(name) for name in ("MME", "MMBench", "POPE", "ScienceQA")}
    for _, score in scores_of(tmp_path, tables, refuse, "llava").values():
        assert score.judge == ""
    by_rule, alone = (scores_of(tmp_path, tables, lambda _, judge=judge: judge) for judge in ("rule", ""))
    for name in tables:
        assert by_rule[name][1] == alone[name][1]


@pytest.mark.slow
def test_what_the_reader_cannot_read_stays_unread_and_failed_calls_leave_no_score(tmp_path):
    """VLMEvalKit draws an option at random for such an answer."""
    tables = {name: table_of(name) for name in ("ScienceQA", "POPE")}
    vague = scores_of(tmp_path, tables, lambda name: Reader(dict.fromkeys(READER[name], "I cannot tell")))
    alone = scores_of(tmp_path, tables, lambda _: "")
    for name in tables:
        score, other = vague[name][1], alone[name][1]
        assert (score.headline, score.metrics["unparsed"]) == (other.headline, other.metrics["unparsed"])
    down = scores_of(tmp_path, tables, lambda name: Reader(dict.fromkeys(READER[name])))
    for _, score in down.values():
        assert score.headline is None
        assert score.pending > 0
