"""I1: files are written atomically and verified when read; damaged entries are quarantined and counted."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.errors import UserError
from harness.storage.digests import canonical, digest, file_digest
from harness.storage.files import StorageError, atomic_folder, atomic_write, remove_partials
from harness.storage.store import Store
from helpers.paths import PYTHONPATH

KEY = {"base": "abc", "seed": 0}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def content_of(store: Store, kind: str = "scores") -> Path:
    (path,) = (path for path in (store.root / kind).iterdir() if path.suffix != ".manifest")
    return path


def test_what_is_written_is_read_back(store):
    assert store.read_json("scores", KEY) is None
    store.write_json("scores", KEY, {"CEM": 1.25, "text": "Côte d'Ivoire \ud83d"})
    assert store.has("scores", KEY)
    assert Store(store.root).read_json("scores", KEY) == {"CEM": 1.25, "text": "Côte d'Ivoire \ud83d"}
    assert store.read_json("scores", {**KEY, "seed": 1}) is None


def test_equal_tensors_have_equal_digests(store):
    tensors = {"b": torch.arange(6.0).reshape(2, 3).T, "a": torch.ones(2, dtype=torch.bfloat16)}
    first = store.write_tensors("adapters", KEY, tensors)
    second = store.write_tensors("adapters", {**KEY, "seed": 1}, dict(reversed(tensors.items())))
    other = store.write_tensors("adapters", {**KEY, "seed": 2}, {**tensors, "a": torch.zeros(2)})
    assert first == second == store.content_digest("adapters", KEY) != other
    read = store.read_tensors("adapters", KEY)
    assert read is not None
    assert torch.equal(read["b"], tensors["b"])
    assert read["a"].dtype == torch.bfloat16


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "remove", "manifest", "manifest-key"])
def test_I1_a_damaged_entry_is_set_aside_counted_and_can_be_made_again(store, damage):
    store.write_json("scores", KEY, {"CEM": 50})
    path = content_of(store)
    manifest = path.with_suffix(".manifest")
    if damage == "flip":
        path.write_bytes(path.read_bytes().replace(b"50", b"51"))
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-3])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "remove":
        path.unlink()
    elif damage == "manifest":
        manifest.write_bytes(manifest.read_bytes()[:20])
    else:
        manifest.write_bytes(manifest.read_bytes().replace(b'"seed":0', b'"seed":1'))
    assert store.read_json("scores", KEY) is None
    assert len(store.quarantined) == 1
    assert len(list((store.root / "damaged").iterdir())) == 1
    assert not store.has("scores", KEY)
    store.write_json("scores", KEY, {"CEM": 50})
    assert store.read_json("scores", KEY) == {"CEM": 50}
    assert len(store.quarantined) == 1


def test_a_sound_entry_is_not_set_aside(store):
    """The positive control of the test above."""
    store.write_json("scores", KEY, {"CEM": 50})
    assert all(store.check(kind, key) for kind, key in store.entries())
    assert store.quarantined == []


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "may not be written")],
)
def test_I1_what_the_disk_refuses_leaves_the_old_content(tmp_path, monkeypatch, number, words):
    path = tmp_path / "table.json"
    atomic_write(path, "old")

    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match=words) as caught:
        atomic_write(path, "new and longer")
    assert str(path) in str(caught.value)
    assert "Hint:" in str(caught.value)
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.json"]
    atomic_write(path, "new and longer")
    assert path.read_text() == "new and longer"


def test_a_file_in_the_place_of_the_folder_is_an_error_of_the_user(tmp_path):
    (tmp_path / "run").write_text("I was here first")
    with pytest.raises(UserError, match="there is a file where a folder is needed"):
        Store(tmp_path / "run").write_json("scores", KEY, 1)
    assert (tmp_path / "run").read_text() == "I was here first"


def test_I1_a_kill_while_writing_leaves_no_entry(store, monkeypatch):
    """The content is in place, the manifest is not: that is no entry."""

    def killed(self: Path, target: Path) -> None:
        if str(target).endswith(".manifest"):
            raise KeyboardInterrupt
        self.rename(target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        store.write_json("scores", KEY, 1)
    monkeypatch.undo()
    assert content_of(store).exists()
    assert not store.has("scores", KEY)
    assert store.read_json("scores", KEY) is None
    assert store.quarantined == []


def test_sweep_removes_half_written_files_alone(store):
    store.write_json("scores", KEY, 1)
    half = store.root / "scores" / ".x.json.12345678.part"
    half.write_text("half")
    remove_partials(store.root)
    assert not half.exists()
    assert store.read_json("scores", KEY) == 1


def test_I1_a_folder_is_there_as_a_whole_and_flushed_or_not_at_all(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda file: flushed.append(Path(f"/proc/self/fd/{file}").readlink().name))
    with pytest.raises(KeyError), atomic_folder(tmp_path / "out") as folder:
        (folder / "half").write_text({}["missing"])
    assert list(tmp_path.iterdir()) == []
    with atomic_folder(tmp_path / "out") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("whole")
    assert (tmp_path / "out" / "inner" / "file").read_text() == "whole"
    assert set(flushed) == {"file", "inner", ".out.partial", tmp_path.name}
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with atomic_folder(Path()) as folder:  # as with --to .
        (folder / "file").write_text("whole")
    assert (tmp_path / "here" / "file").read_text() == "whole"


def test_a_journal_continues_after_a_torn_line(store):
    log = store.journal("answers", KEY)
    log.append([{"id": 1}, {"id": 2}])
    log.append([{"id": 3, "text": "two\nlines \u2028 \x85"}])
    whole = log.path.read_bytes()
    for cut in range(1, len(whole)):
        log.path.write_bytes(whole[:-cut])
        values = log.read()
        assert values == [{"id": 1}, {"id": 2}, {"id": 3, "text": "two\nlines \u2028 \x85"}][: len(values)]
        assert log.path.read_bytes().count(b"\n") == len(values)
    assert store.quarantined == []
    log.append([{"id": 4}])
    assert log.read()[-1] == {"id": 4}


def test_I1_a_damaged_line_in_a_journal_is_dropped_and_counted(store):
    log = store.journal("answers", KEY)
    log.append([{"id": 1}, {"id": 2}, {"id": 3}])
    log.path.write_bytes(log.path.read_bytes().replace(b'"id":2', b'"id":7'))
    assert log.read() == [{"id": 1}, {"id": 3}]
    assert len(store.quarantined) == 1
    assert log.read() == [{"id": 1}, {"id": 3}]
    assert len(store.quarantined) == 1


def test_a_checkpoint_is_replaced_whole(store, monkeypatch):
    checkpoint = store.checkpoint("training", KEY)
    assert checkpoint.load() is None
    for step in range(3):
        checkpoint.save({"w": torch.full((2,), float(step))}, {"step": step})
        tensors, state = store.checkpoint("training", KEY).load()
        assert (tensors["w"][0].item(), state) == (step, {"step": step})

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save({"w": torch.full((2,), 9.0)}, {"step": 9})
    monkeypatch.undo()
    tensors, state = checkpoint.load()
    assert (tensors["w"][0].item(), state) == (2, {"step": 2})
    assert store.quarantined == []
    checkpoint.discard()
    assert checkpoint.load() is None
    assert list((store.root / "training_checkpoint").iterdir()) == []


def test_a_damaged_checkpoint_starts_over(store):
    checkpoint = store.checkpoint("training", KEY)
    checkpoint.save({"w": torch.ones(2)}, {"step": 1})
    (tensors,) = store.root.rglob("*.safetensors")
    tensors.write_bytes(b"\0" * tensors.stat().st_size)
    assert checkpoint.load() is None
    assert len(store.quarantined) == 1


NAMES = st.one_of(
    st.sampled_from(
        ["../../etc/passwd", "/abs", 'a"b', "NUL", "x" * 300, "ghana\0", "Côte d’Ivoire", "日本", "\n", ""]
    ),
    st.text(max_size=40),
)


@given(name=NAMES)
def test_I6_names_from_data_never_become_file_names(tmp_path_factory, name):
    root = tmp_path_factory.mktemp("run")
    store = Store(root / "store")
    store.write_json("scores", {"name": name}, {"answer": name})
    assert store.read_json("scores", {"name": name}) == {"answer": name}
    files = [path for path in root.rglob("*") if path.is_file()]
    assert len(files) == 2
    assert all(set(path.stem) <= set("0123456789abcdef") and path.parent == root / "store" / "scores" for path in files)
    with pytest.raises(ValueError, match="not a kind"):
        store.write_json("../scores", {}, 1)


def test_the_canonical_form_knows_no_order_and_no_nan():
    assert canonical({"b": 1, "a": [1.5, "ü"]}) == '{"a":[1.5,"ü"],"b":1}'.encode()
    assert digest({"a": 1, "b": 2}) == digest(json.loads('{"b":2,"a":1}')) != digest({"a": 1, "b": 3})
    with pytest.raises(ValueError, match="JSON"):
        canonical({"loss": float("nan")})


def test_file_digest(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert file_digest(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


COMPUTES_ALL = """
import sys
from pathlib import Path
import torch
from harness.experiment.resources import CellResources
from harness.storage.store import Store

root, mine = Path(sys.argv[1]), Path(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for number in range(30):
    def compute():
        with mine.open("a") as file:
            file.write(f"{number}\\n")
        return {"x": torch.full((50_000,), float(number))}
    (tensor,) = CellResources(0, None, Store(root), {}).cached({"number": number}, compute).values()
    assert torch.equal(tensor, torch.full((50_000,), float(number)))
"""


def test_processes_that_need_the_same_statistics_compute_them_once(tmp_path):
    script = tmp_path / "computes_all.py"
    script.write_text(COMPUTES_ALL)
    computed = [tmp_path / f"computed-{number}" for number in range(3)]
    processes = [
        subprocess.Popen(
            [sys.executable, script, tmp_path / "store", mine],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": PYTHONPATH},
        )
        for mine in computed
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate()[1] for process in processes] == ["", "", ""]
    lines = [line for file in computed if file.exists() for line in file.read_text().splitlines()]
    assert sorted(map(int, lines)) == list(range(30))


def test_a_folder_that_is_only_read_is_not_changed(store, tmp_path):
    store.write_json("scores", KEY, {"CEM": 50})
    store.write_json("scores", {**KEY, "seed": 1}, {"CEM": 60})
    damaged = store.root / "scores" / f"{digest(KEY)}.json"
    damaged.write_bytes(b"{}")
    before = {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}
    reader = Store(store.root, tmp_path / "scratch")
    for _ in range(2):  # it is found damaged each time
        assert not reader.check("scores", digest(KEY))
        assert reader.read_json("scores", KEY) is None
    assert reader.all_json("scores") == [{"CEM": 60}]
    reader.write_json("scores", {**KEY, "seed": 2}, {"CEM": 70})
    assert reader.read_json("scores", {**KEY, "seed": 2}) == {"CEM": 70}
    reader.remove("scores", {**KEY, "seed": 1})
    assert reader.read_json("scores", {**KEY, "seed": 1}) == {"CEM": 60}
    reader.remove("scores", {**KEY, "seed": 2})
    assert not reader.has("scores", {**KEY, "seed": 2})
    assert {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()} == before
