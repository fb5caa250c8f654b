"""Where pictures come from: the rule of selection, CLIP over a folder, and a web search full of traps."""

from __future__ import annotations

import dataclasses
import io
import json
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import torch
from transformers import CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from benchmarks.errors import UserError
from benchmarks.records import Picture
from harness.augment.factory import build_images
from harness.augment.image_cache import CachedEmbedder
from harness.augment.options import Options
from harness.storage.store import Store
from helpers import tiny
from helpers.servers import running
from methods.augmentation.generators.base import ShortQuestion
from methods.augmentation.images import web_search as web
from methods.augmentation.images.base import OwnImages
from methods.augmentation.images.clip import Clip
from methods.augmentation.images.search import FolderSearch, ImageSearch, drop_duplicates, most_similar

ITEM = dataclasses.replace(tiny.knowledge(1)[0], name="flag of Ghana", type="flag")
ABOUT = ShortQuestion("What colour is the flag in the image?", "red", "flag of Ghana", "flag")


def test_the_two_most_similar_are_chosen_and_the_identical_left_out():
    original = np.array([2.0, 0.0])
    candidates = np.array([[0.0, 1.0], [5.0, 0.0], [1.0, 1.0], [1.0, 0.2], [-1.0, 0.0], [0.0, 0.0]])
    assert most_similar(original, candidates, 2) == [3, 2]
    assert most_similar(original, candidates, 9) == [3, 2, 0, 5, 4]
    assert most_similar(original, candidates, 9, min_cosine=0.5) == [3, 2]
    assert most_similar(original, candidates[1:2], 2) == []
    assert most_similar(original, np.zeros((0, 2)), 2) == []


def test_doubles_are_found_by_bytes_and_by_look():
    pixels = tiny.picture(0, 64).pixels()
    again = io.BytesIO()
    pixels.resize((100, 100)).save(again, "JPEG", quality=60)
    other = tiny.picture(1)
    kept = drop_duplicates([tiny.picture(0), Picture(again.getvalue()), tiny.picture(0), other])
    assert kept == [tiny.picture(0), other]


def test_own_pictures_are_about_the_item_and_nothing_else():
    own = OwnImages(0)
    assert len({picture.sha256 for picture in own.alike(ITEM, 5)}) == 5
    assert own.about(ITEM, ABOUT, 0) is not None
    assert own.about(ITEM, dataclasses.replace(ABOUT, subject="the sea"), 0) is None


def test_clip_embeds_as_transformers_does(clip_folder):
    clip = Clip(clip_folder)
    pictures = [tiny.picture(number) for number in range(3)]
    vectors = clip.pictures(pictures)
    assert vectors.shape == (3, 8)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    model = CLIPModel.from_pretrained(clip_folder).eval()
    pixels = CLIPImageProcessorPil.from_pretrained(clip_folder)([p.pixels() for p in pictures], return_tensors="pt")
    with torch.inference_mode():
        wanted = model.visual_projection(model.vision_model(**pixels).pooler_output).numpy()
    assert np.allclose(vectors, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-5)
    assert not np.allclose(clip.words("flag"), clip.words("dogs"))
    assert clip.words("word " * 500).shape == (8,)


@pytest.mark.parametrize("break_it", ["config", "pickle", "other"])
def test_a_folder_that_holds_no_clip_is_refused(clip_folder, tmp_path, break_it):
    for path in clip_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    if break_it == "config":
        (tmp_path / "config.json").unlink()
    elif break_it == "pickle":
        (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    else:
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "nothing"}))
    with pytest.raises(UserError, match=r"not a model folder|cannot be opened|not a CLIP"):
        Clip(tmp_path)


def fill(folder: Path, count: int = 12) -> Path:
    (folder / "deep").mkdir(parents=True)
    for number in range(count):
        (folder / "deep" / f"{number}.png").write_bytes(tiny.picture(100 + number).encoded)
    (folder / "same.png").write_bytes(ITEM.picture.encoded)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_a_folder_is_searched_by_words_and_chosen_by_likeness(clip_folder, tmp_path):
    folder, clip = fill(tmp_path / "pictures"), Clip(clip_folder)
    search = FolderSearch(folder, clip)
    paths = sorted(path for path in folder.rglob("*.png"))
    vectors = clip.pictures([Picture(path) for path in paths])
    by_words = [paths[row] for row in np.argsort(-(vectors @ clip.words(ITEM.name)), kind="stable")]
    assert [picture.source for picture in search.find(ITEM.name, 5)] == by_words[:5]
    source = ImageSearch(search, clip, seed=0)
    own = clip.pictures([ITEM.picture])[0]
    nearest = sorted(by_words[:5], key=lambda path: -float(clip.pictures([Picture(path)])[0] @ own))
    wanted = [path for path in nearest if path.name != "same.png"][:2]
    assert [picture.source for picture in source.alike(ITEM, 2)] == wanted
    first = search.find("flag of Ghana flag", 1)[0]
    assert source.about(ITEM, ABOUT, 0) == first


def test_where_a_search_finds_too_little_the_own_picture_stands_in(clip_folder, tmp_path):
    class Empty:
        def find(self, words, count):
            return []

    source = ImageSearch(Empty(), Clip(clip_folder), seed=0)
    assert source.alike(ITEM, 2) == OwnImages(0).alike(ITEM, 2)
    assert source.about(ITEM, ABOUT, 0) == OwnImages(0).about(ITEM, ABOUT, 0)
    with pytest.raises(UserError, match="there is no picture"):
        FolderSearch(tmp_path, Clip(clip_folder))


def test_embeddings_are_computed_once(clip_folder, tmp_path):
    class Counting(Clip):
        seen = 0

        def pictures(self, pictures):
            self.seen += len(pictures)
            return super().pictures(pictures)

    counting, store = Counting(clip_folder), Store(tmp_path / "store")
    pictures = [tiny.picture(number) for number in range(5)]
    first = CachedEmbedder(counting, store).pictures(pictures)
    again = CachedEmbedder(counting, store).pictures([*pictures[::-1], tiny.picture(9)])
    assert counting.seen == 6
    assert np.array_equal(first, again[4::-1])


# The web.


class Web(ThreadingHTTPServer):
    """A search engine and the sites it finds, all on this machine."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Site)
        self.links: list[str] = []
        self.asked: list[dict[str, list[str]]] = []
        self.fetched: list[str] = []
        self.failures = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address) -> None:
        """A caller that hangs up early does what it should."""


class Site(BaseHTTPRequestHandler):
    server: Web

    def log_message(self, *arguments) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        path = urlsplit(self.path)
        if path.path == "/search":
            self.server.asked.append(parse_qs(path.query))
            if self.server.failures:
                self.server.failures -= 1
                return self.reply(503, "text/plain", b"busy")
            links = [{"link": link if "//" in link else self.server.url + link} for link in self.server.links]
            return self.reply(200, "application/json", json.dumps({"items": [*links, {}, "junk"]}).encode())
        self.server.fetched.append(path.path)
        name = path.path.strip("/")
        if name.startswith("good"):
            return self.reply(200, "image/png; charset=x", tiny.picture(int(name[4:])).encoded)
        if name == "moved":
            return self.reply(302, "text/plain", b"", location="/good3")
        if name == "loop":
            return self.reply(302, "text/plain", b"", location="/loop")
        if name == "file":
            return self.reply(302, "text/plain", b"", location="file:///etc/passwd")
        if name == "html":
            return self.reply(200, "text/html", b"<html>")
        if name == "large":
            return self.reply(200, "image/png", b"\x89PNG" + b"0" * (web.MAX_BYTES + 10))
        if name == "broken":
            return self.reply(200, "image/png", tiny.picture(0).encoded[:100])
        if name == "bomb":
            return self.reply(200, "image/png", tiny.bomb())
        if name == "slow":
            time.sleep(0.5)
            return self.reply(200, "image/png", tiny.picture(0).encoded)
        return self.reply(404, "text/plain", b"")

    def reply(self, status: int, kind: str, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for key, value in {"content-type": kind, "content-length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def on_the_web():
    server = Web()
    with running(server):
        yield server


@pytest.fixture
def engine(monkeypatch):
    with on_the_web() as server:
        monkeypatch.setenv(web.URL, f"{server.url}/search")
        monkeypatch.setenv(web.KEY, "secret-key")
        monkeypatch.setenv(web.ENGINE, "mine")
        monkeypatch.setattr(web, "TIMEOUT", 0.3)
        monkeypatch.setattr(web, "BACKOFF", 0.01)
        yield server


TRAPS = ["html", "large", "broken", "bomb", "slow", "loop", "file", "gone", "http://nowhere.invalid/a.png",
         "ftp://127.0.0.1/a.png", "file:///etc/passwd", "javascript:alert(1)//"]  # fmt: skip


def test_what_can_be_had_is_found_and_traps_are_stepped_over(engine):
    engine.links = [
        *(f"/{name}" if "//" not in name else name for name in TRAPS),
        "/good1",
        "/moved",
        "/good1",
        "/good2",
    ]
    found = web.WebSearch(lambda key, download: download()).find("flag of Ghana", 3)
    assert len(found) == 3
    assert [picture.pixels().size for picture in found] == [(64, 64)] * 3
    assert all(picture.encoded.startswith(b"\xff\xd8\xff") for picture in found)  # written anew
    assert engine.asked[0]["q"] == ["flag of Ghana"]
    assert engine.asked[0]["key"] == ["secret-key"]
    assert engine.asked[0]["cx"] == ["mine"]
    assert "/good2" in engine.fetched


def test_a_busy_engine_is_asked_again_and_a_broken_one_is_an_error_without_the_key(engine):
    engine.links, engine.failures = ["/good1"], 1
    assert len(web.WebSearch(lambda key, download: download()).find("x", 1)) == 1
    engine.failures = 99
    with pytest.raises(UserError, match="image search failed") as caught:
        web.WebSearch(lambda key, download: download()).find("x", 1)
    assert "secret-key" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_pictures_inside_the_own_network_are_not_fetched_for_an_engine_outside(engine, monkeypatch):
    with pytest.raises(web.UnusablePicture, match="in the private network"):
        web.download(f"{engine.url}/good1", inside=False)
    assert engine.fetched == []
    assert web.download(f"{engine.url}/good1", inside=True)
    monkeypatch.setattr(web.socket, "getaddrinfo", lambda host, port: [(0, 0, 0, "", ("10.0.0.8", 0))])
    with pytest.raises(web.UnusablePicture, match="in the private network"):
        web.download("http://looks-public.example/a.png", inside=False)


def test_a_search_is_made_once_and_large_pictures_are_scaled_down(engine, clip_folder, tmp_path):
    engine.links = ["/good1", "/good2", "/good4"]
    store = Store(tmp_path / "store")
    options = Options(tmp_path, tmp_path, images="web", clip=clip_folder)
    first = [picture.sha256 for picture in build_images(options, store).alike(ITEM, 2)]
    again = [picture.sha256 for picture in build_images(options, store).alike(ITEM, 2)]
    assert first == again
    assert len(engine.asked) == 1
    big = io.BytesIO()
    tiny.picture(0).pixels().resize((3000, 1500)).save(big, "PNG")
    assert Picture(web.reencode(big.getvalue())).pixels().size == (1024, 512)


def test_without_a_key_nothing_is_asked(monkeypatch):
    monkeypatch.delenv(web.KEY, raising=False)
    with pytest.raises(UserError, match="IMAGE_SEARCH_KEY is not set"):
        web.WebSearch(lambda key, download: download())
