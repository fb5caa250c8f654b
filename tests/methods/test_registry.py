"""Which methods there are, by which names, and what it costs to ask."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
import typing
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.errors import UserError
from harness.cli import app
from harness.commands.doctor import examine
from methods import entry_points, registry
from methods.base import AdapterSettings, InjectionMethod, setting
from methods.hook_signatures import RENAMED
from methods.registry import default_settings, registered

METHODS = registered()
ROWS = [(name, None) for name in METHODS] + [(n, v) for n, method in METHODS.items() for v in method.variants]


@pytest.fixture(autouse=True)
def registry_kept(monkeypatch):
    from methods import base

    monkeypatch.setattr(base, "METHODS", dict(base.METHODS))


def test_asking_for_the_names_loads_nothing_heavy():
    code = (
        "import sys; from methods.registry import registered; names = list(registered());"
        "heavy = {'torch', 'pydantic', 'peft', 'transformers', 'numpy', 'pandas', 'scipy'} & set(sys.modules);"
        "print(names, heavy); sys.exit(bool(heavy) or 'lora' not in names)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    heavy = subprocess.run(
        [sys.executable, "-c", "import methods.components.lora_layers, sys; assert 'torch' in sys.modules"]
    )
    assert heavy.returncode == 0  # control: the way in which torch would be noticed works


def test_names_and_variants():
    assert {"lora", "replay", "kore"} <= METHODS.keys()
    method, variant = registry.get_method("kore:no-constraint")
    assert method is METHODS["kore"]
    assert variant is method.variants["no-constraint"]
    assert registry.get_method("lora") == (METHODS["lora"], None)


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [("koer", "kore"), ("kore:no-constrain", "kore:no-constraint"), ("lorra:kore-data", "lora:kore-data")],
)
def test_an_unknown_name_offers_the_nearest(asked, nearest):
    with pytest.raises(UserError, match=f"did you mean {nearest!r}\\?"):
        registry.get_method(asked)


def test_the_choices_hold_every_name_that_can_be_asked_for_and_the_place():
    with pytest.raises(UserError) as refused:
        registry.get_method("xyzzy", "size_reference")
    assert refused.value.location == "size_reference"
    choices = refused.value.hint.removeprefix("choose from ").split(", ")
    assert {"moelora:parity", "sefe:weight-difference", "kore:rank-N", "lora:rate-LR"} <= set(choices)
    assert set(registry.expand_names(["all-variants"])) - set(choices) == {
        f"{method.name}:{family.prefix}{value}"
        for method in METHODS.values()
        for family in method.variant_families
        for value in family.examples
    }, "families are named by their form"


@pytest.mark.parametrize("asked", ["", ":", "kore:", "xyzzy", "kore:no-constraint:again", "../kore"])
def test_nonsense_is_refused(asked):
    with pytest.raises(UserError, match="no method is named"):
        registry.get_method(asked)


@pytest.mark.parametrize(("name", "variant"), ROWS)
def test_every_row_has_valid_settings_and_says_what_it_is(name, variant):
    method = METHODS[name]
    changed = default_settings(method.variants[variant]) if variant else {}
    settings = method.Settings(**changed)
    assert isinstance(method(settings), InjectionMethod)
    if variant:
        assert settings != method.Settings(), "a variant that changes nothing"
        assert method.variants[variant].help
    for word in ("Paper:", "Differences:", "Cost:"):
        assert word in (inspect.getdoc(method) or "")
    assert ("Interpretation:" in (inspect.getdoc(method) or "")) == bool(method.interpretation)
    assert method.summary
    assert method.paper.link.startswith("https://")
    typing.get_type_hints(method.Settings)  # the settings' types resolve at run time
    for field in dataclasses.fields(settings):
        assert field.metadata["help"], field.name
        assert field.metadata["source"], field.name


def test_two_methods_of_one_name_are_refused():
    with pytest.raises(UserError, match="two methods are named 'lora'"):
        type("Lora2", (InjectionMethod,), {"name": "lora", "__module__": "elsewhere"})


def test_defining_a_method_registers_it_and_a_nameless_base_does_not():
    type("Nameless", (InjectionMethod,), {})
    before = registered()
    mine = type("Mine", (InjectionMethod,), {"name": "mine"})
    assert registered().keys() - before.keys() == {"mine"}
    assert registry.get_method("mine") == (mine, None)


def test_a_users_own_file(tmp_path):
    plugin = tmp_path / "my_idea.py"
    plugin.write_text("from methods.lora import LoRA\nclass Idea(LoRA):\n    name = 'my-idea'\n")
    registry.load_file(plugin)
    assert "my-idea" in registered()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("x = 1\n", "defines neither a method nor a family"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("def (\n", "SyntaxError"),
        (None, "no Python"),
    ],
)
def test_a_bad_file_is_named(tmp_path, content, complaint):
    plugin = tmp_path / "my_idea.py"
    if content is not None:
        plugin.write_text(content)
    with pytest.raises(UserError, match=complaint) as caught:
        registry.load_file(plugin)
    assert "my_idea.py" in str(caught.value)


def test_a_package_that_fails_is_named_and_stops_nothing_else(monkeypatch):
    broken = EntryPoint(name="broken", value="no_such_package_anywhere:Method", group=registry.GROUP)
    sound = EntryPoint(name="sound", value="methods.lora:LoRA", group=registry.GROUP)
    groups = {registry.GROUP: [broken, sound]}
    monkeypatch.setattr(entry_points, "entry_points", lambda group: groups.get(group, []))
    entry_points.load_installed.cache_clear()
    try:
        assert registry.get_method("lora") == (METHODS["lora"], None)
        (error,) = entry_points.load_installed(registry.GROUP)
        assert "no_such_package_anywhere" in str(error)
        with pytest.raises(UserError, match="no_such_package_anywhere:Method does not load"):
            registry.get_method("broken")
        said = CliRunner().invoke(app, ["list"])
        assert said.exit_code == 0
        assert "warning: entry point broken" in said.stderr
        assert "warning" in {check.state for check in examine(Path()) if check.what.startswith("entry point broken")}
    finally:
        monkeypatch.undo()
        entry_points.load_installed.cache_clear()
    assert "warning" not in CliRunner().invoke(app, ["list"]).stderr, "control: with nothing broken"


def test_the_listing_says_what_is_our_reading():
    whole, part = (CliRunner().invoke(app, ["list", *flags]).stdout for flags in ((), ("--methods",)))
    for row in registry.expand_names(["all-variants"]):
        assert row.partition(":")[0] in part
    for method in METHODS.values():
        assert method.interpretation in part
        for variant, about in method.variants.items():
            assert f"{method.name}:{variant}" in part
            assert about.help in part
    assert "Presets" in whole
    assert "Presets" not in part


def test_files_of_one_name_in_two_folders_are_two_modules(tmp_path):
    for folder, value in (("one", 1), ("two", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "idea.py").write_text(
            f"from methods.lora import LoRA\nVALUE = {value}\nclass Idea(LoRA):\n    name = 'idea-{folder}'\n"
            "    def diagnostics(self, prepared):\n        return {'value': VALUE}\n"
        )
        registry.load_file(tmp_path / folder / "idea.py")
    made = [registered()[f"idea-{folder}"] for folder in ("one", "two")]
    assert len({kind.__module__ for kind in made}) == 2
    assert [sys.modules[kind.__module__].VALUE for kind in made] == [1, 2]
    other = tmp_path / "three.py"
    other.write_text((tmp_path / "two" / "idea.py").read_text())
    with pytest.raises(UserError, match=r"two/idea\.py and .*three\.py"):
        registry.load_file(other)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rank", 0),
        ("alpha", 0.0),
        ("dropout", 1.0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("projector_learning_rate", -1.0),
        ("weight_decay", -0.1),
        ("data", "other"),
    ],
)
def test_a_senseless_setting_is_named(field, value):
    with pytest.raises(UserError, match=field):
        AdapterSettings(**{field: value})


def test_a_setting_keeps_its_bounds_when_a_subclass_changes_the_default():
    @dataclasses.dataclass(frozen=True)
    class Changed(AdapterSettings):
        rank: int = setting(4, "rank", source="test")
        mode: str = setting("one", "mode", source="test", choices=("one", "two"))

    assert Changed(rank=1, mode="two").rank == 1  # control
    with pytest.raises(UserError, match=r"rank cannot be 0(?s:.*)at least 1"):
        Changed(rank=0)
    with pytest.raises(UserError, match="mode cannot be 'three'"):
        Changed(mode="three")
    with pytest.raises(TypeError, match="no argument least"):
        setting(1, "rank", least=1)


def test_settings_that_break_a_method_are_refused():
    kore, replay = METHODS["kore"].Settings, METHODS["replay"].Settings
    for bad in ({"weight_decay": 0.01}, {"dropout": 0.05}):
        with pytest.raises(UserError, match="must be 0"):
            kore(**bad)
        kore(constraint=False, **bad)  # control: plain LoRA may have them
    with pytest.raises(UserError, match="ratio"):
        replay(ratio=-0.1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        kore().rank = 3  # type: ignore[misc]


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_name_of_a_hook_is_refused_with_the_new_one(old, new):
    kind = getattr(InjectionMethod, new)
    for value in (kind, "some text"):
        with pytest.raises(UserError, match=f"'{old}' is now called '{new}'"):
            type("Old", (InjectionMethod,), {old: value})
    type("New", (InjectionMethod,), {new: kind})  # control


def test_a_constant_of_a_method_is_not_a_misspelt_hook():
    type("Constant", (InjectionMethod,), {"PENALTY": 0.5})
    with pytest.raises(UserError, match="did you mean 'penalty'"):
        type("Misspelt", (InjectionMethod,), {"Penalty": 0.5})
