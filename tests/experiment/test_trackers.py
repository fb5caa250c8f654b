"""Trackers get each loss once and the scores at the end; without trackers nothing happens."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from accelerate import tracking
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.errors import UserError
from harness.config.settings import resolve
from harness.experiment.trackers import LOGGED, Trackers
from harness.training.loop import LoggedStep
from reports.record import BenchmarkResult, CellResult, Run, Setting, TrainingStep

STEPS = tuple(TrainingStep(number, 2.0 - number, 1e-3) for number in range(2))
CELL = CellResult(
    "m", "lora", "lora", 0, settings={"rank": Setting(8)}, training=STEPS,
    scores={
        "mini-EVOKE": BenchmarkResult(30.0, {"CEM": 40.0, "F1": 20.0}, ()), "mini-MME": BenchmarkResult(None, {}, ()),
    },
)  # fmt: skip


@dataclass
class FakeTracker(tracking.GeneralTracker):
    """A tracker that keeps what is logged, with the interface of Accelerate's."""

    name = "tensorboard"
    requires_logging_directory = True
    pages = []  # noqa: RUF012

    def __init__(self, run_name, logging_dir):
        self.page = {"run": run_name, "config": None, "lines": [], "ended": False}

    def start(self):
        self.pages.append(self.page)

    @property
    def tracker(self):
        return self.page

    def store_init_configuration(self, values):
        self.page["config"] = values

    def log(self, values, step=None, **kwargs):
        self.page["lines"].append((step, values))

    def finish(self):
        self.page["ended"] = True


@pytest.fixture
def pages(monkeypatch):
    monkeypatch.setattr(tracking, "_available_trackers", ["tensorboard"])
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "tensorboard", FakeTracker)
    monkeypatch.setattr(FakeTracker, "pages", [])
    return FakeTracker.pages


def test_by_default_nothing_is_logged_or_written(tmp_path, pages):
    trackers = Trackers((), tmp_path)
    with trackers.losses("lora seed 0", {"rank": 8}) as log_step:
        assert log_step is None
    trackers.scores(Run("x", cells=(CELL,)))
    assert list(tmp_path.iterdir()) == []
    assert pages == []
    assert resolve("mini").settings.track == ()


def test_losses_come_while_it_trains_and_scores_at_the_end(tmp_path, pages):
    trackers = Trackers(("tensorboard",), tmp_path)
    with trackers.losses("lora seed 0", {"rank": 8}) as log_step:
        log_step(LoggedStep(0, 2.0, float("nan"), 1e-3, 0.5, 10, 0.1))
        assert pages[0]["lines"] == [(0, {"loss": 2.0, "learning_rate": 1e-3, "grad_norm": 0.5})]
    assert pages[0]["config"] == {"rank": 8}
    trackers.scores(Run("x", cells=(CELL,)))
    assert pages[1]["run"] == pages[0]["run"]
    scores = {"score/mini-EVOKE": 30.0, "score/mini-EVOKE/CEM": 40.0, "score/mini-EVOKE/F1": 20.0}
    assert pages[1]["lines"] == [(2, scores)]
    assert all(page["ended"] for page in pages)


def test_what_was_trained_before_is_logged_once(tmp_path, pages):
    run = Run("x", cells=(CELL,))
    Trackers(("tensorboard",), tmp_path).scores(run)
    assert [step for step, _ in pages[0]["lines"]] == [0, 1, 2]
    Trackers(("tensorboard",), tmp_path).scores(run)
    assert len(pages) == 1
    better = replace(CELL, scores={"mini-EVOKE": BenchmarkResult(31.0, {}, ())})
    Trackers(("tensorboard",), tmp_path).scores(Run("x", cells=(better,)))
    assert [line for page in pages[1:] for line in page["lines"]] == [(2, {"score/mini-EVOKE": 31.0})]


@pytest.mark.parametrize("hook", ["start", "store_init_configuration", "log", "finish"])
def test_a_tracker_that_fails_loses_nothing_but_its_own_page(tmp_path, pages, monkeypatch, hook, caplog):
    def fail(*arguments, **options):
        raise ConnectionError("no route")

    run = Run("x", cells=(CELL,))
    with monkeypatch.context() as broken:
        broken.setattr(FakeTracker, hook, fail)
        trackers = Trackers(("tensorboard",), tmp_path)
        with trackers.losses("lora seed 0", {"rank": 8}) as log_step:
            for _ in range(3):
                log_step(LoggedStep(0, 2.0, float("nan"), 1e-3, 0.5, 10, 0.1))
        trackers.scores(run)
    assert caplog.text.count("tensorboard failed and is not used any more in this run (no route)") == 1
    pages.clear()
    Trackers(("tensorboard",), tmp_path).scores(run)
    assert [step for step, _ in pages[0]["lines"]] == [0, 1, 2]


ODD_TEXTS = st.text(st.characters(exclude_categories=()), max_size=20)
HOOKS = ("__init__", "start", "store_init_configuration", "log", "finish")
KINDS = st.sampled_from(
    [Exception, OSError, UserError, KeyError, MemoryError, RecursionError, UnicodeError, SystemExit]
)
DISKS = st.sampled_from(["", "[1", '["a"]', "\0", "a file in place of the folder"])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(HOOKS), KINDS, ODD_TEXTS, ODD_TEXTS, st.integers(0, 3), DISKS)
def test_no_error_of_a_tracker_and_no_text_reaches_the_run(pages, hook, kind, text, title, after, disk):
    """Whatever a tracker raises, at any call of any hook, under any title and beside any file of its own."""
    calls = []
    works = getattr(FakeTracker, hook)

    def fail(self, *arguments, **options):
        calls.append(hook)
        if len(calls) > after:
            raise kind(text)
        return works(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(FakeTracker, hook, fail)
        if disk.startswith("a file"):
            Path(folder, "trackers").write_text("mine")
        elif disk:
            Path(folder, "trackers").mkdir()
            Path(folder, "trackers", LOGGED).write_text(disk)
        trackers = Trackers(("tensorboard",), Path(folder))
        with trackers.losses(title, {text: text}) as log_step:
            for number in range(3):
                log_step(LoggedStep(number, 2.0, float("nan"), 1e-3, 0.5, 10, 0.1))
        trackers.scores(Run("x", cells=(replace(CELL, label=title, settings={text: Setting(text)}),)))
    assert calls or disk.startswith("a file")


def test_a_tracker_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "_available_trackers", [])
    with pytest.raises(UserError, match="wandb is not installed") as caught:
        Trackers(("wandb",), tmp_path)
    assert caught.value.hint == "pip install wandb"


def test_an_unknown_tracker_is_refused():
    with pytest.raises(UserError, match="track"):
        resolve("mini", ["track=[clipboard]"])
    assert resolve("mini", ["track=[tensorboard, mlflow]"]).settings.track == ("tensorboard", "mlflow")


def test_tensorboard_reads_what_was_logged(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    Trackers(("tensorboard",), tmp_path).scores(Run("x", cells=(CELL,)))
    folder = next(path for path in (tmp_path / "trackers" / "tensorboard").iterdir() if path.is_dir())
    events = accumulator.EventAccumulator(str(folder)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(0, 2.0), (1, 1.0)]
    assert [event.value for event in events.Scalars("score/mini-EVOKE")] == [30.0]
