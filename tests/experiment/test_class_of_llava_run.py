"""A run whose questions are asked as VLMEvalKit's class for LLaVA asks: other answers, and the number says so."""

from __future__ import annotations

from benchmarks.registry import EMBEDDED
from harness.commands.compare import compare
from harness.config.settings import Request, resolve
from harness.experiment.results import read_results
from helpers import published_models, small_runs
from reports.record import VANILLA

NAME = "mini-OCRVQA"


def run(folder, protocol, write):
    """The record of the untouched base's answers to two questions."""
    model, preset = folder / "model", folder / "bench/small.yaml"
    if not preset.exists():
        write(model)
        retention = str(EMBEDDED / "retention")
        small_runs.write_preset(folder / "bench", model, benchmarks=NAME, retention=retention)
    settings = resolve(str(preset), [f"protocol={protocol}", "limit=2"], {})
    compare(Request((VANILLA,), settings, folder / protocol))
    return read_results(folder / protocol)


def test_answers_signature_and_notes(tmp_path):
    found = {name: run(tmp_path, name, published_models.write_llava) for name in ("vlmevalkit", "vlmevalkit-llava")}
    texts, signatures = {}, {}
    for protocol, record in found.items():
        result = record.cells[0].scores[NAME]
        texts[protocol], signatures[protocol] = [item.answer for item in result.items], result.signature
        note = f"{NAME}: asked as VLMEvalKit's own class for LLaVA asks."
        assert (note in record.notes) == (protocol == "vlmevalkit-llava")
    assert texts["vlmevalkit"] != texts["vlmevalkit-llava"]
    assert "|protocol vlmeval|" in signatures["vlmevalkit"]
    assert "|protocol vlmevalkit-llava|" in signatures["vlmevalkit-llava"]


def test_another_model_refuses_before_it_answers(tmp_path):
    cell = run(tmp_path, "llava", published_models.write_qwen).cells[0]
    assert cell.reason == "protocol vlmevalkit-llava: the model has no chat template for this protocol"
    assert not list((tmp_path / "llava/store/answers").glob("*.json"))
