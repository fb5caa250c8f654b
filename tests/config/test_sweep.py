"""Methods crossed with data and settings: the rows, their labels, and which of them are the same cell."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from benchmarks.errors import UserError
from harness.commands.compare import compare
from harness.commands.plan import plan
from harness.commands.verify import verify
from harness.config.settings import Request, resolve
from harness.config.sweep import parse_axes, parse_sweep
from harness.experiment.cell import CacheInputs
from harness.experiment.rows import list_cells
from helpers import small_runs
from methods.registry import expand_names, registered


def rows(names: str, *sets: str, data: str | None = None, sweep: tuple[str, ...] = (), preset: str = "mini"):
    resolved = resolve(preset, sets, {"cross": parse_axes(data, sweep)})
    return [cell for cell in list_cells(names.split(","), resolved) if cell.settings]


def own(folder: Path, text: str) -> str:
    path = folder / "own.yaml"
    path.write_text(f"model: m\ndata: {{knowledge: d, retention: d}}\nbenchmarks: [mini-EVOKE]\nmethods:\n{text}")
    return str(path)


def test_one_flag_crosses_every_method_with_the_data():
    found = rows("lora,replay,kore:rank-64", data="evoke,kore")
    assert [cell.label for cell in found] == [
        f"{name} (data {data})" for name in ("lora", "replay", "kore:rank-64") for data in ("evoke", "kore")
    ]
    assert [cell.settings.values.data for cell in found] == ["evoke", "kore"] * 3
    assert all(not cell.swept and not cell.curve for cell in found)


def test_rows_that_are_the_same_cell_are_one():
    found = rows("lora,lora:kore-data,kore:no-augmentation,kore", data="evoke,kore")
    assert {cell.label: cell.also for cell in found} == {
        "lora (data evoke)": (),
        "lora (data kore)": ("lora:kore-data",),
        "kore:no-augmentation": ("kore (data evoke)",),
        "kore (data kore)": (),
    }
    equal_batches = "mini-no-extraction"
    assert len(rows("lora,lora:kore-data", preset=equal_batches)) == 2  # control: without the flag they differ
    (one,) = rows("lora,lora:kore-data", "lora.data=kore", preset=equal_batches)
    assert (one.label, one.also) == ("lora", ("lora:kore-data",))


def test_a_row_is_named_by_the_variant_that_it_becomes():
    labels = {cell.label: cell.name for cell in rows("kore,lora", data="evoke,kore")}
    assert labels["kore (data evoke)"] == "kore:no-augmentation"
    assert labels["lora (data kore)"] == "lora:kore-data"
    assert (labels["kore (data kore)"], labels["lora (data evoke)"]) == ("kore", "lora")


def test_the_variant_that_a_row_becomes_brings_its_section_of_the_preset(tmp_path):
    preset = own(tmp_path, "  lora: {learning_rate: 1.0e-3}\n  lora:kore-data: {learning_rate: 5.0e-3}\n")
    assert [cell.settings.values.learning_rate for cell in rows("lora", data="evoke,kore", preset=preset)] == [
        1e-3,
        5e-3,
    ]
    (variant,) = rows("lora:kore-data", preset=preset)
    assert variant.identity() == rows("lora", data="kore", preset=preset)[0].identity()


def test_a_sweep_keeps_the_points_of_a_method_together():
    found = rows("lora,replay", "seeds=[0, 1]", sweep=("learning_rate=1e-3,3e-3,1e-2",))
    assert [cell.label for cell in found[:6:2]] == [
        f"lora (learning_rate {rate})" for rate in ("0.001", "0.003", "0.01")
    ]
    assert {(cell.curve, cell.swept) for cell in found} == {
        ("lora", "learning_rate"),
        ("replay", "learning_rate"),
    }
    assert [cell.crossed["learning_rate"] for cell in found] == [1e-3, 1e-3, 3e-3, 3e-3, 1e-2, 1e-2] * 2
    assert found[0].settings.origins["learning_rate"] == "--sweep"


def test_a_sweep_over_data_gives_a_curve_for_each():
    found = rows("lora", data="evoke,kore", sweep=("learning_rate=1e-3,1e-2",))
    assert [cell.curve for cell in found] == ["lora (data evoke)"] * 2 + ["lora (data kore)"] * 2
    two = rows("lora", sweep=("rank=4,8", "learning_rate=1e-3,1e-2"))
    assert [cell.curve for cell in two] == ["lora (rank 4)"] * 2 + ["lora (rank 8)"] * 2
    assert {cell.swept for cell in two} == {"learning_rate"}


def test_a_row_without_the_setting_or_defined_by_it_appears_once():
    found = rows("lora,replay,kore:rank-64,kore", sweep=("ratio=0.1,0.5",))
    assert [cell.label for cell in found] == [
        "lora",
        "replay (ratio 0.1)",
        "replay (ratio 0.5)",
        "kore:rank-64",
        "kore",
    ]
    found = rows("kore:rank-64,kore", sweep=("rank=8,16",))
    assert [cell.label for cell in found] == ["kore:rank-64", "kore (rank 8)", "kore (rank 16)"]


def test_the_training_core_can_be_swept_as_well():
    found = rows("lora,kore", sweep=("training.epochs=2,6,12",))
    usual = rows("lora")[0]
    assert [cell.label for cell in found[:3]] == [f"lora (training.epochs {epochs})" for epochs in (2, 6, 12)]
    assert [dict(cell.training) for cell in found[:3]] == [{"epochs": 2}, {}, {"epochs": 12}]  # 6 is the preset's own
    assert (found[0].swept, found[0].curve) == ("training.epochs", "lora")
    cache_inputs = CacheInputs(
        "b", "k", {"calibration": "c", "replay": "r"}, {"epochs": 6, "warmup": 0.1}, 8, "cpu", "float32"
    )
    keys = [cell.training_key(cache_inputs) for cell in found[:3]]
    assert keys[1] == usual.training_key(cache_inputs)
    assert keys[0] == {**keys[1], "training": {"epochs": 2, "warmup": 0.1}}
    with pytest.raises(UserError, match=r"training\.epochs"):
        rows("lora", sweep=("training.epochs=0,1",))
    with pytest.raises(UserError, match=r"did you mean 'training\.epochs'"):
        rows("lora", sweep=("training.epoch=1,2",))


def test_labels_are_unique_and_cache_keys_do_not_depend_on_them():
    found = rows("all-variants", data="evoke,kore", sweep=("learning_rate=1e-3,1e-2",))
    assert len({cell.label for cell in found}) == len(found)
    plain = {cell.name: cell for cell in rows("lora")}
    (swept,) = rows("lora", sweep=(f"learning_rate={plain['lora'].settings.values.learning_rate}",))
    assert swept.identity() == plain["lora"].identity()
    assert swept.label != plain["lora"].label


def test_all_is_every_method():
    assert expand_names(["all"]) == list(registered())
    assert expand_names(["lora:kore-data", "all"])[1:] == list(registered())


def test_all_variants_is_every_method_and_every_variant_worth_a_row():
    names = expand_names(["all-variants"])
    assert {name.partition(":")[0] for name in names} == set(registered())
    assert {"kore:rank-64", "kore:constraint-MME", "lora:kore-data", "lora:equal-steps"} <= set(names)
    for name, method in registered().items():
        for variant, about in method.variants.items():
            assert (f"{name}:{variant}" in names) != bool(about.needs)
    assert not {"o-lora:weight-difference", "sefe:weight-difference", "moelora:parity"} & set(names)
    assert expand_names(["lora", "all-variants", "lora"])[0] == "lora"
    assert len(expand_names(["lora", "all-variants"])) == len(names)


@pytest.mark.parametrize(
    ("text", "values"), [("rank=4,8", (4, 8)), ("learning_rate=1e-3, 3e-3", (1e-3, 3e-3)), ("a.b=1", (1,))]
)
def test_sweeps_are_read(text, values):
    assert parse_sweep(text).values == values
    assert [type(value) for value in parse_sweep(text).values] == [type(value) for value in values]


@pytest.mark.parametrize(
    "text", ["", "rank", "rank=", "rank=big", "rank=4,,8", "rank=4,4", "=3", "rank=nan", "rank=inf"]
)
def test_bad_sweeps_are_refused(text):
    with pytest.raises(UserError, match="--sweep"):
        parse_sweep(text)


def test_what_cannot_be_crossed_is_named():
    with pytest.raises(UserError, match="did you mean 'learning_rate'"):
        rows("lora,kore", sweep=("learning_rat=1,2",))
    with pytest.raises(UserError, match="'kor'"):
        rows("lora", data="evoke,kor")
    with pytest.raises(UserError, match="--data"):
        parse_axes("evoke,,kore", ())
    with pytest.raises(UserError, match="swept twice"):
        parse_axes(None, ("rank=1,2", "rank=3,4"))
    with pytest.raises(UserError, match=r"rank.*--sweep"):
        rows("lora", sweep=("rank=1.5,2",))


def test_a_tuned_rate_is_not_inherited_where_it_means_something_else(tmp_path):
    text = "  '*': {learning_rate: 1.0e-3, rank: 8}\n  kore: {learning_rate: 3.0e-2, rank: 16}\n"
    preset = own(tmp_path, text)

    def rate(name: str, *sets: str) -> tuple[float, str]:
        (cell,) = rows(name, *sets, preset=preset)
        assert cell.settings.values.rank == (8 if name in ("kore:no-constraint", "kore:unfrozen-a") else 16)
        return cell.settings.values.learning_rate, cell.settings.origins["learning_rate"]

    assert rate("kore") == rate("kore:frozen-projector") == (3e-2, "preset own")
    assert rate("kore:no-constraint") == rate("kore:unfrozen-a") == (1e-3, "preset own")
    assert rate("kore:no-constraint", "kore.learning_rate=2e-2") == (2e-2, "--set")
    preset = own(tmp_path, f"{text}  kore:no-constraint: {{learning_rate: 2.0e-3}}\n")
    assert rate("kore:no-constraint") == (2e-3, "preset own")
    assert rate("kore:no-constraint", "kore:no-constraint.learning_rate=4e-3") == (4e-3, "--set")
    assert rate("kore:no-constraint", "*.learning_rate=4e-3") == (4e-3, "--set")
    assert rate("kore") == (3e-2, "preset own")


def test_without_a_general_value_it_has_the_default_before_the_method_s_own(tmp_path):
    preset = own(tmp_path, "  kore: {rank: 16, alpha: 3}\n")
    found = {name: rows(name, preset=preset)[0].settings for name in ("kore", "kore:no-constraint", "kore:rank-64")}
    assert [each.values.rank for each in found.values()] == [16, 128, 64]
    assert [each.values.alpha for each in found.values()] == [3, 256, 3]
    assert found["kore:no-constraint"].origins["rank"] == "default"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  kore:no-constrain: {rank: 3}\n", "did you mean 'no-constraint'"),
        ("  kore:no-constraint: {rnak: 3}\n", "did you mean 'rank'"),
        ("  kore:no-constraint: {constraint: true}\n", "the variant itself defines constraint"),
        ("  kroe:no-constraint: {rank: 3}\n", "did you mean 'kore'"),
    ],
)
def test_a_wrong_section_of_a_variant_is_named(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        rows("kore:no-constraint", preset=own(tmp_path, text))


def test_a_constraint_on_no_benchmark_is_named(tmp_path, tiny_folder):
    preset = str(small_runs.write_preset(tmp_path, tiny_folder, items=2))
    with pytest.raises(UserError, match="did you mean 'mini-POPE'"):
        plan(Request(("kore:constraint-POPP",), resolve(preset), tmp_path / "run"))


@pytest.mark.slow
def test_a_crossed_run_trains_each_cell_once_and_is_verified(tmp_path, tiny_folder, short_answers):
    """On the tiny model: data, a sweep, a constraint on a benchmark's own inputs, and the model's label."""
    preset = str(small_runs.write_preset(tmp_path, tiny_folder, items=4))
    flags = {"cross": parse_axes("evoke,kore", ["learning_rate=1e-2"])}
    sets = ["training.epochs=1", "label=tiny-LLaVA"]
    names = ("lora", "lora:kore-data", "kore:constraint-EVOKE")
    request = Request(names, resolve(preset, sets, flags), tmp_path / "run")
    result = compare(request)
    cells = {cell.label: cell for cell in result.run.cells}
    assert [product.status for product in result.outputs] == ["ok"] * 5, [p.reason for p in result.outputs]
    assert {cell.model for cell in cells.values()} == {"tiny-LLaVA"}
    point = cells["lora (data kore, learning_rate 0.01)"]
    assert (point.crossed, point.swept, point.curve) == (
        {"data": "kore", "learning_rate": 0.01},
        "learning_rate",
        "lora (data kore)",
    )
    assert "Also asked for as lora:kore-data (learning_rate 0.01)" in point.summary
    marks = {label: cell.marks for label, cell in cells.items()}
    assert marks["kore:constraint-EVOKE (data kore, learning_rate 0.01)"] == ("transductive",)
    assert marks["lora (data kore, learning_rate 0.01)"] == ()
    assert not any(cell.ranked for cell in cells.values() if cell.marks)
    assert len({cell.signature for cell in cells.values()}) == 5
    assert verify(request.out).differences == ()
    assert plan(request).seconds == 0
    named = dataclasses.replace(request, resolved=resolve(preset, ["training.epochs=1"], flags))
    assert plan(named).seconds == 0  # a label is not part of a cache key


def test_a_sweep_takes_ranks_by_parity_and_shows_the_numbers():
    found = rows("lora,moelora,full-ft", sweep=("rank=40,parity:lora,parity:kore:rank-58,parity:moelora",))
    assert [(cell.label, cell.crossed, cell.also) for cell in found] == [
        ("lora (rank 40)", {"rank": 40}, ()),
        ("lora (rank 32)", {"rank": 32}, ()),  # also nearest to KORE's size at rank 58
        ("lora (rank 36)", {"rank": 36}, ()),
        ("moelora (rank 40)", {"rank": 40}, ()),
        ("moelora (rank 32)", {"rank": 32}, ()),  # its experts divide no other rank near LoRA's size
        ("moelora (rank 24)", {"rank": 24}, ()),
        ("full-ft", {}, ()),
    ]
    assert {cell.swept for cell in found[:-1]} == {"rank"}
    assert found[1].settings.origins["rank"] == "--sweep, parity:lora"
    for text in ("learning_rate=parity:lora,1e-3", "rank=lora,32"):
        with pytest.raises(UserError, match="a value is a number, or for rank also parity:ROW"):
            parse_sweep(text)
    with pytest.raises(UserError, match=r"methods\.lora\.rank \(--sweep\): full-ft has no rank"):
        rows("lora", sweep=("rank=32,parity:full-ft",))


def test_settings_with_names_are_swept_by_their_names():
    found = rows("lora,kore,full-ft", sweep=(r"targets=attention,last-2,.*\.(q|v)_proj",))
    assert [cell.label for cell in found] == [
        *(
            f"{name} (targets {value})"
            for name in ("lora", "kore")
            for value in ("attention", "last-2", r".*\.(q|v)_proj")
        ),
        "full-ft",
    ]
    assert [cell.settings.values.targets for cell in found[:2]] == ["attention", "last-2"]
    assert found[0].settings.origins["targets"] == "--sweep"
    assert not any(cell.swept or cell.curve for cell in found)  # names have no order, so they are no curve
    two = rows("lora", sweep=("learning_rate=1e-3,1e-2", "targets=attention,mlp"))
    assert [cell.curve for cell in two] == ["lora (targets attention)", "lora (targets mlp)"] * 2
    assert {cell.swept for cell in two} == {"learning_rate"}
    assert parse_sweep("constraint=true,False").values == (True, False)
    assert [cell.settings.values.norm for cell in rows("kore", sweep=("norm=official,token-mean",))] == [
        "official",
        "token-mean",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("targets=attention,last8", r"methods\.\w+\.targets \(--sweep\).*last8(?s:.*)did you mean 'last-N'"),
        ("targets=attention,last-9", "last-9 of 4 decoder layers"),
    ],
)
def test_a_layer_choice_that_is_none_is_refused_with_its_place(text, message):
    with pytest.raises(UserError, match=message):
        rows("lora", "lora.rank=parity:kore:rank-58", sweep=(text,))


def test_a_word_where_yes_or_no_is_meant_is_refused():
    with pytest.raises(UserError, match="write true or false"):
        parse_sweep("constraint=yes,no")


def test_ranks_by_parity_count_the_layers_that_are_adapted():
    sizes = {}
    for targets in ("all", "attention", "mlp"):
        kore, _ = rows("kore,lora", f"kore.targets={targets}", f"lora.targets={targets}")
        sizes[targets] = kore.settings.values.rank
    assert sizes == {"all": 59, "attention": 64, "mlp": 55}
    swept = {cell.label: cell.settings.values.rank for cell in rows("kore", sweep=("targets=all,attention,mlp",))}
    assert swept == {f"kore (targets {targets})": rank for targets, rank in sizes.items()}
    (half,) = rows("kore", "kore.targets=attention")  # as many parameters as LoRA on all layers has
    assert half.settings.values.rank == 154
    (mixed,) = rows("kore", "kore.constraint_layers=attention")
    assert 32 < mixed.settings.values.rank < 59
    assert rows("kore:steep-99")[0].settings.values.rank == 59
    assert 32 < rows("kore:steep-50")[0].settings.values.rank == rows("kore:flat-50")[0].settings.values.rank < 59
