"""Messages that public reports show to be needed: each names the setting, row or file, and what to do instead."""

from __future__ import annotations

import base64
import io
import json
import sys

import pytest
from PIL import Image

from benchmarks.errors import UserError
from harness import cli
from harness.commands.plan import plan
from harness.config.settings import Request, resolve
from harness.storage.files import locked
from helpers import small_runs, synthetic, tiny

TABLES = "data.retention=tables"
ASKED = "data.evaluation=data/evoke_evaluation_data.jsonl"


def rows_of(file):
    return json.loads(file.read_text("utf-8"))


def items_in_a_folder(folder):
    """Knowledge of one's own, as ``augment`` reads it: no longer an error."""
    (folder / "own").mkdir()
    rows = [{"image": f"{n}.png", "name": f"Thing {n}", "text": f"Thing {n} is round."} for n in range(8)]
    for n in range(8):
        (folder / "own" / f"{n}.png").write_bytes(tiny.picture(n).encoded)
    (folder / "own" / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def nothing_in_a_folder(folder):
    (folder / "own").mkdir()


def a_list_in_a_jsonl_file(folder):
    (folder / "items.jsonl").write_text(json.dumps([{"image": "0.png"}, {"image": "1.png"}], indent=1))


def a_column_images(folder):
    """As other trainers call it: no longer an error."""
    file = folder / "data" / "evoke_injection_data.json"
    rows = rows_of(file)
    for row in rows:
        row["images"] = [row.pop("image")]
    file.write_text(json.dumps(rows))


def an_empty_image(folder):
    talk = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "A thing."}]
    rows = [{"id": "a", "conversations": talk}, {"id": "b", "image": "", "conversations": talk}]
    (folder / "data" / "train.json").write_text(json.dumps(rows, indent=None))


def table(change):
    """Write POPE's table without quotes around its cells, changed."""

    def write(folder):
        rows = synthetic.TABLES["POPE"]()[0][:6]
        lines = ["\t".join(rows[0]), *("\t".join(str(value) for value in row.values()) for row in rows)]
        (folder / "tables").mkdir()
        (folder / "tables" / "POPE.tsv").write_bytes(change("\n".join(lines)).encode("latin-1") + b"\n")

    return write


def without_rows(text):
    return text.split("\n", 1)[0]


def in_third_row(old, new):
    def change(text):
        lines = text.split("\n")
        lines[3] = lines[3].replace(old, new)
        return "\n".join(lines)

    return change


def bad_picture(text):
    lines = text.split("\n")
    lines[3] = "\t".join("bm90IGEgcGljdHVyZQ" * 20 + "==" if len(cell) > 99 else cell for cell in lines[3].split("\t"))
    return "\n".join(lines)


def a_picture_by_its_name_alone(text):
    """In place of the column with the picture."""
    lines = text.replace("image", "image_path", 1).split("\n")
    cells = [[f"{n}.png" if len(cell) > 99 else cell for cell in line.split("\t")] for n, line in enumerate(lines)]
    return "\n".join(map("\t".join, cells))


def a_jpeg_for_print(text):
    """It has four colours, and is a good picture."""
    file = io.BytesIO()
    Image.new("CMYK", (24, 24), (10, 200, 30, 0)).save(file, "JPEG")
    lines = text.split("\n")
    cells = lines[3].split("\t")
    lines[3] = "\t".join(base64.b64encode(file.getvalue()).decode() if len(cell) > 99 else cell for cell in cells)
    return "\n".join(lines)


def nothing(folder):
    pass


@pytest.mark.parametrize(
    ("spoil", "setting", "method", "parts"),
    [
        (items_in_a_folder, f"data.knowledge=own {ASKED}", "lora", ()),
        (nothing_in_a_folder, "data.knowledge=own", "lora", ("data.knowledge (", "there is no", "items.jsonl")),
        (nothing, "moelora.rank=4", "moelora", ("methods.moelora.rank (--set)", "must be a multiple", "experts, 8")),
        (nothing, "o-lora.slices=3", "o-lora", ("methods.o-lora.slices (--set)", "divides the rank, 4")),
        (nothing, "lora.rank=0", "lora", ("methods.lora.rank (--set): 0 ", "a whole number of at least 1")),
        (nothing, "lora.dropout=1", "lora", ("lora.dropout (--set): 1 ", "of at least 0 and less than 1")),
        (nothing, "lora.learning_rate=nan", "lora", ("lora.learning_rate", "not a finite", "a number greater than 0")),
        (nothing, "full-ft.learning_rate=0", "full-ft", ("full-ft.learning_rate (--set)", "a value greater than 0")),
        (nothing, "training.epochs=1e1", "lora", ("training.epochs (--set): '1e1' ", "write 10")),
        (nothing, "lora.training.epochs=1e1", "lora", ("methods.lora.training.epochs (--set)", "write 10")),
        (nothing, "training.epochs=1.5", "lora", ("training.epochs (--set): 1.5", "a whole number greater than 0")),
        (nothing, "training.betas=[0.9,1]", "lora", ("training.betas (--set): 1 ", "of at least 0 and less than 1")),
        (nothing, "precision=fp8", "lora", ("precision (--set): 'fp8'", "one of auto, float32, bfloat16, nf4")),
        (table(bad_picture), TABLES, "lora", ("POPE.tsv", "row 4 (index 2)", "image")),
        (table(a_jpeg_for_print), TABLES, "lora", ()),
        (table(a_picture_by_its_name_alone), TABLES, "lora", ("POPE.tsv", "row 4 (index 2)", "in the column image")),
        (table(in_third_row("Is", '"Is')), TABLES, "lora", ("POPE.tsv:4: ", "write a cell that begins with a quote")),
        (table(in_third_row("Is", "Is \xe9")), TABLES, "lora", ("POPE.tsv:4: not UTF-8", "save the file as UTF-8")),
        (table(in_third_row("Is", "\tIs")), TABLES, "lora", ("POPE.tsv:4: ", "names 5 columns", "cells with tabs")),
        (table(without_rows), TABLES, "lora", ("POPE.tsv", "the table holds no row")),
        (a_list_in_a_jsonl_file, "data.knowledge=items.jsonl", "lora", ("items.jsonl:1: ", "one object a line")),
        (a_column_images, "limit=2", "lora", ()),
        (an_empty_image, "data.replay=data/train.json", "replay", ("train.json:1: ", "leave the column out")),
        (nothing, "data.evaluation=none.jsonl", "lora", ("data.evaluation (", "there is no none.jsonl")),
        (nothing, "data.knowledge=none.json", "lora", ("data.knowledge (", "there is no none.json")),
    ],
    ids=lambda value: value.__name__ if callable(value) else value if isinstance(value, str) else "",
)
def test_a_message_helps(tmp_path, tiny_folder, monkeypatch, spoil, setting, method, parts):
    monkeypatch.chdir(tmp_path)
    benchmarks = "mini-EVOKE, POPE" if setting == TABLES else "mini-EVOKE"
    preset = small_runs.write_preset(tmp_path, tiny_folder, benchmarks=benchmarks)
    spoil(tmp_path)
    settings = [*setting.split(), "data.published=false"]
    if not parts:
        assert plan(Request((method,), resolve(str(preset), settings), tmp_path / "run")).cells
        return
    with pytest.raises(UserError) as caught:
        plan(Request((method,), resolve(str(preset), settings), tmp_path / "run"))
    assert [part for part in parts if part not in str(caught.value)] == [], str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("method", "message"),
    [("korre", "no method is named 'korre'\nHint: did you mean 'kore'"), ("lora", "another command is running")],
)
def test_an_unknown_method_is_named_before_another_run_in_the_folder(
    tmp_path, tiny_folder, monkeypatch, capsys, method, message
):
    preset = small_runs.write_preset(tmp_path, tiny_folder, items=4)
    arguments = ["harness", "compare", "--methods", method, "--preset", str(preset), "--out", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", arguments)
    with locked(tmp_path / "run"), pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == cli.USER_ERROR
    assert message in capsys.readouterr().err
