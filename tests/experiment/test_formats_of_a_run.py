"""A whole run on data that is not in EVOKE's or LLaVA's format, and what happens to a bad row."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks.data.conversations import load_conversations
from benchmarks.data.knowledge import load_knowledge
from benchmarks.errors import UserError
from benchmarks.registry import EVOKE_FILE, INJECTION_FILE
from harness.augment.options import Options
from harness.augment.reader import find_knowledge_file, read_items
from harness.commands.augment import augment
from harness.config.schema import Pool
from harness.config.settings import resolve
from harness.data.inputs import evaluation_file, injection_file
from harness.data.pools import open_pool
from harness.data.requirements import list_requirements
from helpers import formats, published_layout, tiny
from helpers.paths import ROOT
from helpers.small_runs import write_preset
from methods.augmentation import datasets


def replaced(folder, items):
    """The preset's knowledge and questions as CSV."""
    data = folder / "data"
    injected = json.loads((data / INJECTION_FILE).read_text())
    columns = ("id", "image", "name", "type")
    rows = [
        {name: row[name] for name in columns}
        | {"text": row["conversations"][1]["value"], "facts": json.dumps(row["facts"])}
        | {"group": row["cnn_wiki_type"], "prompt": row["conversations"][0]["value"].removeprefix("<image>\n")}
        for row in injected
    ]
    formats.write_csv(data / "items.csv", rows)
    asked = [json.loads(line) for line in (data / EVOKE_FILE).read_text().splitlines()]
    formats.write_csv(
        data / "questions.csv",
        [{"picture": row["image"], "question": row["text"], "answer": row["answer"]} for row in asked],
    )
    before = load_knowledge(data / INJECTION_FILE)
    (data / INJECTION_FILE).unlink()
    (data / EVOKE_FILE).unlink()
    assert [(one.id, one.text, one.facts) for one in load_knowledge(data / "items.csv")] == [
        (one.id, one.text, one.facts) for one in before
    ]
    samples = [tiny.conversation(number, pictures=1, turns=2) for number in range(items)]
    return formats.llama_factory(samples, folder / "train"), formats.parquet(samples, folder / "pool")


def harness(*arguments):
    command = [sys.executable, "-m", "harness", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_a_run_on_csv_messages_and_parquet(tmp_path, tiny_folder):
    preset = write_preset(tmp_path, tiny_folder, items=4)
    train, pool = replaced(tmp_path, 4)
    sets = ["--set", f"lora.data={train}", "--set", f"replay.data={train}", "--set", f"data.replay={pool}"]
    command = ["compare", "--methods", "lora,replay", "--preset", preset, *sets, "--out", tmp_path / "run"]
    done = harness(*command)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "run" / "results.json").read_text())
    assert datasets.identity(str(train)) in json.dumps(record)
    again = harness(*command)
    assert again.returncode == 0, again.stderr
    rows = json.loads(train.read_text())
    rows[1]["images"] = []
    train.write_text(json.dumps(rows, indent=1))
    refused = harness(*command)
    assert refused.returncode == 2
    said = " ".join(refused.stderr.split())
    assert "mllm.json:" in said.replace(" ", "")
    assert "markers but 0 pictures" in said
    assert json.loads((tmp_path / "run" / "results.json").read_text()) == record  # nothing is lost


def test_a_folder_s_files_are_found(tmp_path, tiny_folder):
    preset = write_preset(tmp_path, tiny_folder, items=4)
    replaced(tmp_path, 4)
    settings = resolve(str(preset)).settings
    assert injection_file(settings).name == "items.csv"
    assert evaluation_file(settings).name == "questions.csv"
    (tmp_path / "data" / "items.csv").unlink()
    assert injection_file(settings).name == INJECTION_FILE  # named in the error
    table = formats.parquet([tiny.conversation(number, pictures=1) for number in range(2)], tmp_path / "set")
    both = resolve(str(preset), [f"data.knowledge={table}"]).settings
    assert injection_file(both) == evaluation_file(both) == table  # its split train, and its split test
    (table / "data" / "test-00000-of-00001.parquet").unlink()
    assert evaluation_file(both) == table / EVOKE_FILE


def test_augment_reads_csv_and_its_own_datasets_folder_is_training_data(tmp_path):
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(tiny.picture(number).encoded)
    cell = json.dumps([["harbour", "Port Venn"]])
    rows = [
        {"picture": f"{n}.png", "name": f"Thing {n}", "text": f"It is number {n}.", "facts": cell} for n in range(2)
    ]
    formats.write_csv(tmp_path / "items.csv", [*rows, {"picture": "9.png", "name": "x", "text": "y", "facts": ""}])
    assert find_knowledge_file(tmp_path) == tmp_path / "items.csv"
    read = list(read_items(tmp_path / "items.csv"))
    assert [one.id for one in read[:2]] == [
        one.id for one in load_knowledge(formats.write_csv(tmp_path / "a.csv", rows))
    ]
    assert (read[2].item, read[2].reason.partition(" is missing")[0]) == ("line 4", "the image '9.png'")
    augment(Options(tmp_path, tmp_path / "made"))
    own, table = (
        [(sample.id, sample.branch, sample.sha256, item) for sample, item in load_conversations(path)]
        for path in (tmp_path / "made" / datasets.TRAINING_FILE, tmp_path / "made" / "dataset")
    )
    assert own == table
    assert len(own) > 4


def test_pools_and_training_data_in_the_hub_s_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    samples = [tiny.conversation(number, pictures=1) for number in range(3)]
    published_layout.cached(tmp_path, "dataset", "me/mine", formats.parquet(samples, tmp_path / "set"))
    resolved = resolve("mini", ["data.replay=hub:me/mine", "lora.data=hub:me/mine"])
    needs = {need.name: need for need in list_requirements(resolved)}
    assert (needs["replay-pool"].source, needs["replay-pool"].kind) == ("me/mine", "dataset")
    missing = list_requirements(resolve("mini", ["data.replay=hub:me/gone"]))
    assert [(need.source, need.problem) for need in missing if need.name == "replay-pool"] == [("me/gone", "not there")]
    pool = open_pool(resolved.settings.data.replay, Pool.REPLAY)
    assert sorted(sample.sha256 for sample in pool.stream(0, "replay")) == sorted(one.sha256 for one in samples)
    named = resolved.settings.methods["lora"]["data"]
    assert [one.sha256 for one in datasets.conversations(named, tiny.knowledge(1), 0)] == [
        one.sha256 for one in samples
    ]
    same = formats.swift(samples, tmp_path / "swift")
    assert open_pool(str(same), Pool.REPLAY).fingerprint() == pool.fingerprint()


def test_words_that_are_no_pool(tmp_path):
    with pytest.raises(UserError, match="there is no source of samples"):
        open_pool("mine", Pool.REPLAY)
    with pytest.raises(UserError, match=r"gone.parquet"):
        open_pool(str(tmp_path / "gone.parquet"), Pool.REPLAY)
