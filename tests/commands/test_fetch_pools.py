"""Pools are fetched from a `datasets` folder and from zip archives on a real server on this machine."""

import io
import json
import re
import zipfile
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from benchmarks.data.conversations import load_conversations
from benchmarks.errors import UserError
from harness.commands import fetch as fetching
from harness.commands import fetch_pools
from harness.commands.remote_file import open_remote
from harness.config.schema import Pool
from harness.data.pools import open_pool
from harness.data.requirements import POOL_SOURCES, Requirement
from helpers.servers import running

TURNS = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "That."}]


def need(pool, file):
    return Requirement(f"{pool}-pool", "pool", file, *POOL_SOURCES[pool], "not there")


def encoded(shade):
    file = io.BytesIO()
    Image.new("RGB", (8, 6), (shade, 0, 0)).save(file, "PNG")
    return file.getvalue()


def test_two_pools_in_one_folder_have_pictures_of_their_own(tmp_path):
    shades = {"calibration": 200, "replay": 50}
    for name, shade in shades.items():
        row = {"conversations": TURNS, "image": encoded(shade)}
        fetch_pools.write_samples([("a set", row)], tmp_path / f"{name}.json")
    for name, shade in shades.items():
        ((sample, _),) = load_conversations(tmp_path / f"{name}.json")
        assert sample.pictures[0].pixels().getpixel((0, 0)) == (shade, 0, 0)


def test_a_draw_is_uniform_random_and_repeatable():
    counts = Counter(row for seed in range(2000) for row in fetch_pools.draw(range(10), 4, seed))
    assert all(abs(count - 800) < 100 for count in counts.values()), counts  # 4.6 standard deviations
    firsts = Counter(fetch_pools.draw(range(10), 4, seed)[0] for seed in range(2000))
    assert all(abs(count - 200) < 65 for count in firsts.values()), firsts  # the order is random too
    drawn = fetch_pools.draw(iter(range(5000)), 512, 233)
    assert drawn == fetch_pools.draw(range(5000), 512, 233)
    assert len(set(drawn)) == 512
    assert max(drawn) > 4000  # control: not the first ones
    assert sorted(fetch_pools.draw("abc", 9, 0)) == ["a", "b", "c"]


def test_random_rows_of_each_set_become_llava_s_format(tmp_path, monkeypatch):
    """From `datasets` folders on the disk, as the hub's are laid out; rows without a picture do not count."""
    import datasets

    for part, name in enumerate(fetch_pools.SETS):
        pictures = [Image.new("RGB", (8, 6), (shade, part, 0)) for shade in range(20)] + [None] * 5
        rows = {"id": [f"{name}/{row}" for row in range(25)], "image": pictures, "conversations": [TURNS] * 25}
        datasets.Dataset.from_dict(rows).to_parquet(str(tmp_path / name / "train.parquet"))
    load, asked = datasets.load_dataset, []

    def load_dataset(repository, name, **options):
        asked.append((repository, name))
        return load(str(tmp_path / name), cache_dir=str(tmp_path / "cache"), **options)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(fetch_pools, "ROWS_PER_SET", 8)
    file = tmp_path / "out" / "calibration.json"
    assert fetching.fetch([need("calibration", file)]) == [file]
    assert asked == [("lmms-lab/LLaVA-OneVision-Data", name) for name in fetch_pools.SETS]
    pool = open_pool(str(file), Pool.CALIBRATION)
    found = [sample for sample, _ in load_conversations(file)]
    assert len(found) == len({sample.id for sample in found}) == 32
    assert Counter(map(pool.source, found)) == {f"LLaVA-OneVision:{name}": 8 for name in fetch_pools.SETS}
    shades = [sample.pictures[0].pixels().getpixel((0, 0)) for sample in found]
    assert {green for _, green, _ in shades[8:16]} == {1}  # each set's own pictures
    assert sorted(red for red, _, _ in shades[:8]) != list(range(8))  # not its first rows
    assert found[0].turns[1].text == "That."
    assert pool.description == "LLaVA-OneVision-Data"
    content = file.read_bytes()
    fetching.fetch([need("calibration", file)])
    assert file.read_bytes() == content


class Archives(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        """Quiet."""

    def do_GET(self):
        content = self.server.files.get(self.path)
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if content is None or not asked:
            self.send_error(404)
            return
        first, last = (int(number) for number in asked.groups())
        body = content[first : last + 1] if self.server.parts else content
        self.server.sent += len(body)
        self.send_response(206 if self.server.parts else 200)
        self.send_header("content-range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def mixture(tmp_path, monkeypatch):
    """The mixture's JSON as from the hub, and its pictures in two archives on a server; a third is not there."""
    import huggingface_hub

    rows, members = [], {"coco/train2017": {}, "gqa/images": {}}
    for number in range(40):
        folder = ("coco/train2017", "gqa/images")[number % 2]
        if number != 4:  # one picture is missing from its archive
            members[folder][f"unzipped/{number}.jpg"] = encoded(number)
        # Ids are not unique there: one COCO picture has several dialogues.
        rows.append({"id": f"{number // 4:012d}", "image": f"{folder}/{number}.jpg", "conversations": TURNS})
    rows.append({"id": "chat_0", "conversations": [{"from": "gpt", "value": "And"}, *talk("Hi", "Hello")]})
    rows.append({"id": "chat_1", "conversations": talk("Hi", " ")})
    rows.append({"id": "x", "image": "coco/train2017/../../secret.jpg", "conversations": TURNS})
    (tmp_path / "mix.json").write_text(json.dumps(rows))
    asked = []

    def hf_hub_download(repository, name, repo_type):
        asked.append((repository, name, repo_type))
        return str(tmp_path / "mix.json")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Archives)
    server.files, server.parts, server.sent, server.asked = {}, True, 0, asked
    for folder, content in members.items():
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("large.bin", b"\0" * 3_000_000)
            for name, data in content.items():
                archive.writestr(name, data)
        server.files[f"/{folder}.zip"] = file.getvalue()
    with running(server):
        addresses = {each: f"http://127.0.0.1:{server.server_port}/{each}.zip" for each in members}
        monkeypatch.setattr(fetch_pools, "ARCHIVES", addresses)
        server.members = members
        yield server


def talk(question, answer):
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def test_a_random_sample_of_the_mixture_comes_with_its_pictures_alone(mixture, tmp_path, caplog):
    caplog.set_level("INFO", logger="harness")
    file = tmp_path / "out" / "replay.json"
    assert fetching.fetch([need("replay", file)]) == [file]
    assert mixture.asked == [("liuhaotian/LLaVA-Instruct-150K", "llava_v1_5_mix665k.json", "dataset")]
    found = [sample for sample, _ in load_conversations(file)]
    pool = open_pool(str(file), Pool.REPLAY)
    sources = {f"llava_v1_5_mix665k:{part}": count for part, count in {"coco": 19, "gqa": 20, "text": 1}.items()}
    assert Counter(map(pool.source, found)) == sources
    assert len({sample.id for sample in found}) == len(found) == 40
    for sample in found:  # each has its own picture
        if sample.pictures:
            red = sample.pictures[0].pixels().getpixel((0, 0))[0]
            assert sample.id.endswith(f"-{red // 4:012d}")
        else:
            assert [turn.text for turn in sample.turns] == ["Hi", "Hello"]
    assert any("2 without their picture, 1 not a dialogue" in line for line in caplog.messages)
    assert mixture.sent < 3_000_000  # of archives of 6 MB
    assert pool.description == "llava_v1_5_mix665k, the instruction data of LLaVA-1.5"


@pytest.mark.parametrize("picture", [b"no picture", encoded(3)[:-40], b""])
def test_a_picture_that_cannot_be_read_is_named_by_set_and_row(picture, tmp_path):
    rows = [("set", {"id": "a/7", "conversations": talk("Q?", "A"), "image": {"bytes": picture}})]
    with pytest.raises(UserError, match="its picture cannot be read") as caught:
        fetch_pools.write_samples(rows, tmp_path / "pool.json")
    assert caught.value.location == "set, row a_7"
    assert not (tmp_path / "pool.json").exists()
    rows[0][1]["image"] = {"bytes": encoded(3)}
    assert fetch_pools.write_samples(rows, tmp_path / "pool.json").exists()


def test_fewer_rows_than_the_mixture_has_are_drawn_at_random(mixture, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch_pools, "REPLAYED", 10)
    file = fetch_pools.fetch_replay(tmp_path / "a" / "replay.json")
    assert len(json.loads(file.read_text())) == 10
    again = fetch_pools.fetch_replay(tmp_path / "b" / "replay.json")
    assert again.read_bytes() == file.read_bytes()
    monkeypatch.setattr(fetch_pools, "SEED", 1)
    assert fetch_pools.fetch_replay(tmp_path / "c" / "replay.json").read_bytes() != file.read_bytes()


def test_pictures_that_are_there_already_are_not_downloaded(mixture, tmp_path, monkeypatch):
    for folder, content in mixture.members.items():
        (tmp_path / "pictures" / folder).mkdir(parents=True)
        for name, data in content.items():
            (tmp_path / "pictures" / folder / name.rpartition("/")[2]).write_bytes(data)
    (tmp_path / "pictures" / "secret.jpg").write_bytes(encoded(1))  # must not be reached by the row that names it
    monkeypatch.setenv(fetch_pools.PICTURES, str(tmp_path / "pictures"))
    file = fetch_pools.fetch_replay(tmp_path / "out" / "replay.json")
    assert len(json.loads(file.read_text())) == 40
    assert mixture.sent == 0


def test_servers_that_do_not_do_are_named(mixture, tmp_path):
    address = fetch_pools.ARCHIVES["coco/train2017"]
    mixture.parts = False
    with pytest.raises(UserError, match="the server sends no parts of files"):
        open_remote(address)
    mixture.parts = True
    with pytest.raises(UserError, match="it cannot be read") as caught:
        open_remote(f"{address}x")
    assert f"{address}x" in str(caught.value)
    mixture.files["/coco/train2017.zip"] = b"no archive" * 100
    with pytest.raises(UserError, match="it is no zip archive") as caught:
        fetch_pools.fetch_replay(tmp_path / "replay.json")
    assert fetch_pools.PICTURES in caught.value.hint
    assert not (tmp_path / "replay.json").exists()


def test_without_network_the_error_names_a_way_out(tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"data\.replay=FILE\.json"):
        fetch_pools.fetch_replay(tmp_path / "replay.json")
