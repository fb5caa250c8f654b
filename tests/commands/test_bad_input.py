"""Whole runs with faulty models, data and judges: a clear error before any work, or a marked row."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from benchmarks.errors import UserError
from harness.commands.compare import compare
from harness.commands.undelivered import list_undelivered
from harness.config.settings import Request, resolve
from helpers import published_layout, published_models
from helpers.chat_server import serving
from helpers.log_lines import log_lines

SMALL = ["training.epochs=2", "training.batch_size=4", "training.micro_batch=4", "data.published=false"]
SMALL += ["device=cpu", "precision=float32", "lora.rank=4"]


@pytest.fixture(scope="module")
def laid(tmp_path_factory):
    """A home with a model, EVOKE and two tables."""
    home = tmp_path_factory.mktemp("laid")
    published_models.write_llava(home / "model", brief=True)
    published_layout.write_evoke(home / "EVOKE", 4)
    published_layout.write_tables(home / "tables", ["POPE", "MIA-Bench"])
    return home


@pytest.fixture
def home(laid, tmp_path, monkeypatch):
    """A copy to spoil."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return Path(shutil.copytree(laid, tmp_path / "home"))


def run(home, *more, benchmarks=("EVOKE",), **flags):
    """LoRA under the preset, from this home; returns the result and the log."""
    assignments = [*SMALL, f"data.knowledge={home / 'EVOKE'}", f"data.retention={home / 'tables'}", "data.old=none"]
    flags = {"model": str(home / "model"), "benchmarks": benchmarks} | flags
    resolved = resolve("llava-1.5-7b", [*assignments, *more], flags)
    with log_lines() as lines:
        return compare(Request(("lora",), resolved, home / "run")), lines


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def unsupported(home):
    edit(home / "model" / "config.json", architectures=["MambaForCausalLM"])


def remote_code(home):
    edit(home / "model" / "config.json", auto_map={"AutoModel": "evil.Model"})


def quantised(home):
    edit(home / "model" / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})


def pickled(home):
    (home / "model" / "model.safetensors.index.json").unlink()
    for shard in (home / "model").glob("*.safetensors"):
        shard.rename(shard.with_suffix(".bin"))


def without_a_shard(home):
    sorted((home / "model").glob("*.safetensors"))[-1].unlink()


def outside_its_folder(home):
    _add(home, "../evil.jpg", b"x")


def bomb(home):
    _add(home, "bomb.jpg", bytes(30 << 20))


def _add(home, name, content):
    archive = next((home / "EVOKE" / "imgs").rglob("*entity_injection*.zip"))
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr(name, content)


def named(value):
    return value.__name__ if callable(value) else "message"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (unsupported, "MambaForCausalLM is not supported"),
        (remote_code, "auto_map"),
        (quantised, "quantised already (gptq)"),
        (pickled, "pickled"),
        (without_a_shard, ".safetensors missing"),
    ],
    ids=named,
)
def test_a_model_that_cannot_be_used_is_a_marked_row(home, spoil, message):
    spoil(home)
    result, log = run(home)
    assert result.exit_code == 2
    for cell in result.run.cells:
        assert cell.status == "failed"
        assert message in cell.reason
        assert not cell.scores
    assert message in "".join(log)
    assert message in (home / "run" / "report" / "tables" / "tables.md").read_text().replace("\\", "")
    assert not (home / "run" / "failures.txt").exists(), "it is not a bug"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(outside_its_folder, r"'\.\./evil\.jpg' points outside its folder"), (bomb, "like a zip bomb")],
    ids=named,
)
def test_a_malicious_archive_is_refused_before_any_work(home, spoil, message):
    spoil(home)
    with pytest.raises(UserError, match=message) as caught:
        run(home)
    assert "evoke_entity_injection_imgs.zip" in str(caught.value)
    assert not list(home.rglob("evil.jpg"))
    assert not (home / "run" / "results.json").exists()


def test_a_table_with_another_md5_is_refused_where_the_published_ones_are_required(home):
    with pytest.raises(UserError, match="not the published one: its md5 is") as caught:
        run(home, "data.published=true", benchmarks=("POPE",))
    assert "POPE.tsv" in str(caught.value)
    assert "data.published=false" in caught.value.hint


@pytest.mark.slow
def test_a_judge_that_returns_prose_leaves_its_benchmark_unscored_and_the_rest_as_it_is(home, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    with serving(lambda number, body: {"content": "What a lovely picture! I would say it is quite good."}) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        result, _ = run(home, benchmarks=("EVOKE", "POPE", "MIA-Bench"), judge="openai:judge")
    assert result.exit_code == 2
    assert any(line.startswith("MIA-Bench: not scored in all rows; ") for line in list_undelivered(result.run))
    assert server.bodies
    for cell in result.run.cells:
        assert cell.status == "ok"
        assert cell.scores["POPE"].headline is not None
        assert cell.scores["EVOKE"].headline is not None
        unread = cell.scores["MIA-Bench"]
        assert unread.headline is None
        assert "unjudged" in unread.marks
        assert any("coverage" in note or "read" in note for note in unread.notes)
