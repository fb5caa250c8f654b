"""Models behind an endpoint as rows: asked once, in order, within a budget, and scored like imported answers."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from PIL import Image

from benchmarks.errors import UserError
from benchmarks.records import Picture
from benchmarks.registry import EMBEDDED
from harness.commands import api
from harness.commands.compare import compare
from harness.commands.plan import plan
from harness.commands.verify import verify
from harness.config.answerers import Answerers, parse_answerers
from harness.config.settings import Request, resolve
from harness.experiment.answerers import DECLINED, _reply, ask_answerers
from harness.experiment.context import build_context
from harness.experiment.imported_answers import imported_row, read_record
from harness.experiment.results import read_results
from harness.llm.picture_parts import data_uri, turn_content
from helpers import small_runs
from helpers.chat_server import serving
from helpers.paths import PYTHONPATH, ROOT
from helpers.tiny import question
from methods.augmentation.generators.chat import Completion
from methods.augmentation.generators.openai_endpoint import endpoint_host

SECRET, PASSWORD = "sk-a-very-secret-key", "a-password"
QUICK = {"retry-after-ms": "1"}
"""A header that has the client repeat a call at once."""

pytestmark = pytest.mark.usefixtures("short_answers")


@pytest.fixture
def preset(tmp_path, tiny_folder):
    return small_runs.write_preset(tmp_path, tiny_folder)


def request(preset, out, methods=("vanilla",), assignments=(), **budget):
    models = budget.pop("models", {"theirs": "a-model"})
    return Request(methods, resolve(str(preset), assignments), out, answerers=Answerers(models, **budget))


def ask(preset, out, **options):
    """Ask without a base model: what ``compare`` does first."""
    return ask_answerers(build_context(request(preset, out, **options)))


def kept(out, name="theirs"):
    """The rows of the answers file, and the record beside it."""
    file = imported_row(out, name).folder
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()], read_record(file)


def shown(body):
    """The SHA-256 of each picture in a call, in order."""
    parts = [part for each in body["messages"] if isinstance(each["content"], list) for part in each["content"]]
    uris = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return [hashlib.sha256(base64.b64decode(uri.partition(",")[2])).hexdigest() for uri in uris]


def golds(preset, tmp_path, assignments=()):
    """A script that answers with the reference of the question whose picture it is shown."""
    tasks = build_context(request(preset, tmp_path / "look", assignments=assignments)).inputs.tasks
    known = {each.pictures[0].sha256: each.reference for task in tasks for each in task.questions}
    return lambda number, body: {"content": known[shown(body)[0]], "fingerprint": f"fp_{number % 2}"}


def cells(out):
    return {cell.label: cell for cell in read_results(out).cells}


def test_a_model_that_knows_the_answers_gets_all_marks(endpoint, preset, tmp_path, monkeypatch):
    server = endpoint(golds(preset, tmp_path))
    out = tmp_path / "run"
    result = compare(request(preset, out, price=(2.0, 10.0)))
    assert result.exit_code == 0
    row = cells(out)["theirs"]
    assert row.scores["mini-EVOKE"].headline == 100
    assert cells(out)["vanilla"].scores["mini-EVOKE"].headline < 100, "control"
    assert row.ranked
    assert row.summary == f"Answers of a-model, asked at 127.0.0.1:{server.server_port}."
    settings = {name: one.value for name, one in row.settings.items()}
    assert settings["model"] == "a-model"
    assert settings["reported_model"] == ["a-model"]
    assert settings["system_fingerprint"] == ["fp_0", "fp_1"]
    assert settings["left_out"] == []
    assert settings["calls"] == len(server.bodies) == 8
    assert (settings["prompt_tokens"], settings["completion_tokens"]) == (800, 400)
    assert settings["cost"] == pytest.approx((800 * 2 + 400 * 10) / 1e6)
    line = next(each for each in (out / "report" / "costs.md").read_text().splitlines() if "| theirs |" in each)
    assert line.count("elsewhere") == 2
    assert not verify(out).differences
    monkeypatch.delenv("OPENAI_API_KEY")  # nothing is left to ask
    compare(request(preset, out))
    assert len(server.bodies) == 8
    assert not (out / "store" / "calls").is_dir() or not any(
        b"data:image" in path.read_bytes() for path in (out / "store" / "calls").iterdir()
    ), "the store holds no copy of the pictures"
    assert cells(out)["theirs"].scores == row.scores
    compare(request(preset, out, models={}))
    assert cells(out)["theirs"].scores == row.scores, "kept like an import"


@pytest.mark.slow
def test_from_python_with_turns_and_pictures(tmp_path, tiny_folder, endpoint):
    """MMDU: each turn is asked after the model's own answers to the turns before it; pictures are in their places."""
    retention = str(EMBEDDED / "retention")
    preset = small_runs.write_preset(
        tmp_path, tiny_folder, benchmarks="mini-EVOKE, mini-MMDU, mini-POPE", retention=retention
    )
    server = endpoint(lambda number, body: {"content": f"Yes {len(body['messages'])}"})
    result = api.compare(
        "vanilla",
        str(preset),
        out=tmp_path / "run",
        limit=2,
        answerers=Answerers({"theirs": "openai:m"}, budget_tokens=10**7),
    )
    assert "theirs" in result.table().index
    tasks = build_context(request(preset, tmp_path / "look", assignments=["limit=2"])).inputs.tasks
    questions = [each for task in tasks for each in task.questions]
    assert len(server.bodies) == sum(len(each.turns) for each in questions)
    several = next(each for each in questions if len(each.turns) > 1)
    mine = [body for body in server.bodies if shown(body)[:1] == [several.pictures[0].sha256]]
    last = max(mine, key=lambda body: len(body["messages"]))
    assert [each["role"] for each in last["messages"]] == ["user", "assistant"] * (len(several.turns) - 1) + ["user"]
    assert shown(last) == [picture.sha256 for picture in several.pictures]
    assert [each["content"] for each in last["messages"][1::2]] == [
        f"Yes {2 * number + 1}" for number in range(len(several.turns) - 1)
    ]
    assert last["max_tokens"] == several.max_new_tokens
    assert not verify(tmp_path / "run").differences


class Scripted:
    """A chat model in this process."""

    def __init__(self, *completions):
        self.identity, self.completions, self.seen = {"kind": "fake"}, list(completions), []

    def complete(self, messages, schema, max_tokens):
        self.seen.append(json.loads(json.dumps(messages)))
        return self.completions.pop(0)


def test_turns_follow_the_models_own_answers():
    asked = question(1, turns=3, pictures=2)
    chat = Scripted(*(Completion(text, 5, 7) for text in ("one", "two", "three")))
    reply = _reply(chat, asked)
    assert reply.answer.texts == ("one", "two", "three")
    assert reply.answer.new_tokens == 21
    assert [each["role"] for each in chat.seen[2]] == ["user", "assistant", "user", "assistant", "user"]
    assert [each["content"] for each in chat.seen[2][1::2]] == ["one", "two"]
    stopped = Scripted(Completion("one", 5, 7), Completion("I may not", 5, 7, "declined"))
    reply = _reply(stopped, asked)
    assert (reply.answer.texts, reply.answer.error) == (("", "", ""), DECLINED)
    assert len(stopped.seen) == 2


def test_pictures_are_where_the_text_says():
    one, two = (Picture(image_bytes(colour, "PNG")) for colour in ("red", "blue"))
    content = turn_content("Before <image> between\n<image>", iter([one, two]))
    assert [part["type"] for part in content] == ["text", "image_url", "text", "image_url"]
    assert [part["text"] for part in content if part["type"] == "text"] == ["Before", "between"]
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    assert urls == [f"sha256:{one.sha256}", f"sha256:{two.sha256}"]
    assert turn_content("no picture", iter(())) == "no picture"


def image_bytes(colour, kind):
    file = io.BytesIO()
    Image.new("RGB", (4, 3), colour).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "sent"), [("PNG", "png"), ("JPEG", "jpeg"), ("WEBP", "webp"), ("GIF", "gif"), ("BMP", "png")]
)
def test_formats_that_endpoints_take_are_sent_as_they_are(kind, sent):
    encoded = image_bytes("red", kind)
    start, _, data = data_uri(Picture(encoded)).partition(",")
    assert start == f"data:image/{sent};base64"
    assert (base64.b64decode(data) == encoded) == (kind != "BMP")
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (4, 3)


def test_answers_that_are_cut_declined_or_failed_are_counted(endpoint, preset, tmp_path):
    def script(number, body):
        asked = shown(body)[0]
        place = order.setdefault(asked, len(order))
        if place == 0:
            return {"content": "very lo", "finish": "length"}
        if place == 1:
            return {"content": "", "refusal": "no", "finish": "content_filter"}
        return {"status": 400, "message": "too large"} if place == 2 else {"content": "fine"}

    order: dict[str, int] = {}
    server = endpoint(script)
    ask(preset, tmp_path / "run")
    rows, record = kept(tmp_path / "run")
    assert (record["truncated"], record["declined"], record["failed"]) == (1, 1, 1)
    assert sorted((row["answers"][0], row["truncated"], bool(row["error"])) for row in rows) == sorted(
        [("very lo", True, False), ("", False, True), ("", False, True), *[("fine", False, False)] * 5]
    )
    assert any("too large" in row["error"] for row in rows)
    calls = len(server.bodies)
    ask(preset, tmp_path / "run")
    assert len(server.bodies) == calls + 1, "only what failed is asked again"


def test_what_fails_for_a_while_is_repeated(endpoint, preset, tmp_path):
    seen: set[str] = set()

    def script(number, body):
        asked = shown(body)[0]
        if asked in seen:
            return {"content": "fine"}
        seen.add(asked)
        return {"status": 429 if len(seen) % 2 else 500, "headers": QUICK}

    server = endpoint(script)
    ask(preset, tmp_path / "run")
    rows, record = kept(tmp_path / "run")
    assert [row["answers"] for row in rows] == [["fine"]] * 8
    assert (len(server.bodies), record["failed"]) == (16, 0)


def test_what_an_endpoint_does_not_accept_is_recorded(endpoint, preset, tmp_path):
    def script(number, body):
        refused = "temperature" in body
        return {"status": 400, "message": "Unsupported parameter: temperature"} if refused else {"content": "fine"}

    endpoint(script)
    ask(preset, tmp_path / "run")
    rows, record = kept(tmp_path / "run")
    assert [row["answers"] for row in rows] == [["fine"]] * 8
    assert record["left_out"] == ["temperature"]
    assert record["cost"] is None, "no price was given"
    assert record["max_tokens"] == [8], "of the questions, as short_answers sets it"


def test_a_wrong_key_stops_before_anything_is_computed(endpoint, preset, tmp_path, monkeypatch):
    server = endpoint(lambda number, body: {"status": 401, "message": f"Incorrect API key provided: {SECRET}"})
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with pytest.raises(UserError, match="does not work") as caught:
        compare(request(preset, tmp_path / "run", methods=("lora",)))
    assert SECRET not in str(caught.value)
    assert "--answerer theirs=openai:a-model" in str(caught.value)
    assert server.bodies
    assert not list((tmp_path / "run").rglob("*.jsonl"))
    monkeypatch.delenv("OPENAI_API_KEY")
    asked = len(server.bodies)
    with pytest.raises(UserError, match="OPENAI_API_KEY is not set"):
        ask(preset, tmp_path / "run")
    assert len(server.bodies) == asked


def test_the_budget_is_kept_and_a_larger_one_goes_on(endpoint, preset, tmp_path):
    used = {"prompt_tokens": 3000, "completion_tokens": 1000, "total_tokens": 4000}
    server = endpoint(lambda number, body: {"content": "fine", "usage": used})
    with pytest.raises(UserError, match=r"the forecast is 8 calls"):
        ask(preset, tmp_path / "run", budget_tokens=1000)
    assert not server.bodies
    with pytest.raises(UserError, match="the budget is used up") as caught:
        ask(preset, tmp_path / "run", budget_tokens=16_000)
    assert "--budget-tokens" in str(caught.value)
    first = len(server.bodies)
    assert 0 < first <= 4
    assert not imported_row(tmp_path / "run", "theirs").folder.exists()
    planned = plan(request(preset, tmp_path / "run"))
    assert planned.answerers[0].startswith(f"theirs: {first} of 8 replies are stored; to ask: {8 - first} calls")
    ask(preset, tmp_path / "run")
    assert len(server.bodies) == 8
    assert kept(tmp_path / "run")[1]["prompt_tokens"] == 24_000
    with pytest.raises(UserError, match="in money"):
        ask(preset, tmp_path / "other", budget_money=0.000001, price=(5.0, 5.0))


def test_no_secret_is_stored_or_logged(endpoint, preset, tmp_path, monkeypatch, caplog):
    caplog.set_level("DEBUG", logger="harness")
    server = endpoint(lambda number, body: {"content": "fine"})
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    monkeypatch.setenv("OPENAI_BASE_URL", server.url.replace("http://", f"http://me:{PASSWORD}@"))
    ask(preset, tmp_path / "run")
    assert kept(tmp_path / "run")[1]["endpoint"] == f"127.0.0.1:{server.server_port}"
    texts = [path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert any(b"a-model" in text for text in texts), "control"
    for secret in (SECRET, PASSWORD):
        assert not any(secret.encode() in text for text in texts)
        assert secret not in caplog.text
    assert "8 calls" in caplog.text


def test_another_endpoint_is_asked_anew_and_needs_another_name(endpoint, preset, tmp_path):
    endpoint(lambda number, body: {"content": "fine"})
    ask(preset, tmp_path / "run")
    other = endpoint(lambda number, body: {"content": "better"})
    with pytest.raises(UserError, match=r"other answers of this name(.|\n)*theirs\.jsonl"):
        ask(preset, tmp_path / "run")
    with pytest.raises(UserError, match="other answers"):
        ask(preset, tmp_path / "run", models={"theirs": "another-model"})
    ask(preset, tmp_path / "run", models={"others": "a-model"})
    assert [row["answers"] for row in kept(tmp_path / "run", "others")[0]] == [["better"]] * 8
    assert len(other.bodies) == 8


@pytest.mark.parametrize("name", ["lora", "vanilla", "kore"])
def test_a_name_that_is_taken_is_refused_before_anything_is_asked(name, endpoint, preset, tmp_path):
    server = endpoint()
    with pytest.raises(UserError, match="another name"):
        ask(preset, tmp_path / "run", models={name: "m"}, methods=("lora",))
    assert not server.bodies


@pytest.mark.parametrize("text", ["m", "a b=openai:m", "x=openai:", "x=local:m", "=openai:m", "x=m", "../x=openai:m"])
def test_wrong_flags_are_named(text):
    with pytest.raises(UserError, match=re.escape(f"--answerer {text}")):
        parse_answerers([text])


def test_flags_and_addresses(monkeypatch):
    assert parse_answerers(["x=openai:org/m:1", "y=openai:m"]) == {"x": "org/m:1", "y": "m"}
    with pytest.raises(UserError, match="two rows"):
        parse_answerers(["x=openai:a", "x=openai:b"])
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert endpoint_host() == "api.openai.com"
    for url, host in {"https://me:secret@x.org:8/v1?key=s": "x.org:8", "http://127.0.0.1:9/v1": "127.0.0.1:9"}.items():
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        assert endpoint_host() == host
    monkeypatch.setenv("OPENAI_BASE_URL", "nowhere")
    with pytest.raises(UserError, match="no address"):
        endpoint_host()


def test_questions_in_a_chat_template_of_llava_are_refused(endpoint, preset, tmp_path):
    context = build_context(request(preset, tmp_path / "run"))
    (task,) = context.inputs.tasks
    templated = tuple(replace(each, template="llava") for each in task.questions)
    context.inputs = replace(context.inputs, tasks=(replace(task, questions=templated),))
    endpoint()
    with pytest.raises(UserError, match="chat template of LLaVA"):
        ask_answerers(context)


@pytest.mark.slow
def test_a_kill_costs_only_the_calls_that_were_running(preset, tmp_path):
    """The command itself, killed while some replies are out; those that had arrived are not asked again."""
    stalled = threading.Event()

    def script(number, body):
        if number >= 3 and not stalled.is_set():
            return {"stall": 30, "content": "late"}
        return {"content": "fine"}

    environment = {**os.environ, "PYTHONPATH": PYTHONPATH, "OPENAI_API_KEY": SECRET, "OMP_NUM_THREADS": "1"}
    words = ["compare", "--methods", "vanilla", "--preset", str(preset), "--out", str(tmp_path / "run")]
    command = [sys.executable, "-m", "harness", *words, "--answerer", "theirs=openai:a-model"]
    with serving(script) as server:
        environment["OPENAI_BASE_URL"] = server.url
        running = subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        calls = tmp_path / "run" / "store" / "calls"
        deadline = time.monotonic() + 240
        while len(list(calls.glob("*.manifest")) if calls.is_dir() else []) < 3 and time.monotonic() < deadline:
            time.sleep(0.1)
        running.send_signal(signal.SIGKILL)
        running.communicate()
        answered = {shown(body)[0] for body in server.bodies[:3]}
        before = len(server.bodies)
        stalled.set()
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert "theirs: 3 of 8 replies are stored; to ask: 5 calls" in done.stderr
        again = [shown(body)[0] for body in server.bodies[before:]]
    assert len(again) == len(set(again)) == 5
    assert not answered & set(again)
    assert SECRET not in done.stderr + done.stdout
