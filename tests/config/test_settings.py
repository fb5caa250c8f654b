"""Settings: precedence, origins, and errors that name the setting and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.errors import UserError
from harness.config.method_settings import method_settings
from harness.config.overrides import read_yaml
from harness.config.settings import parse_names, parse_seeds, resolve
from harness.experiment.request_file import differences
from harness.experiment.rows import list_cells
from harness.presets import preset_names
from methods.registry import default_settings, registered

SOME = "lora"


def preset(folder: Path, text: str) -> str:
    path = folder / "own.yaml"
    base = "model: model\ndata: {knowledge: data, retention: data}\nbenchmarks: [mini-EVOKE]\n"
    path.write_text(base + text)
    return str(path)


def test_every_shipped_preset_resolves():
    for name in preset_names():
        settings = resolve(name).settings
        assert settings.model.is_absolute()
        assert settings.benchmarks


def test_the_command_line_wins_over_the_preset_and_the_preset_over_the_default(tmp_path):
    own = preset(tmp_path, "training: {epochs: 2, batch_size: 8}\n")
    resolved = resolve(own, ["training.epochs=5"])
    assert (resolved.settings.training.epochs, resolved.origin("training.epochs")) == (5, "--set")
    assert (resolved.settings.training.batch_size, resolved.origin("training.batch_size")) == (8, "preset own")
    assert (resolved.settings.answering.batch_size, resolved.origin("answering.batch_size")) == (32, "default")
    assert resolve(own, [], {"limit": 7, "seeds": None}).origin("limit") == "--limit"
    assert resolve(own, [], {"limit": 7, "seeds": None}).origin("seeds") == "default"


def test_paths_are_relative_to_the_file_or_folder_that_names_them(tmp_path, monkeypatch):
    own = preset(tmp_path, "")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert resolve(own).settings.model == tmp_path / "model"
    assert resolve(own, ["model=mine"]).settings.model == tmp_path / "elsewhere" / "mine"


def test_a_preset_changes_the_one_that_it_extends(tmp_path):
    preset(tmp_path, "training: {epochs: 2, batch_size: 8}\n")
    (tmp_path / "below").mkdir()
    middle, top = tmp_path / "below" / "middle.yml", tmp_path / "top.yaml"
    middle.write_text("extends: ../own.yaml\ndata: {knowledge: mine}\ntraining: {batch_size: 4}\n")
    top.write_text("extends: below/middle.yml\nseeds: [3]\n")
    resolved = resolve(str(top))
    settings = resolved.settings
    assert (resolved.preset, settings.seeds) == ("top", (3,))
    assert (settings.training.epochs, settings.training.batch_size) == (2, 4)
    assert (settings.model, settings.data.knowledge) == (tmp_path / "model", tmp_path / "below" / "mine")
    origins = [resolved.origin(key) for key in ("training.epochs", "training.batch_size", "seeds")]
    assert origins == ["preset own", "preset middle", "preset top"]


def test_a_preset_may_extend_a_shipped_one_and_inject_a_sequence(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("extends: mini\nstages: [{knowledge: a}, {knowledge: b}]\nmethods: {lora: {rank: 8}}\n")
    settings, mini = resolve(str(own)).settings, resolve("mini").settings
    assert [stage.knowledge.name for stage in settings.sequence] == ["a", "b"]
    assert settings.data.knowledge is None
    assert settings.methods["lora"]["rank"] == 8
    assert settings.methods["kore"] == mini.methods["kore"]


def test_another_model_does_not_keep_the_label_of_the_preset_that_is_extended(tmp_path):
    own = tmp_path / "own.yaml"
    for text, label in (("", "mini-LLaVA"), ("model: other\n", ""), ("label: mine\nmodel: other\n", "mine")):
        own.write_text(f"extends: mini\n{text}")
        assert resolve(str(own)).settings.label == label


def test_a_preset_may_have_the_name_of_the_one_that_it_extends(tmp_path):
    own = tmp_path / "mini.yaml"
    own.write_text("extends: mini\nstages: [{knowledge: a}, {knowledge: b}]\n")
    resolved = resolve(str(own))
    assert len(resolved.settings.sequence) == 2
    assert resolved.origin("stages") == f"preset {own}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: nimi\n", "did you mean 'mini'"),
        ("extends: own.yaml\n", "this preset extends itself"),
        ("extends: other.yaml\n", "extends itself, by way of"),
        ("extends: missing.yaml\n", "missing.yaml: cannot be read"),
        ("extends: [mini]\n", "is no preset"),
    ],
)
def test_what_a_preset_cannot_extend(tmp_path, text, message):
    (tmp_path / "own.yaml").write_text(text)
    (tmp_path / "other.yaml").write_text("extends: own.yaml\n")
    with pytest.raises(UserError) as caught:
        resolve(str(tmp_path / "own.yaml"))
    assert message in str(caught.value)
    assert "own.yaml" in str(caught.value) or "missing.yaml" in str(caught.value)


def test_the_demo_takes_as_many_steps_as_mini():
    """With half of the items, every method's batch is half as large, and nothing else differs."""
    whole, half = resolve("mini"), resolve("demo")
    names = [*registered(), "lora:kore-data", "lora:equal-steps", "kore:no-constraint", "kore:no-augmentation"]
    batches = [
        [cell.training.get("batch_size", each.settings.training.batch_size) for cell in list_cells(names, each)[1:]]
        for each in (whole, half)
    ]
    assert batches[0] == [2 * size for size in batches[1]]
    differing = {key for key in whole.origins | half.origins if not key.endswith(".training.batch_size")}
    differing = {key for key in differing if (whole.origins.get(key), half.origins.get(key)) != ("preset mini",) * 2}
    assert differing == {"data.knowledge", "data.evaluation", "data.editing", "training.batch_size"}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.epoch=3", "did you mean 'training.epochs'"),
        ("epochs=3", "there is no setting 'epochs'"),
        ("training.epochs=soon", "'soon' does not fit"),
        ("training.epochs=0", "training.epochs (--set)"),
        ("training.epochs", "write --set training.epochs=3"),
        ("device=gpu", "device (--set)"),
        ("benchmarks=[mini-EVOKE, mini-EVOKE]", "a benchmark is named twice"),
        (f"{SOME[:-1]}.rank=3", SOME),
        ("methods.nobody.rank=3", "there is no method 'nobody'"),
        ("training=3", "training (--set)"),
        ("training.epochs.x=3", "training.epochs"),
    ],
)
def test_a_wrong_setting_is_named_with_a_hint(tmp_path, assignment, message):
    with pytest.raises(UserError) as caught:
        resolve(preset(tmp_path, ""), [assignment])
    assert message in str(caught.value)
    assert caught.value.hint


def test_an_unknown_key_of_a_method_is_named_with_the_nearest(tmp_path):
    resolved = resolve(preset(tmp_path, ""), [f"{SOME}.rnak=3"])
    with pytest.raises(UserError, match="did you mean 'rank'"):
        method_settings(resolved, SOME)
    with pytest.raises(UserError, match="'big' does not fit"):
        method_settings(resolve(preset(tmp_path, ""), [f"{SOME}.rank=big"]), SOME)


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: 1\nb: [1, }\n", "row 2"), ("- a\n- b\n", "mapping"), ("model: m\n", "is missing"), ("\xff", "YAML")],
)
def test_a_broken_preset_is_named(tmp_path, text, message):
    path = tmp_path / "own.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError) as caught:
        resolve(str(path))
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_an_unknown_preset_is_named_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'mini'"):
        resolve("minni")
    with pytest.raises(UserError, match="cannot be read"):
        resolve("nowhere.yaml")


def test_method_settings_have_origins(tmp_path):
    text = f"methods:\n  '*': {{rank: 16, no_such: 1}}\n  {SOME}: {{learning_rate: 0.5e-3}}\n"
    found = method_settings(resolve(preset(tmp_path, text), [f"{SOME}.alpha=7"]), SOME)
    assert (found.values.rank, found.origins["rank"]) == (16, "preset own")
    assert (found.values.learning_rate, found.origins["learning_rate"]) == (0.5e-3, "preset own")
    assert (found.values.alpha, found.origins["alpha"]) == (7, "--set")
    assert found.origins["dropout"] == "default"


def test_a_variant_has_the_last_word(tmp_path):
    name, variant = next((n, v) for n, method in registered().items() for v in method.variants)
    field, value = next(iter(default_settings(registered()[name].variants[variant]).items()))
    found = method_settings(resolve(preset(tmp_path, "")), name, variant)
    assert getattr(found.values, field) == value
    assert found.origins[field] == f"variant {variant}"


@pytest.mark.parametrize(("text", "seeds"), [("3", (0, 1, 2)), ("1", (0,)), ("0,7", (0, 7)), ("5,", (5,))])
def test_seeds(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "0", "a", "1,1", "-1", "1.5"])
def test_bad_seeds(text):
    with pytest.raises(UserError, match="--seeds"):
        parse_seeds(text)


def test_names_by_comma():
    assert parse_names("a, b,,c", "--methods") == ("a", "b", "c")
    with pytest.raises(UserError, match="--methods"):
        parse_names(" , ", "--methods")


def test_what_differs_between_two_runs_is_listed():
    before = {"limit": None, "training": {"epochs": 1, "save_every": 60}}
    now = {"limit": 5, "training": {"epochs": 1, "save_every": 5}}
    assert differences(before, now) == ["limit: null -> 5"]
    assert differences(now, now) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("training:\n  epochs: 1\n  epochs: 2\n", r"a.yaml, row 3: the key 'epochs' is given twice"),
        ("a: {b: 1}\na: {c: 2}\n", r"a.yaml, row 2: the key 'a' is given twice"),
        ("day: 2026-13-45\n", r"a.yaml.*not valid YAML"),
    ],
)
def test_a_repeated_key_of_a_file_is_refused(tmp_path, text, words):
    """F25: the last would win."""
    file = tmp_path / "a.yaml"
    file.write_text("base: &one {x: 1, y: 2}\nown: {<<: *one, x: 3}\n")
    assert read_yaml(file)["own"] == {"x": 3, "y": 2}  # control: what an anchor gives may be replaced
    file.write_text(text)
    with pytest.raises(UserError, match=words):
        read_yaml(file)


@pytest.mark.parametrize(
    ("text", "hint"), [("benchmarks=MME", "write a list, such as [MME]"), ("benchmarks=3", "write a list")]
)
def test_what_should_be_a_list_is_shown_as_one(text, hint):
    with pytest.raises(UserError, match="does not fit") as caught:
        resolve("mini", [text])
    assert caught.value.hint == hint
    resolve("mini", ["benchmarks=[mini-MME]"])
