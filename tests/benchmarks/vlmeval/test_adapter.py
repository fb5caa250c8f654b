"""Our scores compared with VLMEvalKit's own, and what the guard prevents."""

import ast
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from statistics import fmean

import pytest

from benchmarks.errors import UserError
from benchmarks.records import Answer
from benchmarks.registry import EMBEDDED
from benchmarks.retention import Retention, questions_batch, score_batch
from benchmarks.retention_specs import SPEC_BY_NAME, SPECS
from benchmarks.vlmeval import client
from helpers import synthetic
from helpers.paths import PYTHONPATH, TESTS

NAMES = [spec.name for spec in SPECS]


def opened(folder, name, rows, judge="rule"):
    table = synthetic.write(rows, folder / f"{name}.tsv")
    return Retention(table, folder / "workspace", SPEC_BY_NAME[name], judge=judge)


def answers_for(questions, predictions):
    texts = {i: tuple(text) if isinstance(text, list) else (text,) for i, text in predictions.items()}
    return [Answer(question.id, texts[question.id]) for question in questions]


def official(folder, jobs):
    (folder / "jobs.json").write_text(json.dumps(jobs))
    environment = dict(os.environ, PYTHONPATH=PYTHONPATH, PRED_FORMAT="tsv", TQDM_DISABLE="1", HOME=str(folder))
    command = [sys.executable, str(TESTS / "helpers" / "official_vlmeval.py")]
    files = [str(folder / "jobs.json"), str(folder / "golden.json")]
    done = subprocess.run(command + files, env=environment, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "golden.json").read_text())


@pytest.fixture(scope="module")
def synthetic_scores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    tables = {name: synthetic.TABLES[name]() for name in NAMES}
    opened_ = [opened(folder, name, rows) for name, (rows, _) in tables.items()]
    questions = questions_batch(opened_)
    jobs = [(b, q, answers_for(q, tables[b.name][1])) for b, q in zip(opened_, questions, strict=True)]
    return dict(zip(NAMES, zip(questions, score_batch(jobs), strict=True), strict=True))


# What VLMEvalKit itself reads differently: see ``test_answers_that_pandas_takes_for_missing``.
REPLACEMENTS = {
    "None": "owl",
    "NA": "fox",
    "['None']": "owl",
    "none": "owl",
    "open('stolen','w').write('x')": "no idea",
}


def replaced(value):
    return REPLACEMENTS.get(value, value) if isinstance(value, str) else value


def both_scores(folder, answered):
    """Our score and VLMEvalKit's headline for each benchmark with its answers, by the benchmark's name."""
    jobs = {one.spec.name: {"tsv": str(one.data), "predictions": predictions} for one, predictions in answered}
    theirs = official(folder, jobs)
    questions = questions_batch([benchmark for benchmark, _ in answered])
    scores = score_batch(
        [(one, asked, answers_for(asked, said)) for (one, said), asked in zip(answered, questions, strict=True)]
    )
    return {score.benchmark: (score, value) for score, value in zip(scores, theirs.values(), strict=True)}


@pytest.fixture(scope="module")
def synthetic_golden(tmp_path_factory):
    """Both scorers on the synthetic tables."""
    folder, answered = tmp_path_factory.mktemp("golden"), []
    for name in NAMES:
        rows, predictions = synthetic.TABLES[name]()
        rows = [{column: replaced(value) for column, value in row.items()} for row in rows]
        answered.append((opened(folder, name, rows), {index: replaced(text) for index, text in predictions.items()}))
    return both_scores(folder, answered)


@pytest.fixture(scope="module")
def embedded_golden(tmp_path_factory):
    """Both scorers on the embedded tables, with answers drawn at random."""
    folder, rng = tmp_path_factory.mktemp("embedded"), random.Random(3)
    embedded = [
        Retention(EMBEDDED / "retention" / f"mini-{n}.tsv", folder, SPEC_BY_NAME[n], f"mini-{n}", "rule") for n in NAMES
    ]
    return both_scores(
        folder,
        [
            (benchmark, {question.id: random_answer(benchmark, question, rng) for question in questions})
            for benchmark, questions in zip(embedded, questions_batch(embedded), strict=True)
        ],
    )


def random_answer(benchmark, question, rng):
    golds = [question.reference]
    if benchmark.spec.family in ("mmdu", "short answer"):
        golds = ast.literal_eval(question.reference)
    others = [
        "A",
        "B.",
        "The answer is (C)",
        "yes",
        "No, it is not.",
        "12",
        "3.5",
        "red",
        "?",  # an empty answer is "nan" to VLMEvalKit, and "nan" holds the option "N"
        "I see a cat.",
        "c or b",
        "Z",
    ]
    turns = [golds[i % len(golds)] if rng.random() < 0.6 else rng.choice(others) for i in range(len(question.turns))]
    return turns if benchmark.spec.family == "mmdu" else turns[0]


@pytest.mark.parametrize("name", NAMES)
def test_headlines_are_vlmevalkit_s(synthetic_golden, name):
    compare_headlines(name, *synthetic_golden[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", [f"mini-{name}" for name in NAMES])
def test_headlines_of_embedded_tables_are_vlmevalkit_s(embedded_golden, name):
    compare_headlines(name, *embedded_golden[name])


def compare_headlines(name, score, theirs):
    ours = score.metrics["acc_published"] if name.endswith("MathVision") else score.headline
    assert ours == pytest.approx(theirs, abs=1e-9)
    assert 0 < ours < 100 or name in ("MMMU",)


ITEM_METRICS = {
    "MME": ("acc", "acc+"),
    "MMBench": ("circular", "acc"),
    "OCRVQA": ("acc",),
    "MIA-Bench": ("total_score",),
    "MathVista": ("acc", "acc_corrected"),
    "MathVision": ("acc", "acc_published"),
    "HallusionBench": ("aAcc", "fAcc", "qAcc"),
}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("POPE", "MMDU")])
def test_metrics_are_means_over_the_items_that_carry_them(synthetic_golden, name):
    score, _ = synthetic_golden[name]
    for metric in ITEM_METRICS.get(name, ("acc",)):
        values = [item.values[metric] for item in score.items if metric in item.values]
        assert score.metrics[metric] == pytest.approx(100 * fmean(values))
        assert all(0 <= value <= 1 for value in values)


@pytest.mark.slow
def test_pope_s_f1_follows_from_its_items(embedded_golden):
    score, _ = embedded_golden["mini-POPE"]
    is_yes = sum(item.values["is_yes"] for item in score.items)
    said_yes = sum(item.values["said_yes"] for item in score.items)
    both = sum(item.values["is_yes"] * item.values["said_yes"] for item in score.items)
    assert score.headline == pytest.approx(100 * 2 * both / (is_yes + said_yes))


def test_statuses(synthetic_scores):
    def statuses(name):
        return {item.question_id: item.status for item in synthetic_scores[name][1].items}

    assert statuses("MME")["8"] == "unparsed"
    assert statuses("MME")["0"] == "parsed"
    assert statuses("SEEDBench2_Plus")["3"] == "unparsed"
    assert statuses("SEEDBench2_Plus")["6"] == "empty"
    assert statuses("MathVista")["6"] == "unparsed"
    assert synthetic_scores["SEEDBench2_Plus"][1].metrics["empty"] == pytest.approx(100 / 7)
    assert synthetic_scores["POPE"][1].metrics["unparsed"] == 25.0


def test_answers_that_pandas_takes_for_missing(synthetic_scores):
    questions, score = synthetic_scores["MMBench"]
    assert "C. None\nD. NA" in questions[0].turns[0]  # VLMEvalKit alone leaves these two options out
    assert score.headline == pytest.approx(200 / 3)
    values = {item.question_id: item.values["acc"] for item in synthetic_scores["OCRVQA"][1].items}
    assert values == {"0": 1.0, "1": 1.0, "2": 0.0, "3": 1.0, "4": 1.0, "5": 1.0}  # "7" is not "007"; "none" is "None"


def test_a_is_no_number(synthetic_scores):
    score = synthetic_scores["MathVision"][1]
    values = {item.question_id: item.values for item in score.items}
    assert values["1"] == {"acc": 0.0, "acc_published": 1.0}
    assert score.metrics["acc_published"] > score.metrics["acc"] == score.headline
    assert any("'A' equals any number" in note for note in score.notes)
    assert not Path("stolen").exists()


def test_a_list_is_right_only_by_the_corrected_rule(synthetic_scores):
    score = synthetic_scores["MathVista"][1]
    assert score.items[4].values == {"acc": 0.0, "acc_corrected": 1.0}
    assert score.headline == score.metrics["acc"] < score.metrics["acc_corrected"]


def test_text_of_the_model_stays_text(tmp_path):
    """I6: answers that try to run, to reach the network or to break the table score as wrong and do nothing."""
    proof = tmp_path / "proof"
    evil = [
        f"__import__('pathlib').Path({str(proof)!r}).write_text('x')",
        f"open({str(proof)!r},'w').write('x')",
        "http://example.com/picture.png",
        'a\t"b"\r\nc\0\ud800',
        "'''",
        "[" * 5000,
        "{'Overall Score': 10}",
    ]
    names = ("MathVision", "MathVista", "MMDU", "MIA-Bench", "OCRVQA", "MMMU", "POPE")
    benchmarks = [opened(tmp_path, name, synthetic.TABLES[name]()[0]) for name in names]
    jobs = []
    for benchmark, questions in zip(benchmarks, questions_batch(benchmarks), strict=True):
        answers = [
            Answer(q.id, tuple(evil[(i + turn) % len(evil)] for turn in range(len(q.turns))))
            for i, q in enumerate(questions)
        ]
        jobs.append((benchmark, questions, answers))
    for score in score_batch(jobs):
        assert score.headline is not None, score.benchmark
        assert score.headline <= 10, score.benchmark
        assert all(item.status in ("parsed", "unparsed") for item in score.items)
    assert not proof.exists()


def test_the_worker_may_not_connect_start_processes_or_write_elsewhere(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "own" / "way_out").symlink_to(tmp_path / "kept")
    script = (
        "import os, socket, subprocess, sys\nfrom pathlib import Path\nfrom benchmarks.vlmeval.worker import Guard\n"
        "own, out = Path(sys.argv[1]) / 'own', Path(sys.argv[1])\nsys.addaudithook(Guard(own))\nrefused = 0\n"
        "for attempt in (lambda: socket.create_connection(('127.0.0.1', 9)), lambda: subprocess.run(['true']),\n"
        "                lambda: os.system('true'), lambda: os.fork(), lambda: (out / 'stolen').write_text('x'),\n"
        "                lambda: open(own / '..' / 'stolen', 'a'), lambda: (own / 'way_out').write_text('x'),\n"
        "                lambda: os.open(out / 'kept', os.O_RDWR), lambda: (out / 'kept').unlink(),\n"
        "                lambda: (out / 'kept').rename(own / 'kept'), lambda: (out / 'folder').mkdir(),\n"
        "                lambda: (out / 'link').symlink_to(own), lambda: os.truncate(out / 'kept', 0)):\n"
        "    try:\n        attempt()\n    except PermissionError:\n        refused += 1\n"
        "(own / 'allowed').write_text('x'); (own / 'allowed').rename(own / 'again'); (own / 'again').unlink()\n"
        "open(os.devnull, 'w').close(); (out / 'kept').read_text(); (own / 'folder').mkdir()\nprint(refused)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "13", done.stderr
    assert (tmp_path / "kept").read_text() == "kept"


def test_the_worker_s_limits_hold():
    script = (
        "from benchmarks.vlmeval.worker import limit\nlimit({'memory': 1 << 30, 'cpu': 60, 'file': 1 << 20})\n"
        "try:\n    bytearray(1 << 31)\nexcept MemoryError:\n    print('refused')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": PYTHONPATH}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "refused", done.stderr


def test_no_side_effect_reaches_the_harness(tmp_path):
    before = dict(os.environ)
    rows, predictions = synthetic.TABLES["POPE"]()
    benchmark = opened(tmp_path, "POPE", rows)
    questions = benchmark.questions()
    benchmark.score(questions, answers_for(questions, predictions))
    assert dict(os.environ) == before
    assert not any(name.split(".")[0] == "vlmeval" for name in sys.modules)
    names = {path.name for path in (tmp_path / "workspace").iterdir()}
    assert len(names) == 1  # the unpacked pictures; every other folder was private and is gone


def test_paths_may_be_relative_although_the_scorer_runs_elsewhere(tmp_path, monkeypatch, synthetic_scores):
    """As ``--out runs/x`` gives them."""
    monkeypatch.chdir(tmp_path)
    rows, predictions = synthetic.TABLES["POPE"]()
    table = synthetic.write(rows, Path("POPE.tsv"))
    benchmark = Retention(table, Path("runs/x/store/scratch"), SPEC_BY_NAME["POPE"], judge="rule")
    questions = benchmark.questions()
    assert questions[0].pictures[0].encoded
    assert benchmark.score(questions, answers_for(questions, predictions)) == synthetic_scores["POPE"][1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["POPE.tsv", "runs"]


def test_a_failing_job_names_its_table(tmp_path, monkeypatch):
    rows, predictions = synthetic.TABLES["POPE"]()
    benchmark = opened(tmp_path, "POPE", rows)
    questions = benchmark.questions()
    benchmark.judge = "gpt"
    score_batch([(benchmark, [], [])])
    other = Retention(benchmark.data, benchmark.workspace, SPEC_BY_NAME["MIA-Bench"], judge="gpt")
    with pytest.raises(UserError, match="no judge 'gpt'"):
        score_batch([(other, [], [])])
    monkeypatch.setattr(client, "SECONDS_TO_START", -1000)
    with pytest.raises(UserError, match="took longer"):
        benchmark.score(questions, answers_for(questions, predictions))


def test_missing_vlmevalkit_is_reported_with_the_command(tmp_path, monkeypatch):
    def missing(_):
        raise client.importlib.metadata.PackageNotFoundError

    rows, _ = synthetic.TABLES["POPE"]()
    benchmark = opened(tmp_path, "POPE", rows)
    monkeypatch.setattr(client.importlib.metadata, "version", missing)
    with pytest.raises(UserError, match=r"pip install --no-deps ms-vlmeval==0\.0\.20"):
        benchmark.questions()
