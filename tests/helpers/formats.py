"""The same conversations in every file format and layout that can be read."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.data.conversations import conversation_row
from benchmarks.records import IMAGE, Conversation

ITEM = "item-0"
Row = dict[str, Any]


def with_files(samples: Sequence[Conversation], folder: Path) -> list[list[str]]:
    """Write the pictures below ``folder``; returns the names of each sample's."""
    folder.mkdir(parents=True, exist_ok=True)
    for sample in samples:
        for picture in sample.pictures:
            (folder / f"{picture.sha256}.png").write_bytes(picture.encoded)
    return [[f"{picture.sha256}.png" for picture in sample.pictures] for sample in samples]


def row(sample: Conversation, **columns: Any) -> Row:
    """What says where a conversation belongs, and these columns."""
    return {"id": sample.id, "item": ITEM, "branch": sample.branch, **columns}


def messages(sample: Conversation) -> list[Row]:
    """Turns as LLaMA-Factory and ms-swift write them."""
    return [{"role": turn.role, "content": turn.text} for turn in sample.turns]


def parts(sample: Conversation, own: Sequence[Any] = ()) -> list[Row]:
    """Turns as TRL writes them, with a picture in each part if ``own`` holds them."""
    remaining = iter(own)
    turns = []
    for turn in sample.turns:
        first, *rest = turn.text.split(f"{IMAGE}\n")
        content = [{"type": "text", "text": first}] if first else []
        for text in rest:
            content.append({"type": "image", **({"image": next(remaining)} if own else {})})
            content += [{"type": "text", "text": text}] if text else []
        turns.append({"role": turn.role, "content": content})
    return turns


def lines(path: Path, rows: Sequence[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def llava(samples: Sequence[Conversation], folder: Path) -> Path:
    names = with_files(samples, folder)
    rows = [conversation_row(sample, ITEM, own, {}) for sample, own in zip(samples, names, strict=True)]
    (folder / "llava.json").write_text(json.dumps(rows, indent=1))
    return folder / "llava.json"


def llama_factory(samples: Sequence[Conversation], folder: Path) -> Path:
    names = with_files(samples, folder)
    rows = [row(one, messages=messages(one), images=own) for one, own in zip(samples, names, strict=True)]
    (folder / "mllm.json").write_text(json.dumps(rows, indent=1))
    return folder / "mllm.json"


def sharegpt(samples: Sequence[Conversation], folder: Path) -> Path:
    names, speakers = with_files(samples, folder), {"user": "human", "assistant": "gpt"}
    said = [[{"from": speakers[turn.role], "value": turn.text} for turn in one.turns] for one in samples]
    rows = [
        row(one, conversations=turns, images=own, system="")
        for one, turns, own in zip(samples, said, names, strict=True)
    ]
    return lines(folder / "sharegpt.jsonl", rows)


def swift(samples: Sequence[Conversation], folder: Path) -> Path:
    """With absolute paths below the folder, and an empty system turn."""
    names = [[str(folder.absolute() / name) for name in own] for own in with_files(samples, folder)]
    system = {"role": "system", "content": ""}
    rows = [row(one, messages=[system, *messages(one)], images=own) for one, own in zip(samples, names, strict=True)]
    return lines(folder / "swift.jsonl", rows)


def trl(samples: Sequence[Conversation], folder: Path) -> Path:
    names = with_files(samples, folder)
    rows = [
        row(one, prompt=parts(one)[:-1], completion=parts(one)[-1:], images=own)
        for one, own in zip(samples, names, strict=True)
    ]
    return lines(folder / "trl.jsonl", rows)


def data_uris(samples: Sequence[Conversation], folder: Path) -> Path:
    def uri(content: bytes) -> str:
        return "data:image/png;base64," + base64.b64encode(content).decode()

    rows = [row(one, messages=parts(one, [uri(picture.encoded) for picture in one.pictures])) for one in samples]
    return lines(folder / "own.jsonl", rows)


def comma_separated(samples: Sequence[Conversation], folder: Path) -> Path:
    names = with_files(samples, folder)
    rows = [
        row(one, messages=json.dumps(messages(one)), images=json.dumps(own))
        for one, own in zip(samples, names, strict=True)
    ]
    return write_csv(folder / "train.csv", rows)


def write_csv(path: Path, rows: Sequence[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def dataset(samples: Sequence[Conversation]) -> Any:
    """A `datasets` data set with the columns of llava-instruct-mix-vsft, and the bytes of its pictures."""
    from datasets import Dataset, Features, Image, List, Value, disable_progress_bars

    disable_progress_bars()

    text = Value("string")
    part = {"index": Value("int64"), "text": text, "type": text}
    columns = {"id": text, "item": text, "branch": text, "images": List(Image())}
    features = Features({**columns, "messages": List({"content": List(part), "role": text})})
    rows = []
    for one in samples:
        turns = parts(one)
        for turn in turns:
            for content in turn["content"]:
                content |= {"index": 0 if content["type"] == "image" else None, "text": content.get("text")}
        images = [{"bytes": picture.encoded, "path": None} for picture in one.pictures]
        rows.append(row(one, messages=turns, images=images))
    return Dataset.from_list(rows, features=features)


def parquet(samples: Sequence[Conversation], folder: Path) -> Path:
    """As on the hub: shards of a split in ``data``, and another split."""
    whole, cut = dataset(samples), max(1, len(samples) // 2)
    (folder / "data").mkdir(parents=True)
    whole.select(range(cut)).to_parquet(folder / "data" / "train-00000-of-00002.parquet")
    whole.select(range(cut, len(samples))).to_parquet(folder / "data" / "train-00001-of-00002.parquet")
    whole.select(range(1)).to_parquet(folder / "data" / "test-00000-of-00001.parquet")
    (folder / "README.md").write_text("---\n---\n")
    return folder


def arrow(samples: Sequence[Conversation], folder: Path) -> Path:
    """As ``DatasetDict.save_to_disk`` writes it."""
    from datasets import DatasetDict

    whole = dataset(samples)
    DatasetDict({"train": whole, "validation": whole.select(range(1))}).save_to_disk(folder)
    return folder


WRITERS = (llama_factory, sharegpt, swift, trl, data_uris, comma_separated, parquet, arrow)
"""All but LLaVA's own format."""
