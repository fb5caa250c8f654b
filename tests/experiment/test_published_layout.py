"""A full comparison from folders in the layout of the hub and of VLMEvalKit, with every executor.

A tiny model under the real names, the presets themselves, commands as a user gives them; no network.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.judges import RuleJudge
from benchmarks.retention_specs import SPECS
from helpers import published_layout, published_models
from helpers.chat_server import serving
from helpers.paths import PYTHONPATH, ROOT

pytestmark = pytest.mark.slow
ITEMS = 6
NAMES = ["EVOKE", *(spec.name for spec in SPECS)]
FAMILIES = {
    "llava-1.5-7b": ("llava-hf/llava-1.5-7b-hf", published_models.write_llava, "LLaVA-v1.5-7B"),
    "qwen2.5-vl-7b": ("Qwen/Qwen2.5-VL-7B-Instruct", published_models.write_qwen, "Qwen2.5-VL-7B"),
}
"""By preset: the repository of its model, a function that writes a tiny one, and its name in tables."""
LAUNCH = ("-m", "accelerate.commands.launch", "--config_file", str(ROOT / "harness" / "launch" / "ddp.yaml"))
WAYS: Mapping[str, tuple[Sequence[str], Sequence[str]]] = {
    "one": ((), ()),
    "two": ((), ("--workers", "2")),
    "together": ((*LAUNCH, "--num_processes", "2", "--main_process_port", "0"), ()),
    "ray": ((), ("--executor", "ray", "--workers", "2")),
}
"""By name: arguments between ``python`` and ``-m harness``, and additional flags."""
SMALL = ("training.epochs=1", "training.batch_size=4", "training.micro_batch=4", "data.published=false")
SMALL += (
    "device=cpu",
    "precision=float32",
    "*.learning_rate=0.003",
    "lora.rank=4",
    "kore.rank=4",
    "kore.calibration_samples=4",
    "lora.dropout=0.0",  # several processes draw other masks than one (docs/scale.md)
)


def judged(number: int, body: Mapping[str, Any]) -> dict[str, Any]:
    """The server's reply: the rule judge's opinion of the prompt, and that no choice can be read."""
    parts = body["messages"][0]["content"]
    prompt = parts if isinstance(parts, str) else next(part["text"] for part in parts if part["type"] == "text")
    return {"content": "Z" if "help me to match" in prompt else RuleJudge().generate(prompt)}


def command(home: Path, *arguments: str, before: Sequence[str] = (), url: str = "") -> str:
    """Run the program as a user with this home; returns its output."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_", "RAY_"))}
    own = {"HOME": str(home), "PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    own |= {"OPENAI_API_KEY": "sk-x", "OPENAI_BASE_URL": url, "RAY_worker_niceness": "0"}  # Ray's own: the last in line
    line = [sys.executable, *before, "-m", "harness", *arguments]
    done = subprocess.run(line, capture_output=True, text=True, env=kept | own, cwd=home, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def tables(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run / "report" / "tables").iterdir())}


def record(run: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """The run's record without its costs, by path: what must be equal, and what may differ by rounding."""
    content = json.loads((run / "results.json").read_text())
    for cell in content["cells"]:
        cell["cost"] = {name: cell["cost"][name] for name in ("optimiser_steps", "supervised_tokens")}
    flat = dict(leaves(content))
    numbers = {place: value for place, value in flat.items() if isinstance(value, float)}
    texts = {place: value for place, value in flat.items() if place not in numbers}
    return texts, numbers


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict | list):
        yield place, value
        return
    for key, each in value.items() if isinstance(value, dict) else enumerate(value):
        yield from leaves(each, f"{place}/{key}")


@pytest.fixture(params=FAMILIES)
def preset(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A preset whose requirements are all in ``tmp_path``, the home."""
    repository, write, _ = FAMILIES[request.param]
    published_layout.cached(tmp_path, "model", repository, write(tmp_path / "fresh", brief=True))
    published_layout.cached(
        tmp_path, "dataset", "kailinjiang/EVOKE", published_layout.write_evoke(tmp_path / "EVOKE", ITEMS)
    )
    kore = published_layout.write_kore_74k(tmp_path / "KORE-74K", ITEMS)
    published_layout.cached(tmp_path, "dataset", published_layout.KORE_74K, kore)
    published_layout.write_tables(tmp_path / "LMUData")
    published_layout.write_pools(tmp_path / "harness-data", 12)
    return request.param


def test_every_executor_gives_the_same_tables(preset: str, tmp_path: Path) -> None:
    flags = ["--methods", "lora,kore", "--preset", preset, "--judge", "openai:judge"]
    for assignment in SMALL:
        flags += ["--set", assignment]
    with serving(judged) as server:
        for way, (before, more) in WAYS.items():
            command(tmp_path, "compare", *flags, "--out", way, *more, before=before, url=server.url)
        assert server.bodies, "the judge was asked"
    check(tmp_path / "one", preset)
    texts, numbers = record(tmp_path / "one")
    for way in WAYS:
        assert tables(tmp_path / way) == tables(tmp_path / "one") != {}
        if way != "together":  # its adapters, and what is named after them, differ by rounding
            assert record(tmp_path / way) == (texts, pytest.approx(numbers, rel=1e-4, abs=1e-6)), way
    # Without the server: every reply is stored, so nothing is computed or asked again.
    output = command(tmp_path, "compare", *flags, "--out", "one")
    assert "reused from earlier runs: 2 training, 39 answers, 39 scores; 0 scores are new" in output
    command(tmp_path, "verify", "ray")
    # With a limit, KORE-74K's rows, which name no item, are matched with the items.
    # One step alone has the rate 0, as in Hugging Face's schedule.
    few = ["--out", "few", "--limit", "2", "--benchmarks", "EVOKE", "--set", "training.epochs=2"]
    command(tmp_path, "compare", *flags, *few)
    limited = json.loads((tmp_path / "few" / "results.json").read_text())
    assert limited["cells"][2]["branches"] == dict.fromkeys(("caption", "dialogue", "recognition", "vqa"), 2)


def check(run: Path, preset: str) -> None:
    """Check a finished run against what the preset promises."""
    content = json.loads((run / "results.json").read_text())
    assert str(run.parent) not in (run / "results.json").read_text()
    cells = {cell["label"]: cell for cell in content["cells"]}
    assert list(cells) == ["vanilla", "lora", "kore"]
    llava = preset.startswith("llava")
    for cell in cells.values():
        assert (cell["model"], cell["status"]) == (FAMILIES[preset][2], "ok")
        assert list(cell["scores"]) == NAMES
        for name, score in cell["scores"].items():
            assert score["headline"] is not None, name
        by_scripts = [name for name, score in cell["scores"].items() if "|protocol llava|" in score["signature"]]
        assert by_scripts == (["MME", "MMBench", "ScienceQA", "POPE"] if llava else [])
        by_class = [
            name for name, score in cell["scores"].items() if "|protocol vlmevalkit-llava|" in score["signature"]
        ]
        assert len(by_class) == (8 if llava else 0)
        assert cell["scores"]["MIA-Bench"]["judge"] == "openai:judge"
    headlines = [[score["headline"] for score in cell["scores"].values()] for cell in cells.values()]
    answers = [
        [item["answer"] for score in cell["scores"].values() for item in score["items"]] for cell in cells.values()
    ]
    assert answers[0] != answers[1] != answers[2] != answers[0], "each row has answers of its own"
    assert sum(each > 0 for row in zip(*headlines, strict=True) for each in row) > 6, headlines
    assert cells["kore"]["data"].startswith("augmented-")
    assert cells["kore"]["branches"] == dict.fromkeys(("caption", "dialogue", "recognition", "vqa"), ITEMS)
    assert cells["lora"]["branches"] == {"knowledge": ITEMS}
    assert cells["kore"]["cost"]["supervised_tokens"] > cells["lora"]["cost"]["supervised_tokens"]
    assert "calibration pool, LLaVA-OneVision-Data: 2 FigureQA(MathV360K), 2 iiit5k." in cells["kore"]["our_reading"]
    marks = {
        label: [name for name, score in cell["scores"].items() if "related" in score["marks"]]
        for label, cell in cells.items()
    }
    assert marks == {"vanilla": [], "lora": [], "kore": ["MathVista"]}
    asked = [note for note in content["notes"] if "protocol llava," in note]
    named = {name for note in asked for name in note.partition(":")[0].split(", ")}
    assert named == ({"MME", "MMBench", "ScienceQA", "POPE"} if llava else set())
    assert not any("LLaVA's own protocol" in note for note in content["notes"]), "each protocol is named once"
    shown = [path.read_text("utf-8") for path in (run / "report").rglob("*.md")]
    assert all(any(note in text for text in shown) for note in asked)
