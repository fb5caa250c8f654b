"""Calibration and replay pools: which serves a purpose, what is drawn, the earlier key, and what reports say of it."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from itertools import islice

import pytest
import torch

from benchmarks.data_sources import related
from benchmarks.errors import UserError
from benchmarks.records import content_digest
from harness.config.schema import Pool
from harness.config.settings import Request, resolve
from harness.data.pools import HELD_OUT, FilePool, MiniPool, Pools, open_pool, open_pools
from harness.data.requirements import check_requirements, list_requirements
from harness.experiment import resources as resources_module
from harness.experiment.compose import compose
from harness.experiment.context import build_context
from harness.experiment.draws import describe_draws, related_benchmarks
from harness.experiment.outputs import CellOutput
from harness.experiment.request_file import read_request, write_request
from harness.experiment.resources import CellResources, make_resources
from harness.experiment.rows import list_cells
from harness.experiment.stages import list_stages, merge_records
from harness.storage.store import Store
from helpers import small_runs
from helpers.pool_files import write_pool
from reports.statistics.analysis import analyse
from reports.tables.notes import table_notes

ONEVISION = ("LLaVA-OneVision:FigureQA(MathV360K)", "LLaVA-OneVision:iiit5k")
MIXTURE = ("llava_v1_5_mix665k:coco", "llava_v1_5_mix665k:vg")


@pytest.fixture
def pools(tmp_path):
    calibration = write_pool(tmp_path / "calibration", {ONEVISION[0]: 30, ONEVISION[1]: 6})
    replay = write_pool(tmp_path / "replay", {MIXTURE[0]: 60, MIXTURE[1]: 20}, first=100)
    return open_pools(str(calibration), str(replay))


def resources(pools, tmp_path, seed=0):
    return CellResources(seed, pools, Store(tmp_path / "store"), {})


def test_a_file_is_drawn_from_without_repetition_and_by_content(tmp_path):
    file = write_pool(tmp_path, {"": 5})
    source = open_pool(str(file), Pool.REPLAY)
    first = [sample.id for sample in source.stream(0, "replay")]
    assert sorted(first) == list("01234")
    assert first == [sample.id for sample in source.stream(0, "replay")]
    assert any([sample.id for sample in source.stream(seed, "replay")] != first for seed in range(1, 4))
    assert open_pool(str(file), Pool.REPLAY).fingerprint() == source.fingerprint()
    own = resources(Pools(source, source), tmp_path)
    chosen, other = own.pool_samples(2, "replay"), own.pool_samples(3, "calibration")
    assert not {sample.id for sample in chosen} & {sample.id for sample in other}
    with pytest.raises(UserError, match="6 different samples are needed for replay, but the replay pool has only 5"):
        resources(Pools(source, source), tmp_path).pool_samples(6, "replay")
    rows = json.loads(file.read_text())
    rows[0]["conversations"][1]["value"] = "changed"
    file.write_text(json.dumps(rows))
    assert open_pool(str(file), Pool.REPLAY).fingerprint() != source.fingerprint()


def test_samples_held_out_of_a_file_for_tuning_are_given_to_no_method(tmp_path):
    pool = open_pool(str(write_pool(tmp_path, {MIXTURE[0]: 100, MIXTURE[1]: 60})), Pool.REPLAY)

    def drawn(purpose, seed):
        return [sample.id for sample in pool.stream(seed, purpose)]

    held_out = set(drawn("tuning", 0))
    assert len(held_out) == 160 // 8
    for purpose in ("replay", "replay, stage 2", "fisher", "pseudo-task"):
        for seed in range(3):
            assert not held_out & set(drawn(purpose, seed))
            assert len(drawn(purpose, seed)) == 140
    assert held_out == set(drawn("tuning", 1))
    assert len(drawn("calibration", 0)) == 160  # reads no answers
    with pytest.raises(UserError, match="128 different samples are needed for tuning, but the replay pool has only 20"):
        resources(Pools(pool, pool), tmp_path).pool_samples(HELD_OUT, "tuning")


def test_a_large_file_holds_out_as_many_as_tuning_reads(tmp_path):
    sizes = {}
    for count in (1016, 1024, 1200):
        file = tmp_path / "pool.json"
        talk = [[{"from": "human", "value": f"What is {n}?"}, {"from": "gpt", "value": f"{n}."}] for n in range(count)]
        file.write_text(json.dumps([{"id": f"a/{n}", "conversations": turns} for n, turns in enumerate(talk)]))
        pool = open_pool(str(file), Pool.REPLAY)
        sizes[count] = [len(list(pool.stream(0, purpose))) for purpose in ("tuning", "replay")]
    assert sizes == {1016: [127, 889], 1024: [128, 896], 1200: [128, 1072]}


def test_calibration_alone_is_drawn_from_the_calibration_pool(pools, tmp_path):
    own = resources(pools, tmp_path)
    for purpose in ("replay", "replay, stage 2", "fisher", "pseudo-task", "tuning", "calibration"):
        samples = own.pool_samples(4, purpose)
        prefix = "LLaVA-OneVision" if purpose == "calibration" else "llava_v1_5_mix665k"
        assert {sample.id.partition(":")[0] for sample in samples} == {prefix}, purpose
    assert {draw["purpose"]: draw["pool"] for draw in own.draws}["fisher"] == "replay"


def test_calibration_is_even_over_sources_and_replay_over_rows(pools, tmp_path):
    def drawn(purpose, count, seed):
        samples = resources(pools, tmp_path, seed).pool_samples(count, purpose)
        return samples, Counter(pools.calibration.source(sample) for sample in samples)

    for seed in range(5):
        assert drawn("calibration", 12, seed)[1] == dict.fromkeys(ONEVISION, 6)  # 30 and 6 in the file
        assert drawn("replay", 40, seed)[1][MIXTURE[0]] > 24  # 30 expected of the 60 among 80
    one, other = (frozenset(sample.id for sample in drawn("calibration", 12, seed)[0]) for seed in (0, 1))
    assert one != other  # random rows of each, not the first
    assert drawn("calibration", 20, 0)[1] == {ONEVISION[0]: 14, ONEVISION[1]: 6}  # the smaller source is used up
    assert list(FilePool(tmp_path / "replay" / "pool.json", balanced=False).stream(3, "x")) == list(
        pools.replay.stream(3, "x")
    )


def test_the_miniature_s_draws_are_the_same_as_ever():
    """Digests of the first three samples, computed when there was one pool for all purposes."""
    before = {
        ("calibration", 0): "b818c16bff0ffbd7",
        ("calibration", 1): "bd716bb0d972a2d0",
        ("replay", 0): "a308e358fe042d78",
        ("replay", 1): "b0b309bbedfeae27",
        ("fisher", 0): "34462220e25622c2",
        ("fisher", 1): "4e18c3b225791f1c",
    }
    for preset in ("mini", "mini-qwen"):
        data = resolve(preset).settings.data
        pools = open_pools(data.calibration, data.replay)
        for (purpose, seed), expected in before.items():
            stream = pools[pools.name_for(purpose)].stream(seed, purpose)
            assert content_digest(islice(stream, 3))[:16] == expected, (preset, purpose, seed)


def test_an_absent_pool_is_named(tmp_path):
    own = resources(open_pools("none", "mini"), tmp_path)
    assert len(own.pool_samples(2, "fisher")) == 2
    with pytest.raises(UserError, match=r"data\.calibration: samples of the calibration pool are needed") as caught:
        own.pool_samples(1, "calibration")
    assert "set data.calibration" in str(caught.value)
    with pytest.raises(UserError, match=r"data\.replay: there is no source of samples 'min'"):
        open_pools("mini", "min")


@pytest.mark.parametrize(
    ("methods", "sets", "needed"),
    [
        ("vanilla", (), set()),
        ("lora,o-lora,kore:no-constraint,kore:constraint-MME", (), set()),
        ("kore", (), {"calibration-pool"}),
        ("replay,lora", (), {"replay-pool"}),
        ("replay", ("replay.ratio=0",), set()),
        ("o-lora", ("o-lora.pseudo_ratio=0.1",), {"replay-pool"}),
        ("all", (), {"calibration-pool", "replay-pool"}),
    ],
)
def test_only_the_pools_that_the_rows_draw_from_must_be_there(tmp_path, methods, sets, needed):
    absent = [f"data.{pool}={tmp_path / pool}.json" for pool in ("calibration", "replay")]
    resolved = resolve("mini", [*absent, *sets], {"benchmarks": ("mini-EVOKE",)})
    request = Request(tuple(methods.split(",")), resolved, tmp_path / "run")
    if needed:
        with pytest.raises(UserError, match=f"^preset mini: {', '.join(sorted(needed))}: not there"):
            check_requirements(resolved, request.methods)
        with pytest.raises(UserError, match=r"(calibration|replay)\.json"):
            build_context(request)
    else:
        check_requirements(resolved, request.methods)
        pools = build_context(request).inputs.pools
        assert {pools.calibration.description, pools.replay.description} == {"not read by these methods"}
    with pytest.raises(UserError, match="replay-pool: not there"):  # tune judges by it
        check_requirements(resolved, request.methods, [Pool.REPLAY])


def test_a_source_that_does_not_exist_is_refused_though_no_row_reads_it():
    with pytest.raises(UserError, match=r"data\.replay: there is no source of samples 'min'"):
        open_pools("mini", "min", read=[Pool.CALIBRATION])


def test_the_earlier_key_sets_both_pools(tmp_path):
    old = resolve("mini", ["data.old=none"])
    assert (old.settings.data.calibration, old.settings.data.replay) == ("none", "none")
    assert old.origin("data.replay") == "--set"
    later = resolve("mini", ["data.old=none", "data.replay=mini"])
    assert (later.settings.data.calibration, later.settings.data.replay) == ("none", "mini")
    preset = tmp_path / "mine.yaml"
    preset.write_text("model: m\ndata: {knowledge: k, retention: r, old: own.json}\nbenchmarks: [mini-EVOKE]\n")
    settings = resolve(str(preset)).settings
    assert settings.data.calibration == settings.data.replay == str(tmp_path / "own.json")
    needs = {need.name: need for need in list_requirements(resolve(str(preset)))}
    assert (needs["calibration-pool"].source, needs["calibration-pool"].problem) == ("", "not there")


def test_the_folder_of_an_earlier_run_can_be_read(tmp_path):
    write_request(Request(("lora",), resolve("mini"), tmp_path))
    content = json.loads((tmp_path / "settings.json").read_text())
    data = content["settings"]["data"]
    data["old"] = data.pop("calibration")
    del data["replay"]
    (tmp_path / "settings.json").write_text(json.dumps(content))
    assert read_request(tmp_path).resolved.settings == resolve("mini").settings


def test_the_real_presets_name_two_pools_and_where_they_are_from():
    for preset in ("llava-1.5-7b", "llava-1.5-13b", "qwen2.5-vl-7b"):
        needs = {need.name: need.source for need in list_requirements(resolve(preset)) if need.kind == "pool"}
        assert needs == {
            "calibration-pool": "lmms-lab/LLaVA-OneVision-Data",
            "replay-pool": "liuhaotian/LLaVA-Instruct-150K",
        }


def composed(pools, tmp_path, *methods):
    """The record of cells that drew as their methods do, on the benchmarks of a published preset."""
    resolved = resolve("llava-1.5-7b", ["kore.data=evoke", "kore.rank=8"])
    tasks = tuple(FakeTask(name) for name in ("MathVista", "POPE", "MMMU"))
    outputs = []
    for cell in list_cells(methods, resolved):
        own = resources(pools, tmp_path)
        if cell.method == "kore":
            own.pool_samples(10, "calibration")
        if cell.method in ("replay", "ewc"):
            own.pool_samples(20, "replay")
        outputs.append(CellOutput(cell, training=merge_records([{"draws": own.draws}]) if cell.settings else {}))
    return compose(outputs, FakeInputs(tasks), resolved, "")


@dataclasses.dataclass
class FakeTask:
    name: str
    benchmark: object = None
    questions: tuple = ()
    further: object = None
    asks_new_knowledge: bool = False


@dataclasses.dataclass
class FakeInputs:
    tasks: tuple
    all_items: tuple = ()
    knowledge: tuple = ()
    item_ids: tuple = ()


def test_the_record_names_what_was_drawn_and_marks_what_is_related(pools, tmp_path):
    run = composed(pools, tmp_path, "lora", "kore", "replay")
    cells = {cell.label: cell for cell in run.cells}
    assert {name: cell.marks for name, cell in cells.items()} == {
        "vanilla": (),
        "lora": (),
        "kore": ("related",),
        "replay": ("related",),
    }
    assert "own pre-training data" not in " ".join(cell.our_reading for cell in run.cells)
    assert cells["kore"].our_reading.endswith(
        "For calibration, 10 samples of the calibration pool, LLaVA-OneVision-Data: 5 FigureQA(MathV360K), 5 iiit5k."
    )
    assert "replay pool, llava_v1_5_mix665k, the instruction data of LLaVA-1.5: " in cells["replay"].our_reading
    kore, replay = (note for note in run.notes if "draws samples" in note)
    assert kore == (
        "kore draws samples from data sets that benchmarks of this run were made from: MathVista (FigureQA(MathV360K))."
    )
    assert replay.endswith("MathVista (coco); POPE (coco).")
    assert cells["kore"].ranked  # shown, and ranked
    analysis = analyse(run)
    shown = " ".join(table_notes(analysis, {}, "main"))
    assert "∩ related: the method draws samples from a data set" in shown
    assert kore in shown


def test_control_pools_without_relation_leave_no_mark(tmp_path):
    pools = Pools(MiniPool(), open_pool(str(write_pool(tmp_path, {MIXTURE[1]: 30})), Pool.REPLAY))
    run = composed(pools, tmp_path, "kore", "replay")
    assert {cell.marks for cell in run.cells} == {()}
    assert run.cells[1].our_reading.endswith("pool, the lessons that this base was pre-trained on last.")


def test_sources_are_compared_by_name():
    names = ("MathVista", "OCRVQA", "POPE", "ScienceQA", "MME")
    assert related("LLaVA-OneVision:Geometry3K(MathV360K)", names) == ["MathVista"]
    assert related("VizWiz(MathV360K)", names) == ["MathVista"]
    assert related("llava_v1_5_mix665k:ocr_vqa", names) == ["OCRVQA"]
    assert related("llava_v1_5_mix665k:coco", names) == ["MathVista", "POPE"]
    assert related("scienceqa(nona_context)", names) == ["MathVista", "ScienceQA"]
    assert related("iiit5k", names) == related("", names) == related("llava_v1_5_mix665k:text", names) == []
    assert related_benchmarks([{"sources": {"FigureQA": 3}}], ["mini-MathVista", "MMMU"]) == {}
    assert describe_draws([]) == ""


def test_draws_of_all_stages_are_kept():
    merged = merge_records([{"draws": [{"purpose": "replay"}]}, {"draws": [{"purpose": "replay, stage 2"}]}])
    assert [draw["purpose"] for draw in merged["draws"]] == ["replay", "replay, stage 2"]


@pytest.mark.parametrize("changed", ["core_digest", "versions"])
def test_statistics_are_measured_again_by_another_core_and_with_other_libraries(
    changed, tiny_folder, tmp_path, monkeypatch
):
    preset = small_runs.write_preset(tmp_path, tiny_folder)
    context = build_context(Request(("lora",), resolve(str(preset)), tmp_path / "run"))
    (stage,) = list_stages(context, context.cells[1])
    values = iter((1.0, 2.0))

    def measure():
        found = make_resources(context, stage).cached({"what": "x"}, lambda: {"x": torch.tensor([next(values)])})
        return float(found["x"])

    assert [measure(), measure()] == [1.0, 1.0]
    monkeypatch.setattr(resources_module, changed, lambda *names: "another")
    assert [measure(), measure()] == [2.0, 2.0]
