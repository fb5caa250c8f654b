"""The process that vLLM runs in, with other programs in its place: it is watched, and nothing of it is left."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from harness.models.batched_generation import GeneratorEnded
from harness.serving import engine as module
from harness.serving.engine import CannotServe, EngineSpec, Prompt, ServedEngine
from harness.serving.messages import read_message, write_message

LOADS = """
import subprocess, sys, time
from harness.serving.messages import read_message, write_message
read_message(sys.stdin.buffer)
child = subprocess.Popen(["sleep", "600"])
print("the last line", file=sys.stderr, flush=True)
write_message(sys.stdout.buffer, {"child": child.pid})
"""
ANSWERS = """
while message := read_message(sys.stdin.buffer):
    values, tensors = message
    total = float(tensors["a"].sum())
    rows = [{"ids": prompt["ids"], "logprobs": [total], "ended": True} for prompt in values["prompts"]]
    write_message(sys.stdout.buffer, {"rows": rows})
"""
REFUSES = """
while read_message(sys.stdin.buffer):
    write_message(sys.stdout.buffer, {"error": "ValueError: too long"})
"""
HANGS = "time.sleep(600)"


@pytest.fixture
def started(monkeypatch, tmp_path):
    """Starts a program in place of vLLM's; gives the engine and the id of a process that the program has started."""
    monkeypatch.setattr(module, "PATIENCE", 1.0)
    engines = []

    def start(program: str) -> tuple[ServedEngine, int]:
        file = tmp_path / "program.py"
        file.write_text(LOADS + program)
        monkeypatch.setattr(module, "WORKER", (str(file),))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        engine = ServedEngine(EngineSpec({}, [2]), tmp_path / "log")
        engines.append(engine)
        return engine, child_of(engine.pid)

    yield start
    for engine in engines:
        engine.close()


def child_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def runs(pid: int) -> bool:
    """Whether a process runs; one that has ended may wait for its parent to notice."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def ended(pid: int) -> bool:
    end = time.monotonic() + 10
    while runs(pid) and time.monotonic() < end:
        time.sleep(0.05)
    return not runs(pid)


def test_a_message_arrives_as_it_was_sent_or_not_at_all():
    stream, tensors = io.BytesIO(), {"a": torch.arange(3.0), "b": torch.zeros(0, 2, dtype=torch.bfloat16)}
    write_message(stream, {"x": [1, "é"]}, tensors)
    write_message(stream, {})
    content = stream.getvalue()
    stream.seek(0)
    values, found = read_message(stream)
    assert values == {"x": [1, "é"]}
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert read_message(stream) == ({}, {})
    assert read_message(stream) is None
    assert read_message(io.BytesIO(content[: len(content) // 2])) is None


def test_prompts_are_answered_and_a_refusal_ends_nothing(started):
    engine, child = started(ANSWERS)
    (found,) = engine.generate([Prompt([5, 2])], {"a": torch.ones(3)})
    assert (found.ids, found.logprobs, found.ended) == ([5, 2], [3.0], True)
    engine, _ = started(REFUSES)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="ValueError: too long"):
            engine.generate([Prompt([1])], {})
    assert runs(child), "control"


@pytest.mark.slow
@pytest.mark.parametrize("program", [ANSWERS, HANGS])
def test_closing_ends_all_that_was_started(program, started):
    engine, child = started(program)
    assert runs(engine.pid)
    assert runs(child)
    engine.close()
    assert ended(engine.pid)
    assert ended(child)


def test_a_killed_process_is_an_error_that_says_how_it_ended(started):
    engine, child = started(HANGS)
    os.kill(engine.pid, signal.SIGKILL)
    with pytest.raises(GeneratorEnded, match=r"has ended \(signal 9: the last line\)"):
        engine.generate([Prompt([1])], {})
    engine.close()
    assert ended(child)


@pytest.mark.slow
def test_a_program_that_cannot_load_the_model_is_refused_with_its_reason(monkeypatch, tmp_path):
    spec = EngineSpec({"model": str(tmp_path)}, [2], environment={"HF_HUB_OFFLINE": "1"})
    with pytest.raises(CannotServe, match="vLLM cannot load it"):
        ServedEngine(spec, tmp_path / "log")


@pytest.mark.slow
def test_the_process_ends_when_the_one_that_started_it_is_killed(tmp_path):
    """With the real worker: its input is closed by the kill alone."""
    program = """
import subprocess, sys, time
process = subprocess.Popen([sys.executable, "-m", "harness.serving.worker"], stdin=subprocess.PIPE,
                           stdout=subprocess.DEVNULL, start_new_session=True)
print(process.pid, flush=True)
time.sleep(600)
"""
    import subprocess

    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    pid = int(parent.stdout.readline())
    assert runs(pid)
    parent.kill()
    parent.wait()
    end = time.monotonic() + 60
    while runs(pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert not runs(pid)
