"""A whole comparison from folders as the hub and VLMEvalKit lay them out: a tiny model, the real names, no network."""

import json
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
import tiny
from chat_server import serving

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
import synthetic

from benchmarks.judges import RuleJudge
from benchmarks.retention import BY_NAME
from harness.compare import compare
from harness.settings import Request, resolve
from harness.verify import verify

ITEMS = 6
NAMES = ("POPE", "ScienceQA", "OCRVQA", "MIA-Bench", "MathVision")


def hub_folder(home, kind, name):
    folder = home / ".cache/huggingface/hub" / f"{kind}s--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    return folder / "snapshots" / "abc"


def lay_out(home, model):
    """Model and EVOKE in the hub's cache, tables in VLMEvalKit's folder, old data where the preset looks for it."""
    shutil.copytree(model, hub_folder(home, "model", "llava-hf/llava-1.5-7b-hf"))
    evoke = hub_folder(home, "dataset", "kailinjiang/EVOKE")
    texts, images = evoke / "json" / "jsonl", evoke / "imgs"
    for folder in (texts, images / "injection", images / "evaluation"):
        folder.mkdir(parents=True)
    injected, asked = [], []
    with (
        zipfile.ZipFile(images / "injection" / "evoke_entity_injection_imgs.zip", "w") as learnt,
        zipfile.ZipFile(images / "evaluation" / "evoke_entity_evaluation_imgs.zip", "w") as shown,
    ):
        for number, item in enumerate(tiny.knowledge(ITEMS), start=1):
            learnt.writestr(f"wikidata_imgs/Thing {number}_wiki.jpg", item.picture.encoded)
            shown.writestr(f"eval_wikidata_imgs/Thing {number}_0.jpg", tiny.picture(900 + number).encoded)
            turns = [{"from": "human", "value": f"<image>\n{item.prompt}"}, {"from": "gpt", "value": item.text}]
            image = f"wikidata_imgs/Thing {number}_wiki.jpg"
            injected.append({"id": number, "image": image, "conversations": turns})
            row = {"question_id": number, "image": f"eval_wikidata_imgs/Thing {number}_0.jpg", "answer": "'one'"}
            text = "'How many?'\nAnswer the question using a single word or phrase."
            asked.append(row | {"text": text, "type": "film", "cnn_wiki_type": "wiki"})
    (texts / "evoke_injection_data.json").write_text(json.dumps(injected))
    (texts / "evoke_evaluation_data.jsonl").write_text("\n".join(json.dumps(row) for row in asked))
    (home / "LMUData").mkdir()
    for name in NAMES:
        synthetic.write(synthetic.TABLES[name]()[0], home / "LMUData" / f"{BY_NAME[name].dataset}.tsv")
    old = home / "harness-data" / "onevision"
    old.mkdir(parents=True)
    rows = []
    for number in range(12):
        (old / f"{number}.png").write_bytes(tiny.picture(500 + number).encoded)
        turns = [{"from": "human", "value": f"<image>\nWhat is {number}?"}, {"from": "gpt", "value": "A thing."}]
        rows.append({"id": number, "image": f"{number}.png", "conversations": turns})
    (old / "old_data.json").write_text(json.dumps(rows))


@pytest.mark.slow
def test_the_preset_runs_from_published_layouts(tmp_path, tiny_folder, monkeypatch):
    home = tmp_path / "home"
    for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    lay_out(home, tiny_folder)
    small = [
        "training.epochs=1",
        "training.batch_size=4",
        "device=cpu",
        "precision=float32",
        "kore.rank=4",
        "lora.rank=4",
    ]
    small += ["kore.calibration_samples=4", "data.published=false", "training.micro_batch=4"]

    def content(number, body):
        parts = body["messages"][0]["content"]
        said = parts if isinstance(parts, str) else next(part["text"] for part in parts if part["type"] == "text")
        return {"content": RuleJudge().generate(said)}

    with serving(content) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        flags = {"benchmarks": ("EVOKE", *NAMES), "judge": "openai:judge"}
        request = Request(("lora", "kore"), resolve("llava-1.5-7b", small, flags), tmp_path / "run")
        outcome = compare(request, print)
        assert outcome.exit_code == 0
        calls = len(server.bodies)
        assert calls > 0
    cells = {cell.label: cell for cell in outcome.run.cells}
    assert set(cells) == {"vanilla", "lora", "kore"}
    for cell in cells.values():
        assert cell.model == "LLaVA-v1.5-7B"
        assert set(cell.scores) == {"EVOKE", *NAMES}
        assert all(score.headline is not None for score in cell.scores.values())
        assert "|protocol llava|" in cell.scores["POPE"].signature
        assert "|protocol vlmeval|" in cell.scores["OCRVQA"].signature
        assert cell.scores["MIA-Bench"].judge == "openai:judge"
        assert any("LLaVA's protocol" in note for note in cell.scores["ScienceQA"].notes)
    assert str(tmp_path) not in (tmp_path / "run" / "results.json").read_text()
    told = "POPE, ScienceQA: by LLaVA's own protocol; every other benchmark of the twelve by VLMEvalKit's."
    assert told in outcome.run.notes
    shown = [path.read_text("utf-8") for path in (tmp_path / "run" / "report").rglob("*.md")]
    assert any(told in text for text in shown)
    # With the server gone, every reply is there: nothing is computed, asked or found different.
    again = compare(request, print)
    assert again.run == outcome.run
    assert not verify(tmp_path / "run").differences
