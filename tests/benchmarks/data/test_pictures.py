"""Pictures in zip archives as EVOKE and KORE-74K publish them, and malicious archives."""

import json
import stat
import unicodedata
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.data.conversations import load_conversations
from benchmarks.data.knowledge import load_knowledge
from benchmarks.data.pictures import _ConcatenatedFile, find_picture
from benchmarks.errors import UserError
from benchmarks.evoke import Evoke
from benchmarks.records import IMAGE
from helpers import synthetic

SHORT = "\nAnswer the question using a single word or phrase."


def talk(question, answer):
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def png(shade):
    import base64

    return base64.b64decode(synthetic.png(shade))


def zipped(path, members, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def evoke(tmp_path):
    """EVOKE as the hub holds it: JSON two folders down, pictures in four archives."""
    texts = tmp_path / "json" / "jsonl"
    texts.mkdir(parents=True)
    asked = {"from": "human", "value": f"{IMAGE}\nCan you describe the film depicted in the image?"}
    injected = [
        {
            "id": 1,
            "image": "wikidata_imgs/Jaime Olías_wiki.jpg",
            "conversations": [asked, {"from": "gpt", "value": "A."}],
        },
        {"id": 2, "image": "cnn_news_imgs/cnn_178/b.jpg", "conversations": [asked, {"from": "gpt", "value": "B."}]},
    ]
    (texts / "evoke_injection_data.json").write_text(json.dumps(injected))
    rows = [
        ("eval_wikidata_imgs/'Ford'_'automaker'_5.jpg", f"'How tall is it?'{SHORT}", "'ten foot tall'", "film", "wiki"),
        ("cnn_news_eval_imgs/cnn_178/c.jpg", f"Who surpassed it?{SHORT}", "Tesla", "business", "news"),
    ]
    keys = ("image", "text", "answer", "type", "cnn_wiki_type")
    lines = [{"question_id": i} | dict(zip(keys, row, strict=True)) for i, row in enumerate(rows, start=1)]
    (texts / "evoke_evaluation_data.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    images = tmp_path / "imgs"
    # A Mac's spelling of the accent, a folder too many, one too few.
    accent = unicodedata.normalize("NFD", "wikidata_imgs/Jaime Olías_wiki.jpg")
    zipped(images / "injection" / "evoke_entity_injection_imgs.zip", {accent: png(1)})
    zipped(images / "injection" / "evoke_news_injection_imgs.zip", {"more/cnn_news_imgs/cnn_178/b.jpg": png(2)})
    zipped(images / "evaluation" / "evoke_entity_evaluation_imgs.zip", {rows[0][0]: png(3)})
    zipped(images / "evaluation" / "evoke_news_evaluation_imgs.zip", {rows[1][0]: png(4)})
    return tmp_path


def test_evoke_as_published(evoke, tmp_path):
    items = load_knowledge(evoke / "json" / "jsonl" / "evoke_injection_data.json")
    assert [(item.id, item.name, item.group, item.type) for item in items] == [
        ("1", "Jaime Olías", "entity", "film"),
        ("2", "b", "news", "film"),
    ]
    assert [item.picture.encoded for item in items] == [png(1), png(2)]
    assert items[0].picture.pixels().size == (24, 24)
    questions = Evoke(evoke / "json" / "jsonl" / "evoke_evaluation_data.jsonl", tmp_path).questions()
    assert [question.pictures[0].encoded for question in questions] == [png(3), png(4)]
    assert questions[0].reference == "'ten foot tall'"
    assert questions[0].turns[0].endswith(SHORT)
    assert not any(path.suffix == ".jpg" for path in evoke.rglob("*"))  # nothing was unpacked


def test_evoke_may_be_flat(evoke):
    """As the hub had it at other times: the JSON at the top, the archives in a folder of another name."""
    for file in (evoke / "json" / "jsonl").iterdir():
        file.rename(evoke / file.name)
    (evoke / "imgs" / "injection").rename(evoke / "injection_imgs")
    items = load_knowledge(evoke / "evoke_injection_data.json")
    assert [item.picture.encoded for item in items] == [png(1), png(2)]


def test_published_evoke_has_9422_questions(evoke, tmp_path):
    file = evoke / "json" / "jsonl" / "evoke_evaluation_data.jsonl"
    with pytest.raises(UserError, match=r"2 questions with unique ids; EVOKE has 9,422"):
        Evoke(file, tmp_path, published=True).questions()


def test_pictures_unpacked_by_hand_are_found_too(evoke):
    for archive in (evoke / "imgs").rglob("*.zip"):
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(archive.with_suffix(""))
        archive.unlink()
    folder = evoke / "json" / "jsonl"
    assert find_picture(folder, "cnn_news_eval_imgs/cnn_178/c.jpg").read_bytes() == png(4)
    with pytest.raises(ValueError, match="is missing"):
        find_picture(folder, "cnn_news_eval_imgs/cnn_178/x.jpg")


def test_kore_74k_with_an_archive_in_parts(tmp_path):
    texts = tmp_path / "json" / "jsonl"
    texts.mkdir(parents=True)
    rows = [
        {"id": "1", "image": "vqa/a.png", "conversations": talk(f"{IMAGE}\nWho?", "He.")},
        {"id": "2", "image": "vqa/b.png", "conversations": talk("Where?", "There.")},
        {"id": "2", "image": "vqa/b.png", "conversations": talk(f"When? {IMAGE}{IMAGE}", "Now.")},
    ]
    (texts / "KORE-74K-training_data.json").write_text(json.dumps(rows))
    whole = zipped(tmp_path / "whole.zip", {"imgs_of_vqa/vqa/a.png": png(1), "imgs_of_vqa/vqa/b.png": png(2)})
    data = whole.read_bytes()
    whole.unlink()
    parts = tmp_path / "imgs" / "imgs_of_vqa"
    parts.mkdir(parents=True)
    for number in range(3):
        cut = len(data) // 3 + 1
        (parts / f"split_zip_part_{number:02d}").write_bytes(data[number * cut : (number + 1) * cut])
    samples = [sample for sample, _ in load_conversations(texts / "KORE-74K-training_data.json")]
    assert [sample.pictures[0].encoded for sample in samples] == [png(1), png(2), png(2)]
    assert [sample.turns[0].text for sample in samples] == [f"{IMAGE}\nWho?", f"{IMAGE}\nWhere?", f"{IMAGE}\nWhen?"]


@settings(max_examples=40)
@given(
    st.binary(max_size=60), st.integers(1, 5), st.lists(st.tuples(st.integers(0, 70), st.integers(-1, 70)), max_size=6)
)
def test_parts_read_as_one_file(tmp_path_factory, data, count, reads):
    folder = tmp_path_factory.mktemp("parts")
    cut = len(data) // count + 1
    paths = []
    for number in range(count):
        paths.append(folder / str(number))
        paths[-1].write_bytes(data[number * cut : (number + 1) * cut])
    (folder / "whole").write_bytes(data)
    with _ConcatenatedFile(paths) as joined, (folder / "whole").open("rb") as whole:
        for place, size in reads:
            assert joined.seek(place) == whole.seek(place)
            assert joined.read(size) == whole.read(size)
            assert joined.tell() == whole.tell()


def link():
    info = zipfile.ZipInfo("a.png")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("member", "content", "words"),
    [
        ("../a.png", b"x", "points outside its folder"),
        ("/etc/a.png", b"x", "points outside its folder"),
        ("b\\..\\a.png", b"x", "points outside its folder"),
        ("C:a.png", b"x", "points outside its folder"),
        (link(), b"/etc/passwd", "is a link"),
        ("a.png", bytes(30 << 20), "like a zip bomb"),
    ],
)
def test_malicious_archives_are_refused(tmp_path, member, content, words):
    zipped(tmp_path / "imgs" / "x.zip", {"good/b.png": png(1)})
    assert find_picture(tmp_path, "good/b.png")
    zipped(tmp_path / "imgs" / "y.zip", {member: content}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match=words) as caught:
        find_picture(tmp_path, "a.png")
    assert "y.zip" in str(caught.value)


def test_damage_is_reported(tmp_path):
    archive = zipped(tmp_path / "imgs" / "x.zip", {"a.png": png(1), "b/a.jpg": png(2), "c/a.jpg": png(3)})
    with pytest.raises(ValueError, match="several files"):
        find_picture(tmp_path, "a.jpg")
    row = {"id": 1, "image": "wiki/a.png", "conversations": talk(f"{IMAGE}Who?", "He.")}
    (tmp_path / "k.json").write_text(json.dumps([row]))
    with pytest.raises(UserError, match="is missing"):
        load_knowledge(tmp_path / "k.json")  # an archive's name may have folders more than the row's, not fewer
    member = find_picture(tmp_path, "a.png")
    data = bytearray(archive.read_bytes())
    data[45] ^= 255
    archive.write_bytes(data)
    with pytest.raises(OSError, match="the archive is damaged"):
        member.read_bytes()
    archive.write_bytes(data[:50])
    with pytest.raises(UserError, match="the archive is damaged"):
        find_picture(tmp_path, "z.png")
