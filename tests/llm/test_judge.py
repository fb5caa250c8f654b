"""Language models as judges, against a local server that also fails, stalls and replies nonsense."""

import json

import pytest

from benchmarks.errors import UserError
from benchmarks.judges import RecordedJudge, RuleJudge
from benchmarks.records import Answer
from benchmarks.retention import Retention, questions_batch, score_batch
from benchmarks.retention_specs import SPEC_BY_NAME
from harness.data.inputs import BenchmarkTask
from harness.experiment.outputs import AnswerSet, CellOutput
from harness.experiment.score import score_all
from harness.llm.judge import ChatJudge, check_judge, resolve_judge
from harness.storage.store import Store
from helpers import synthetic
from helpers.chat_server import serving
from helpers.tiny_llama import write_llama
from methods.augmentation.generators.openai_endpoint import Endpoint

KEY = "sk-a-very-secret-key"
JUDGED = ("MIA-Bench", "MMDU", "MathVista", "MathVision")
PROSE = "I would say, all in all, that {this} is a fine answer"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def text_of(body):
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else next(part["text"] for part in content if part["type"] == "text")


def rule(number, body):
    """A language model that replies exactly as the rule would."""
    return {"content": RuleJudge().generate(text_of(body))}


def judge(server, store, monkeypatch, model="m", **options):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    return ChatJudge(f"openai:{model}", Endpoint(model, **{"timeout": 5, "retries": 0} | options), store)


def request(text="Is it?"):
    return {"parts": [["text", text]], "max_tokens": 16}


def every_file(folder):
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """The four graded by the rule, a model that says the same, one that replies in prose, and one that mostly fails."""
    folder, patch = tmp_path_factory.mktemp("judged"), pytest.MonkeyPatch()
    patch.setenv("OPENAI_API_KEY", KEY)
    store = Store(folder / "store")
    fails = lambda number, body: {"status": 500} if number else rule(number, body)  # noqa: E731
    with serving(rule) as good, serving(lambda n, b: {"content": PROSE}) as prose, serving(fails) as failing:
        graders = {
            "rule": "rule",
            "good": judge(good, store, patch, "good"),
            "prose": judge(prose, store, patch, "prose"),
            "failing": judge(failing, store, patch, "failing"),
        }
        tables = {name: synthetic.TABLES[name]() for name in JUDGED}
        opened, answers_of = [], []
        for grader in graders.values():
            for name, (rows, answers) in tables.items():
                table = synthetic.write(rows, folder / f"{name}.tsv")
                opened.append(Retention(table, folder / "w", SPEC_BY_NAME[name], judge=grader))
                answers_of.append(answers)
        jobs = []
        for benchmark, questions, answers in zip(opened, questions_batch(opened), answers_of, strict=True):
            texts = {i: tuple(text) if isinstance(text, list) else (text,) for i, text in answers.items()}
            jobs.append((benchmark, questions, [Answer(q.id, texts[q.id]) for q in questions]))
        scores = score_batch(jobs)
        bodies = list(good.bodies)
    patch.undo()
    keys = [(grader, name) for grader in graders for name in JUDGED]
    return dict(zip(keys, scores, strict=True)), dict(zip(keys, jobs, strict=True)), bodies, store


@pytest.mark.parametrize("name", JUDGED)
def test_a_model_that_says_what_the_rule_says_gives_the_rule_s_numbers(judged, name):
    scores, jobs, _, _ = judged
    ours, theirs = scores["good", name], scores["rule", name]
    assert ours.headline == theirs.headline is not None
    assert ours.items == theirs.items
    assert {key: ours.metrics[key] for key in theirs.metrics} == dict(theirs.metrics)
    assert ours.metrics["coverage"] == 100
    assert ours.judge == "openai:good"
    assert "judged by openai:good" in ours.notes
    assert "|judge openai:good|" in jobs["good", name][0].signature()
    assert jobs["good", name][0].fingerprint() != jobs["rule", name][0].fingerprint()


def test_requests_are_vlmevalkit_s(judged):
    _, _, bodies, store = judged
    pictures = [body for body in bodies if not isinstance(body["messages"][0]["content"], str)]
    assert len(pictures) == len(synthetic.TABLES["MIA-Bench"]()[0])
    parts = pictures[0]["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["text", "image_url"]
    assert parts[1]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert {body["max_tokens"] for body in bodies} == {128, 2048}
    assert {body["temperature"] for body in bodies} == {0}
    assert not any("response_format" in body for body in bodies)
    # Every request and every reply is stored; the key is nowhere.
    manifests = [json.loads(path.read_text()) for path in (store.root / "calls").glob("*.manifest")]
    assert sum(each["recipe"]["chat"]["model"] == "good" for each in manifests) == len(bodies)
    assert not any(KEY.encode() in content for content in every_file(store.root))


@pytest.mark.parametrize("name", JUDGED)
def test_prose_is_not_a_score(judged, name):
    score = judged[0]["prose", name]
    assert score.pending == 0
    if name in ("MIA-Bench", "MMDU"):
        assert score.headline is None
        assert score.metrics["coverage"] == 0
        assert any("not scored: only 0 %" in note for note in score.notes)
    else:  # the model only extracts; what it extracts is compared, as VLMEvalKit does
        assert score.headline is not None
        assert score.headline < judged[0]["good", name].headline


@pytest.mark.parametrize("name", JUDGED)
def test_failed_calls_leave_no_score(judged, name):
    score = judged[0]["failing", name]
    assert score.pending > 0
    assert score.headline is None
    assert any("calls to the judge failed; the same command asks them again" in note for note in score.notes)
    assert any(note.startswith("the judge: ") and "InternalServerError" in note for note in score.notes)


def test_a_later_run_asks_only_what_failed_and_keeps_the_score(judged, monkeypatch):
    scores, jobs, _, store = judged
    benchmark, questions, answers = jobs["failing", "MIA-Bench"]
    product = CellOutput(cell=None, answers={benchmark.name: AnswerSet(answers)})
    each = BenchmarkTask(benchmark, benchmark.fingerprint(), tuple(questions))
    with serving(rule) as server:
        benchmark.judge_client = judge(server, store, monkeypatch, "failing")
        assert score_all(store, [product], [each]) == (0, 1)
        assert len(server.bodies) == scores["failing", "MIA-Bench"].pending == len(questions) - 1
    assert product.scores["MIA-Bench"].headline == scores["rule", "MIA-Bench"].headline
    assert score_all(store, [product], [each]) == (1, 0)  # with no server at all


def test_failures_and_stalls_are_not_replies(tmp_path, monkeypatch):
    how = {"fail": {"status": 503}, "stall": {"stall": 5, "content": "late"}, "ok": {"content": "yes"}}
    with serving(lambda number, body: how[text_of(body)]) as server:
        ours = judge(server, Store(tmp_path), monkeypatch, timeout=1.5)
        questions = {name: request(name) for name in how}
        assert ours.replies(questions) == {"fail": None, "stall": None, "ok": "yes"}
        assert len(server.bodies) == 3
        how["fail"] = {"content": "now"}
        assert ours.replies(questions) == {"fail": "now", "stall": None, "ok": "yes"}
        assert [text_of(body) for body in server.bodies[3:]].count("ok") == 0


def test_a_wrong_key_is_reported_and_never_shown(tmp_path, monkeypatch):
    refused = {"status": 401, "message": f"the key {KEY} is wrong"}
    with serving(lambda number, body: refused) as server:
        ours = judge(server, Store(tmp_path), monkeypatch)
        many = {str(number): request(str(number)) for number in range(40)}
        assert ours.replies(many) == dict.fromkeys(many)
        assert len(server.bodies) < 40  # the others are not made
    assert "AuthenticationError" in ours.last_error
    assert KEY not in ours.last_error


def test_judges_are_named(tmp_path, monkeypatch):
    store = Store(tmp_path / "store")
    assert [resolve_judge(name, store) for name in (None, "rule", "none", "")] == [None, "rule", "", ""]
    assert resolve_judge("openai:gpt-4o", store).name == "openai:gpt-4o"
    for wrong in ("gpt-4o", "openai:", "local:"):
        with pytest.raises(UserError, match="there is no judge"):
            resolve_judge(wrong, store)
    with pytest.raises(UserError, match="not a model folder"):
        resolve_judge(f"local:{tmp_path}", store)
    monkeypatch.delenv("OPENAI_API_KEY")
    assert resolve_judge("openai:gpt-4o", store)  # stored replies need no key ...
    with pytest.raises(UserError, match="OPENAI_API_KEY is not set"):
        check_judge("openai:gpt-4o")  # ... but a run reports at once that it is missing
    check_judge("rule")


def test_a_local_model_judges_text_and_says_that_it_sees_no_pictures(tmp_path):
    from transformers import LlamaForCausalLM

    folder = write_llama(tmp_path / "model", LlamaForCausalLM)
    ours = resolve_judge(f"local:{folder}", Store(tmp_path / "store"))
    assert ours.name.startswith("local-")
    assert str(tmp_path) not in ours.name
    picture = {"parts": [["text", "x"], ["image", "data:image/png;base64,"]], "max_tokens": 4}
    replies = ours.replies({"text": request(), "picture": picture})
    assert isinstance(replies["text"], str)
    assert replies["picture"] is None
    assert "cannot see pictures" in ours.last_error


def test_a_record_collects_open_requests():
    record = RecordedJudge("m", {})
    assert record.generate("a?") == record.generate("a?") == ""
    assert len(record.open_requests) == 1
    known = RecordedJudge("m", dict.fromkeys(record.open_requests, "yes"))
    assert known.generate("a?") == "yes"
    assert (known.calls, known.failed, known.coverage, known.open_requests) == (1, 0, 100.0, {})
    lost = RecordedJudge("m", dict.fromkeys(record.open_requests))
    assert lost.generate("a?") == ""
    assert (lost.calls, lost.failed, lost.coverage) == (1, 1, 0.0)
