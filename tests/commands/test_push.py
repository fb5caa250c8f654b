"""Uploads to the hub, against a local server that plays its API: what arrives, and what is refused or fails."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from huggingface_hub import constants

from benchmarks.errors import UserError
from harness.commands import export
from harness.commands.compare import compare
from harness.commands.push import check_push, push
from harness.config.settings import Request, resolve
from helpers import hub_server, small_runs

TOKEN = "hf_a-very-secret-token"  # noqa: S105
NAME = "someone/an-adapter"


@pytest.fixture
def hub(monkeypatch):
    with hub_server.serving(TOKEN) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture
def folder(tmp_path):
    """Looks like an export."""
    place = tmp_path / "out"
    (place / "base").mkdir(parents=True)
    (place / "README.md").write_text("---\nlibrary_name: peft\n---\n# A card\n")
    (place / "adapter_config.json").write_text('{"base_model_name_or_path": "some/model"}')
    (place / "base" / "model.safetensors").write_bytes(b"weights")
    return place


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_arrives_as_it_is_in_a_private_repository(hub, folder):
    check_push(NAME)
    assert push(folder, NAME) == f"{hub.url}/{NAME}"
    assert hub.repositories[NAME].files == contents(folder)
    assert hub.repositories[NAME].private
    assert any(path.startswith("/lfs/") for path in hub.paths), "weights are large files"
    push(folder, "someone/open", public=True)
    assert not hub.repositories["someone/open"].private


def test_a_second_upload_is_a_commit_more(hub, folder):
    push(folder, NAME)
    (folder / "README.md").write_text("---\nlibrary_name: peft\n---\n# Another card\n")
    push(folder, NAME)
    assert hub.repositories[NAME].files == contents(folder)
    assert len(hub.repositories[NAME].messages) == 2


@pytest.mark.parametrize(
    ("private", "files", "public", "words"),
    [
        (False, {}, False, "exists and is public.*add --public"),
        (True, {}, True, "exists and is private.*leave out --public"),
        (True, {"model.safetensors": b"theirs"}, False, "holds other files, such as model.safetensors"),
    ],
)
def test_a_repository_of_another_kind_is_left_alone(hub, folder, private, files, public, words):
    hub.repositories[NAME] = hub_server.Repository(private, dict(files))
    with pytest.raises(UserError, match=re.compile(words, re.DOTALL)) as caught:
        push(folder, NAME, public=public)
    assert hub.repositories[NAME].files == files
    assert f"hf upload {NAME} {folder} ." in str(caught.value)


@pytest.mark.parametrize("place", ["/api/repos/create", "/preupload/", "/commit/"])
@pytest.mark.parametrize(("status", "words"), [(401, "hf auth login"), (403, "write access"), (400, "")])
def test_what_the_hub_refuses_leaves_the_folder_and_says_how_to_go_on(hub, folder, place, status, words):
    hub.failures[place] = status
    before = contents(folder)
    with pytest.raises(UserError, match="the upload failed") as caught:
        push(folder, NAME)
    message = str(caught.value)
    assert words in message
    assert f"upload it with `hf upload {NAME} {folder} . --private`" in message
    assert TOKEN not in message
    assert contents(folder) == before
    hub.failures.clear()
    push(folder, NAME)  # the same command once the cause is gone
    assert hub.repositories[NAME].files == before


def test_a_hub_that_fails_or_is_not_there_is_named(hub, folder, monkeypatch):
    hub.failures["/api/repos/create"] = 503
    with pytest.raises(UserError, match="503"):
        push(folder, NAME, public=True)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="the upload failed") as caught:
        push(folder, NAME, public=True)
    assert f"hf upload {NAME} {folder} .`" in str(caught.value), "public: no --private"


def test_another_token_is_refused(hub, folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    with pytest.raises(UserError, match="does not accept the token") as caught:
        push(folder, NAME)
    assert "hf_another" not in str(caught.value)
    assert hub.repositories == {}


@pytest.mark.parametrize("name", ["one", "a/b/c", "a b/c", "/x", "x/", "--x/y", ""])
def test_what_is_no_repository_is_refused(hub, name):
    with pytest.raises(UserError, match="--push"):
        check_push(name)


def test_without_a_token_or_a_hub_nothing_is_begun(hub, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="switched off"):
        check_push(NAME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(UserError, match="no token"):
        check_push(NAME)
    (tmp_path / "token").write_text(TOKEN)
    check_push(NAME)  # control: a login counts
    assert hub.paths == []


def test_a_path_of_this_machine_is_not_uploaded(hub, folder):
    (folder / "base" / "config.json").write_text(f'{{"source": "{folder.parent}"}}')
    with pytest.raises(UserError, match="names a path of this machine") as caught:
        push(folder, NAME)
    assert str(folder / "base" / "config.json") in str(caught.value)
    assert hub.paths == []
    (folder / "base" / "config.json").write_text('{"source": "/no/such/place/here", "see": "https://x.org/usr/bin"}')
    push(folder, NAME)


@pytest.mark.slow
def test_the_command_exports_and_uploads(tmp_path, tiny_folder):
    """Each form in turn, as a user types it; no token in what is printed or uploaded, and no path of this machine."""
    preset = small_runs.write_preset(tmp_path, tiny_folder, old="mini")
    compare(Request(("lora", "lora:scaled-0.5"), resolve(str(preset)), tmp_path / "run"))
    environment = {name: value for name, value in os.environ.items() if "OFFLINE" not in name}
    environment |= {"HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(tmp_path / "home")}

    def command(name, *options, **more):
        place = str(tmp_path / name)
        words = ["export", str(tmp_path / "run"), "--row", "lora", "--to", place, "--push", f"me/{name}", *options]
        return subprocess.run(
            [sys.executable, "-m", "harness", *words], capture_output=True, text=True, timeout=300,
            env=environment | more,
        )  # fmt: skip

    with hub_server.serving(TOKEN) as server:
        for name, options in {"a": (), "m": ("--merge",), "w": ("--without-projector", "--public")}.items():
            done = command(name, *options, HF_ENDPOINT=server.url)
            assert done.returncode == 0, done.stderr
            assert f"uploaded to {server.url}/me/{name}" in done.stdout
            repository = server.repositories[f"me/{name}"]
            assert repository.files == contents(tmp_path / name)
            assert repository.private == (name != "w")
            assert TOKEN not in done.stdout + done.stderr
            for content in repository.files.values():
                assert str(tmp_path).encode() not in content
                assert TOKEN.encode() not in content
        assert b'from_pretrained(base, "me/w", subfolder="adapter")' in server.repositories["me/w"].files["README.md"]
        server.failures["/commit/"] = 403
        done = command("late", HF_ENDPOINT=server.url)
        assert done.returncode == 2
        assert "hf upload me/late" in done.stderr
        assert (tmp_path / "late" / "adapter_model.safetensors").is_file()
    done = command("offline", HF_HUB_OFFLINE="1")
    assert (done.returncode, (tmp_path / "offline").exists()) == (2, False)
    scaled = export.export(tmp_path / "run", "lora:scaled-0.5", tmp_path / "scaled")
    assert scaled.difference == 0
