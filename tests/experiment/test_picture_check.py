"""Every picture is decoded before anything is computed, once, and all bad ones are named together."""

from __future__ import annotations

import pytest

from benchmarks.errors import UserError
from benchmarks.records import Picture
from harness.config.settings import Request, resolve
from harness.experiment.context import build_context
from helpers.small_runs import write_preset


@pytest.fixture
def request_of_a_run(tmp_path, tiny_folder):
    preset = write_preset(tmp_path / "bench", tiny_folder)
    return Request(("lora",), resolve(str(preset)), tmp_path / "run")


def cut(file):
    """Keep a valid header."""
    file.write_bytes(file.read_bytes()[:60])


def test_all_damaged_pictures_are_named_before_any_work(request_of_a_run, tmp_path):
    data = tmp_path / "bench" / "data"
    build_context(request_of_a_run)
    for name in ("2.png", "5-other.png"):
        cut(data / name)
    with pytest.raises(UserError, match="2 of 16 pictures cannot be used") as caught:
        build_context(request_of_a_run)
    text = str(caught.value)
    assert "knowledge item item-2" in text
    assert str(data / "2.png") in text
    assert "mini-EVOKE, question 5" in text
    assert str(data / "5-other.png") in text
    assert not list((tmp_path / "run" / "store").glob("training/*"))


def test_pictures_are_decoded_again_only_if_one_is_new(request_of_a_run, tmp_path, monkeypatch):
    decoded = []
    pixels = Picture.pixels
    monkeypatch.setattr(Picture, "pixels", lambda picture: decoded.append(picture.sha256) or pixels(picture))
    build_context(request_of_a_run)
    first = len(decoded)
    build_context(request_of_a_run)
    assert first == len(decoded) == 16
    changed = tmp_path / "bench" / "data" / "0.png"
    Picture(changed).pixels().rotate(90).save(changed)
    build_context(request_of_a_run)
    assert len(decoded) == 16 + 1 + 16
