"""Data in the layout of the hub and of VLMEvalKit: the real names, almost no content."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.retention_specs import SPECS
from helpers import synthetic, tiny
from helpers.pool_files import write_pool
from methods.augmentation.datasets import PUBLISHED_FILE

COMMIT = "0123456789abcdef0123456789abcdef01234567"
KORE_74K = "kailinjiang/KORE-74K"
PICTURES = "imgs_of_recognition_caption_description.zip"
SHORT = "\nAnswer the question using a single word or phrase."
GROUPS = ("entity", "news")
GOLDS = ("Ghana", "'Ghana'", "3")


def cached(home: Path, kind: str, repository: str, folder: Path) -> Path:
    """Move a folder's files into the hub's cache: content by its digest, and links to it in the snapshot."""
    repository_folder = home / ".cache/huggingface/hub" / f"{kind}s--{repository.replace('/', '--')}"
    for subfolder in (repository_folder / "blobs", repository_folder / "refs"):
        subfolder.mkdir(parents=True)
    (repository_folder / "refs" / "main").write_text(COMMIT)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        link = repository_folder / "snapshots" / COMMIT / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        blob = repository_folder / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.move(file, blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return repository_folder / "snapshots" / COMMIT


def write_evoke(folder: Path, items: int) -> Path:
    """Write two JSON files and four archives; news and entities alternate."""
    injection: dict[str, dict[str, bytes]] = {group: {} for group in GROUPS}
    evaluation: dict[str, dict[str, bytes]] = {group: {} for group in GROUPS}
    injected, asked = [], []
    for number, item in enumerate(tiny.knowledge(items), start=1):
        group = GROUPS[number % 2]
        image = f"cnn_news_imgs/cnn_{number}/é.jpg" if group == "news" else f"wikidata_imgs/Thing {number}_wiki.jpg"
        other = f"eval_wikidata_imgs/'Thing'_{number}_0.jpg"
        injection[group][image] = item.picture.encoded
        evaluation[group][other] = tiny.picture(900 + number).encoded
        injected.append({"id": number, "image": image, "conversations": talk(item.prompt, item.text)})
        row = {"question_id": number, "image": other, "text": f"'Where?'{SHORT}", "answer": GOLDS[number % 3]}
        asked.append(row | {"type": "film", "cnn_wiki_type": "news" if group == "news" else "wiki"})
    for group in GROUPS:
        write_zip(folder / "imgs" / "injection" / f"evoke_{group}_injection_imgs.zip", injection[group])
        write_zip(folder / "imgs" / "evaluation" / f"evoke_{group}_evaluation_imgs.zip", evaluation[group])
    texts = folder / "json" / "jsonl"
    texts.mkdir(parents=True)
    (texts / "evoke_injection_data.json").write_text(json.dumps(injected))
    (texts / "evoke_evaluation_data.jsonl").write_text("\n".join(json.dumps(row) for row in asked))
    return folder


def write_kore_74k(folder: Path, items: int) -> Path:
    """Write rows of all four kinds without item ids; one archive in one piece, one in three."""
    rows, seen, asked = [], {}, {}
    for number, item in enumerate(tiny.knowledge(items), start=1):
        for kind, question, answer in (
            ("description", item.prompt, item.text),
            ("recognition", f"Is {item.name} in the image? Answer this question with Yes or No.", "Yes"),
            ("caption", "Please provide a description for it. Answer this question in one paragraph.", item.text),
        ):
            name = f"{kind}/{number}.jpg"
            seen[name] = tiny.picture(len(rows) + 300).encoded
            more = ("And what else?", item.name) if kind == "description" else ()
            rows.append({"id": f"{kind}_{number}", "image": name, "conversations": talk(question, answer, *more)})
        name = f"vqa/{number}.jpg"
        asked[name] = tiny.picture(len(rows) + 300).encoded
        rows.append({"id": f"vqa_{number}", "image": name, "conversations": talk(f"Which?{SHORT}", "cat")})
    (folder / PUBLISHED_FILE).parent.mkdir(parents=True)
    (folder / PUBLISHED_FILE).write_text(json.dumps(rows))
    write_zip(folder / "imgs" / PICTURES, seen)
    whole = write_zip(folder / "whole.zip", asked)
    data = whole.read_bytes()
    whole.unlink()
    parts = folder / "imgs" / "imgs_of_vqa"
    parts.mkdir()
    cut = len(data) // 3 + 1
    for number in range(3):
        (parts / f"split_zip_part_{number:02d}").write_bytes(data[number * cut : (number + 1) * cut])
    return folder


def write_tables(folder: Path, names: Iterable[str] = tuple(spec.name for spec in SPECS)) -> None:
    """Write tables with the published columns and names, as in VLMEvalKit's folder."""
    folder.mkdir(parents=True)
    datasets = {spec.name: spec.dataset for spec in SPECS}
    for name in names:
        synthetic.write(synthetic.TABLES[name]()[0], folder / f"{datasets[name]}.tsv")


def write_pools(folder: Path, count: int) -> None:
    """Write what ``fetch`` makes of LLaVA-OneVision and of LLaVA's instruction data, from two sources each."""
    sources = {
        "onevision/calibration.json": ("LLaVA-OneVision:FigureQA(MathV360K)", "LLaVA-OneVision:iiit5k"),
        "llava-1.5/replay.json": ("llava_v1_5_mix665k:vg", "llava_v1_5_mix665k:ocr_vqa"),
    }
    for name, parts in sources.items():
        write_pool((folder / name).parent, dict.fromkeys(parts, count // 2)).rename(folder / name)


def write_zip(file: Path, members: Mapping[str, bytes]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def talk(*texts: str) -> Sequence[Mapping[str, Any]]:
    """Alternating questions and answers; the picture comes first."""
    return [
        {"from": ("human", "gpt")[i % 2], "value": text if i else f"<image>\n{text}"} for i, text in enumerate(texts)
    ]
