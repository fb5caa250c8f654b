"""A run whose questions are asked as VLMEvalKit's class for LLaVA asks: other answers, and the number says so."""

from __future__ import annotations

import pytest

from benchmarks.errors import UserError
from benchmarks.registry import EMBEDDED
from harness.commands import doctor
from harness.commands.compare import compare
from harness.commands.plan import plan
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


@pytest.mark.slow
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


def test_a_run_with_another_model_is_refused_before_anything_is_computed(tmp_path):
    with pytest.raises(UserError, match="no chat template for this protocol") as refused:
        run(tmp_path, "llava", published_models.write_qwen)
    assert (refused.value.location, refused.value.hint) == ("protocol vlmevalkit-llava", "use --protocol vlmevalkit")
    assert not (tmp_path / "llava/results.json").exists()
    assert run(tmp_path, "vlmevalkit", published_models.write_qwen).cells[0].scores[NAME].items  # control


def test_plan_and_doctor_know_it_too(tmp_path):
    """EVOKE has no protocol, so a run of it alone is no fault."""

    def planned(benchmarks):
        return plan(Request((VANILLA,), resolve("mini-qwen", ["protocol=llava"], {"benchmarks": benchmarks}), tmp_path))

    with pytest.raises(UserError, match="no chat template for this protocol"):
        planned(("mini-EVOKE", "mini-MMMU"))
    assert planned(("mini-EVOKE",))
    states = {
        (preset, protocol): [
            line.state
            for line in doctor.examine(tmp_path, preset, None, [f"protocol={protocol}"])
            if "protocol" in line.what
        ]
        for preset, protocol in [("mini-qwen", "llava"), ("mini-qwen", "vlmevalkit"), ("mini", "llava")]
    }
    assert states == {("mini-qwen", "llava"): ["missing"], ("mini-qwen", "vlmevalkit"): [], ("mini", "llava"): []}
