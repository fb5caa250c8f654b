import json

import pytest
from PIL import Image

from benchmarks.data.knowledge import load_knowledge
from benchmarks.errors import UserError
from benchmarks.evoke import Evoke
from benchmarks.records import IMAGE, Answer


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "imgs").mkdir()
    for name in ("a.png", "b.png", "c ñ'.png"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / "imgs" / name)
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "beside.png")
    return tmp_path


def row(number, **changes):
    fields = {
        "question_id": number,
        "image": "a.png",
        "text": "What is it?\nAnswer the question using a single word or phrase.",
        "answer": "Tesla",
        "type": "business",
        "cnn_wiki_type": "news",
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}


def knowledge(number, **changes):
    fields = {
        "id": number,
        "image": "a.png",
        "conversations": [
            {"from": "human", "value": f"{IMAGE}\nCan you describe the bird in the image?"},
            {"from": "gpt", "value": "A robin is a small bird."},
        ],
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}


def evaluation(folder, *rows):
    path = folder / "evoke_evaluation_data.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows), "utf-8")
    return path


def injection(folder, *rows):
    path = folder / "evoke_injection_data.json"
    path.write_text(json.dumps(rows, indent=1), "utf-8")
    return path


def test_questions_keep_the_file_s_order_and_words(folder):
    path = evaluation(
        folder, row(7), row("x", image="c ñ'.png", cnn_wiki_type="wiki", type="film"), row(3, image="beside.png")
    )
    questions = Evoke(path, folder / "w").questions()
    assert [question.id for question in questions] == ["7", "x", "3"]
    assert questions[0].turns == (f"{IMAGE}\nWhat is it?\nAnswer the question using a single word or phrase.",)
    assert (questions[1].group, questions[1].type, questions[1].reference) == ("entity", "film", "Tesla")
    assert questions[2].pictures[0].pixels().getpixel((0, 0)) == (0, 0, 255)
    assert all(question.max_new_tokens == 128 for question in questions)


def test_score_is_the_mean_of_cem_and_f1(folder):
    path = evaluation(
        folder,
        row(1),
        row(2, answer="29%", cnn_wiki_type="wiki", type="film"),
        row(3, answer="Five people"),
        row(4, answer="Ghana"),
    )
    benchmark = Evoke(path, folder / "w", "mini-EVOKE")
    predictions = {"1": "the Tesla company", "2": "29%", "3": "", "4": "Ghana"}
    answers = [Answer(i, (text,), error="out of memory" if i == "4" else "") for i, text in predictions.items()]
    score = benchmark.score(benchmark.questions(), answers)
    assert score.metrics["CEM"] == 50.0
    assert score.metrics["F1"] == pytest.approx(100 * (2 / 3 + 1 + 0 + 1) / 4)
    assert score.headline == pytest.approx((score.metrics["CEM"] + score.metrics["F1"]) / 2)
    assert score.metrics["CEM_safe"] == 75.0
    assert score.metrics["ceiling"] == 75.0
    assert score.metrics["CEM/news"] == pytest.approx(200 / 3)
    assert score.metrics["CEM/entity"] == 0.0
    assert score.metrics["F1/type/film"] == 100.0
    assert [item.status for item in score.items] == ["parsed", "parsed", "empty", "failed"]
    assert score.items[1].values == {"CEM": 0.0, "F1": 1.0, "CEM_safe": 1.0}
    assert (score.metrics["empty"], score.metrics["failed"]) == (25.0, 25.0)


@pytest.mark.parametrize("answers", [[], [Answer("1", ("x",))] * 2, [Answer("1", ("x",)), Answer("9", ("x",))]])
def test_i3_no_score_without_exactly_one_answer_each(folder, answers):
    benchmark = Evoke(evaluation(folder, row(1)), folder / "w")
    with pytest.raises(UserError):
        benchmark.score(benchmark.questions(), answers)
    assert benchmark.score(benchmark.questions(), [Answer("1", ("Tesla",))]).headline == 100.0


def test_a_limit_keeps_whole_clusters(folder):
    path = evaluation(folder, row(1), row(2, image="b.png"), row(3), row(4, image="beside.png"))
    assert [q.id for q in Evoke(path, folder).questions(limit=1)] == ["1", "3"]
    assert [q.id for q in Evoke(path, folder).questions(limit=3)] == ["1", "2", "3"]
    assert len(Evoke(path, folder).questions(limit=99)) == 4
    assert Evoke(path, folder).questions(limit=0) == []


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (row(2, image="gone.png"), "'gone.png' is missing"),
        (row(2, image="../a.png"), "points outside"),
        (row(2, image="/etc/hostname"), "points outside"),
        (row(1), "used in line 1 already"),
        (row(2, answer="  "), "answer is empty"),
        (row(2, answer=["Tesla"]), "answer must be text"),
        (row(2, answer=None, gold="x"), "column 'answer' is missing; the row has 'gold'"),
        (row(2, cnn_wiki_type="blog"), "'news' or 'wiki'"),
        (row(2, text=f"{IMAGE} what?"), "marker"),
        (row(2, question_id=""), "question_id must be"),
        (row(True), "question_id must be"),
        ('{"question_id": 2,', "broken JSON"),
        ("[" * 100_000, "broken JSON"),
        ("[1, 2]", "expected a JSON object"),
    ],
)
def test_a_bad_row_is_reported_with_its_line(folder, bad, words):
    path = evaluation(folder, row(1), "", bad, row(5))
    with pytest.raises(UserError) as caught:
        Evoke(path, folder / "w").questions()
    assert f"{path}:3: " in str(caught.value)
    assert words in str(caught.value)
    assert "Hint:" in str(caught.value)
    assert len(Evoke(evaluation(folder, row(1), "", row(5)), folder / "w").questions()) == 2


def test_all_bad_rows_are_reported_together_up_to_twenty(folder):
    path = evaluation(folder, row(0), *(row(i, answer="") for i in range(1, 31)))
    with pytest.raises(UserError) as caught:
        Evoke(path, folder).questions()
    text = str(caught.value)
    assert "30 bad rows" in text
    assert "and 10 more" in text
    assert text.count("answer is empty") == 20


def test_damaged_pictures_are_reported(folder):
    (folder / "imgs" / "text.png").write_text("no picture")
    (folder / "imgs" / "short.png").write_bytes((folder / "imgs" / "a.png").read_bytes()[:12])
    path = evaluation(folder, row(1, image="text.png"), row(2, image="short.png"))
    with pytest.raises(UserError, match="2 bad rows") as caught:
        Evoke(path, folder).questions()
    assert str(caught.value).count("damaged or not an image") == 2


def test_an_oversized_picture_is_reported(folder, monkeypatch):
    path = evaluation(folder, row(1))
    assert Evoke(path, folder).questions()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(UserError, match="too many pixels"):
        Evoke(path, folder).questions()


def test_a_picture_that_changes_later_is_reported(folder):
    path = evaluation(folder, row(1, image="a.png"))
    (picture,) = Evoke(path, folder).questions()[0].pictures
    assert picture.sha256
    assert picture.pixels().size == picture.size
    (folder / "imgs" / "a.png").write_bytes((folder / "imgs" / "a.png").read_bytes() + b"more")
    with pytest.raises(UserError, match=r"has changed since it was first read(.|\n)*run the command again"):
        picture.pixels()


def test_missing_and_unreadable_files_are_reported(folder):
    with pytest.raises(UserError, match="cannot be read"):
        Evoke(folder / "nothing.jsonl", folder).questions()
    (folder / "latin.jsonl").write_bytes(b'{"text": "a"}\n\xff')
    with pytest.raises(UserError, match=r"latin\.jsonl:2: not UTF-8"):
        Evoke(folder / "latin.jsonl", folder).questions()
    with pytest.raises(UserError, match="empty"):
        Evoke(evaluation(folder), folder).questions()


def test_the_fingerprint_follows_the_content_alone(folder, tmp_path):
    first = Evoke(evaluation(folder, row(1)), folder).fingerprint()
    assert Evoke(evaluation(folder, row(1)), tmp_path / "elsewhere").fingerprint() == first
    assert Evoke(evaluation(folder, row(1, answer="Ford")), folder).fingerprint() != first
    Image.new("RGB", (8, 8), "green").save(folder / "imgs" / "a.png")
    assert Evoke(evaluation(folder, row(1)), folder).fingerprint() != first


def test_knowledge_is_read_with_and_without_the_extra_columns(folder):
    published = knowledge(2, image="beside.png")
    published["conversations"][0]["value"] = f"{IMAGE}\nCan you describe the visual artwork depicted in the image?"
    items = load_knowledge(
        injection(
            folder,
            knowledge(1, name="Robin", type="bird", cnn_wiki_type="wiki", facts=[["colour", "red"]]),
            published,
            knowledge("3", image="imgs/b.png", facts={"height": "10"}),
        )
    )
    assert (items[0].name, items[0].type, items[0].group) == ("Robin", "bird", "entity")
    assert items[0].facts == (("colour", "red"),)
    assert items[0].prompt == "Can you describe the bird in the image?"
    assert items[0].text == "A robin is a small bird."
    assert (items[1].name, items[1].type, items[1].group) == ("beside", "visual artwork", "news")
    assert items[2].facts == (("height", "10"),)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (knowledge(2, image="gone.png"), "is missing from"),
        (knowledge(1), "used in line"),
        (
            knowledge(2, conversations=None, conversation=[]),
            "column 'conversations' is missing; the row has 'conversation'",
        ),
        (knowledge(2, conversations=[]), "one question and one answer"),
        (
            knowledge(2, conversations=[{"from": "gpt", "value": "x"}, {"from": "human", "value": "y"}]),
            "'human' to 'gpt'",
        ),
        (
            knowledge(2, conversations=[{"from": "human", "value": "What?"}, {"from": "gpt", "value": "x"}]),
            "the marker <image> once",
        ),
        (
            knowledge(2, conversations=[{"from": "human", "value": IMAGE + "What?"}, {"from": "gpt", "value": ""}]),
            "value is empty",
        ),
        (knowledge(2, cnn_wiki_type="blog"), "'news' or 'wiki'"),
        (knowledge(2, facts=["red"]), "facts must be"),
        ("text", "expected a JSON object"),
    ],
)
def test_a_bad_piece_of_knowledge_is_reported_with_its_line(folder, bad, words):
    path = injection(folder, knowledge(1), bad)
    line = path.read_text().split("\n },", 1)[0].count("\n") + 3  # the brace of the first element, then the second
    with pytest.raises(UserError) as caught:
        load_knowledge(path)
    assert words in str(caught.value)
    assert f"{path}:{line}: " in str(caught.value)
    assert len(load_knowledge(injection(folder, knowledge(1)))) == 1


def test_broken_json_is_reported_with_its_line(folder):
    path = injection(folder, knowledge(1), knowledge(2))
    path.write_text(path.read_text()[:-20])
    with pytest.raises(UserError, match=r"evoke_injection_data.json:\d+: broken JSON"):
        load_knowledge(path)
    path.write_text('{"id": 1}')
    with pytest.raises(UserError, match="one JSON list"):
        load_knowledge(path)
    path.write_text("[]")
    with pytest.raises(UserError, match="empty"):
        load_knowledge(path)
    path.write_text('[{"id": 1} {"id": 2}]')
    with pytest.raises(UserError, match="',' or ']'"):
        load_knowledge(path)


def test_references_that_normalise_to_nothing_are_counted_named_and_reachable(folder):
    path = evaluation(folder, row(1, answer="The"), row(2, answer="?"), row(3, answer="Ghana"), row(4, answer="29%"))
    benchmark = Evoke(path, folder / "w")
    questions = benchmark.questions()
    score = benchmark.score(questions, [Answer(question.id, ("nonsense",)) for question in questions])
    assert score.metrics["CEM"] == 50.0, "the published rule stays"
    assert (score.metrics["emptied"], score.metrics["ceiling"]) == (50.0, 75.0)
    assert score.metrics["CEM"] <= score.metrics["ceiling"]
    assert score.metrics["CEM_safe"] == 0.0
    (note,) = score.notes
    assert note.startswith("2 of 4 references are empty after CEM's normalisation")
    assert "question 1 ('The'), 2 ('?');" in note
    control = benchmark.score(questions[2:], [Answer(question.id, ("nonsense",)) for question in questions[2:]])
    assert not control.notes
    assert "emptied" not in control.metrics
