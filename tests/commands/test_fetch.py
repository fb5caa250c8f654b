"""Downloads against a real server on this machine: whole, cut off, of another table, and refused."""

import dataclasses
import hashlib
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.errors import UserError
from benchmarks.retention_specs import SPEC_BY_NAME
from harness.commands import fetch as fetching
from harness.data.requirements import Requirement
from helpers.servers import running

TABLE = b"index\tquestion\n" + b"0\tx\n" * 100_000
POPE = dataclasses.replace(SPEC_BY_NAME["POPE"], md5=hashlib.md5(TABLE, usedforsecurity=False).hexdigest())


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        """Quiet."""

    def do_GET(self):
        self.server.ranges.append(self.headers.get("Range"))
        status, content = self.server.answer
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        if status == 200 and start:
            status = 206 if start < len(content) else 416
        body = content[start:] if status in (200, 206) else b""
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: self.server.cut] if self.server.cut else body)


@contextmanager
def mirror(monkeypatch, answer=(200, TABLE), cut=0):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answer, server.cut, server.ranges = answer, cut, []
    with running(server):
        monkeypatch.setenv(fetching.TABLES, f"http://127.0.0.1:{server.server_port}/tables/")
        yield server


@pytest.fixture
def need(tmp_path, monkeypatch):
    monkeypatch.setitem(SPEC_BY_NAME, "POPE", POPE)
    return Requirement(
        "POPE", "table", tmp_path / "LMUData" / "POPE.tsv", POPE.url, "5,127 rows", POPE.licence, "not there"
    )


def test_a_table_is_downloaded_and_its_size_and_licence_are_logged(need, monkeypatch, caplog):
    caplog.set_level("INFO", logger="harness")
    with mirror(monkeypatch):
        assert fetching.fetch([need]) == [need.path]
    assert need.path.read_bytes() == TABLE
    assert [path.name for path in need.path.parent.iterdir()] == ["POPE.tsv"]
    assert "licence: MIT" in caplog.messages[0]
    assert "0 MB" in caplog.messages[1]


def test_a_download_that_was_cut_off_goes_on(need, monkeypatch):
    with mirror(monkeypatch, cut=200_000) as server:
        with pytest.raises(UserError, match="goes on where it was"):
            fetching.fetch([need])
        assert not need.path.exists()
        server.cut = 0
        fetching.fetch([need])
        assert server.ranges[0] is None
        assert server.ranges[1] == f"bytes={200_000 // fetching.BLOCK * fetching.BLOCK}-"
    assert need.path.read_bytes() == TABLE


def test_another_table_replaces_nothing(need, monkeypatch):
    need.path.parent.mkdir()
    need.path.write_text("mine")
    with mirror(monkeypatch, (200, b"another")), pytest.raises(UserError, match="not the published table") as caught:
        fetching.fetch([need])
    assert POPE.md5 in str(caught.value)
    assert need.path.read_text() == "mine"
    assert not list(need.path.parent.glob("*.part"))


def test_a_refusing_server_is_named(need, monkeypatch):
    with mirror(monkeypatch, (404, b"")), pytest.raises(UserError, match=r"the download failed \(404"):
        fetching.fetch([need])
    with pytest.raises(UserError, match="nothing says where from"):
        fetching.fetch([dataclasses.replace(need, source="")])


def test_where_nothing_is_missing_that_is_logged(caplog):
    caplog.set_level("INFO", logger="harness")
    assert fetching.fetch([]) == []
    assert caplog.messages == ["nothing is missing"]


def test_a_failure_does_not_stop_the_other_downloads(need, monkeypatch, caplog):
    with mirror(monkeypatch), pytest.raises(UserError, match="1 of 2 things were not fetched: old") as caught:
        fetching.fetch([dataclasses.replace(need, name="old", source=""), need])
    assert need.path.read_bytes() == TABLE
    assert any("not fetched" in line and "nothing says where from" in line for line in caplog.messages)
    assert "continues" in caught.value.hint


def test_models_come_without_pickles_and_data_sets_whole(monkeypatch, tmp_path):
    import huggingface_hub

    asked = []

    def snapshot_download(repository, repo_type, allow_patterns):
        asked.append((repository, repo_type, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    model = Requirement("model", "model", tmp_path / "x", "owner/net", "", "")
    assert fetching.fetch([model, dataclasses.replace(model, kind="dataset")]) == [tmp_path, tmp_path]
    assert asked == [("owner/net", "model", fetching.WEIGHTS), ("owner/net", "dataset", None)]
    assert not any(pattern.endswith((".bin", ".pt", ".py", "*")) for pattern in fetching.WEIGHTS)


def test_a_connection_that_breaks_does_not_stop_the_others(monkeypatch, tmp_path):
    """The hub's client raises its own errors once it has tried often enough; they are no OSErrors."""
    import huggingface_hub
    from huggingface_hub.errors import HTTPError

    def snapshot_download(repository, repo_type, allow_patterns):
        if repository == "owner/broken":
            raise HTTPError("the server ended the connection")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    good = Requirement("good", "model", tmp_path / "x", "owner/net", "", "")
    with pytest.raises(UserError, match="1 of 2 things were not fetched: broken"):
        fetching.fetch([dataclasses.replace(good, name="broken", source="owner/broken"), good])


def test_without_network_the_error_names_a_way_out(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="it cannot be downloaded from the hub"):
        fetching.fetch_snapshot("owner/nothing", "dataset")
