"""Synthetic runs that look like real ones, for tests and for viewing the page."""

from __future__ import annotations

import hashlib
import math

import numpy as np
from PIL import Image, ImageDraw

from benchmarks import aggregate
from reports.html.sample_browser import thumbnail
from reports.record import BenchmarkResult, CellResult, Cost, ItemResult, QuestionEntry, Run, Setting, TrainingStep

TYPES = {
    "news": {"head of state": 34, "export partner": 30, "head of government": 22, "currency change": 14},
    "entity": {"country": 42, "animal": 38, "food": 36, "element": 30, "vehicle": 18, "plant": 16, "instrument": 10},
}
METHODS = {
    # label: (method, variant, adaptation skill, share of retention)
    "Vanilla": ("vanilla", "", 0.04, 1.0),
    "LoRA": ("lora", "", 0.34, 0.62),
    "Replay": ("replay", "", 0.30, 0.86),
    "KORE": ("kore", "", 0.52, 0.84),
    "KORE (no constraint)": ("kore", "no-constraint", 0.55, 0.66),
}
WORDS = ("Accra", "Lima", "seven", "copper", "the harbour", "Helsinki", "a violin", "1998", "basalt", "two thirds")


def picture(name: str) -> str:
    shade = hashlib.sha256(name.encode()).digest()
    image = Image.new("RGB", (64, 64), (235 - shade[0] // 8, 235 - shade[1] // 8, 235 - shade[2] // 8))
    draw = ImageDraw.Draw(image)
    for step in range(3):
        x, y = shade[3 + step] % 40, shade[6 + step] % 40
        draw.ellipse((x, y, x + 22, y + 22), fill=tuple(shade[9 + 3 * step : 12 + 3 * step]))
    return thumbnail(image)


def questions(per_benchmark: int, types=None) -> list[QuestionEntry]:
    entries = []
    number = 0
    for group, kinds in (types or TYPES).items():
        for kind, count in kinds.items():
            for _ in range(count):
                number += 1
                text = f"What is known of the {kind} in the image?\nAnswer the question using a single word or phrase."
                reference = WORDS[number % len(WORDS)]
                entries.append(
                    QuestionEntry(
                        str(number), "mini-EVOKE", text, reference, kind, group, pictures=(f"p{number % 40}",)
                    )
                )
    for name in aggregate.TWELVE:
        for index in range(per_benchmark):
            shared = name in ("MME", "POPE")
            entries.append(
                QuestionEntry(
                    str(index),
                    f"mini-{name}",
                    f"Question {index} of {name}?",
                    "Yes" if index % 2 else "No",
                    f"category {index % 4}",
                    "",
                    f"img{index // 2}" if shared else "",
                    (f"p{index % 40}",),
                )
            )
    return entries


def answer(generator, reference: str, right: bool) -> str:
    if right:
        return reference if generator.random() < 0.7 else f"It is {reference}."
    return str(generator.choice(WORDS)) if generator.random() < 0.93 else ""


def adaptation_result(generator, entries, skill: float) -> BenchmarkResult:
    hard = np.random.default_rng(11).normal(0, 0.16, len(entries))
    items = []
    for entry, tilt in zip(entries, hard, strict=True):
        chance = skill + tilt * (skill > 0.1) + (0.06 if entry.group == "news" and skill > 0.1 else 0)
        text = answer(generator, entry.reference, bool(generator.random() < chance))
        cem = float(entry.reference.lower() in text.lower())
        f1 = 1.0 if text == entry.reference else 0.5 * cem
        items.append(ItemResult(entry.id, {"CEM": cem, "F1": f1}, text, "parsed" if text else "empty"))
    metrics = {name: 100 * float(np.mean([item.values[name] for item in items])) for name in ("CEM", "F1")}
    extra = {"CEM_safe": metrics["CEM"], "ceiling": 98.5}
    return BenchmarkResult(
        sum(metrics.values()) / 2,
        metrics | extra,
        tuple(items),
        notes=("CEM of the references themselves: 100.00",),
        signature=f"evoke|n:{len(items)}|greedy|scorer:1",
    )


def retention_result(generator, name: str, entries, retained: float) -> BenchmarkResult:
    seed = int(hashlib.sha256(name.encode()).hexdigest()[:6], 16)
    truth = 0.45 + 0.4 * np.random.default_rng(seed).random()
    hard = np.random.default_rng(seed + 1).random(len(entries))
    items = []
    for entry, threshold in zip(entries, hard, strict=True):
        chance = truth * retained
        right = threshold < chance if generator.random() < 0.85 else bool(generator.random() < chance)
        text = entry.reference if right else ("No" if entry.reference == "Yes" else "Yes")
        status = "parsed" if generator.random() < 0.985 else "unparsed"
        items.append(ItemResult(entry.id, {"score": float(right)}, text, status))
    value = 100 * float(np.mean([item.values["score"] for item in items]))
    judged = name in ("MIA-Bench", "MMDU", "MathVista", "MathVision")
    return BenchmarkResult(
        value,
        {"accuracy": value},
        tuple(items),
        judge="rule" if judged else "",
        marks=("rule-judge",) if judged else (),
        signature=f"{name}|n:{len(items)}|greedy|judge:{'rule' if judged else '-'}",
    )


def cell(label: str, entries, seed: int, spec=None) -> CellResult:
    method, variant, skill, retained = spec or METHODS[label]
    generator = np.random.default_rng([seed, int(hashlib.sha256(label.encode()).hexdigest()[:6], 16)])
    scores = {"mini-EVOKE": adaptation_result(generator, [q for q in entries if q.benchmark == "mini-EVOKE"], skill)}
    for name in aggregate.TWELVE:
        own = [q for q in entries if q.benchmark == f"mini-{name}"]
        scores[f"mini-{name}"] = retention_result(generator, name, own, retained)
    if method == "vanilla":
        return CellResult("mini-llava", method, label, seed, scores=scores, signature="cell:base")
    steps = tuple(
        TrainingStep(s, 4.2 * math.exp(-s / (30 + 60 * skill)) + 0.25 + 0.08 * generator.random(), 2e-4, 1.0)
        for s in range(5, 245, 5)
    )
    settings = {
        "rank": Setting(32, "preset mini"),
        "learning_rate": Setting(1e-3, "chosen on the tuning split"),
        "epochs": Setting(6, "default"),
        "freeze_a": Setting(variant != "no-constraint" and method == "kore", "variant" if variant else "default"),
    }
    diagnostics = (
        {f"layer {i}: energy outside the null space": 0.002 * (i + 1) for i in range(4)} if method == "kore" else {}
    )
    return CellResult(
        "mini-llava",
        method,
        label,
        seed,
        variant=variant,
        data="mini-EVOKE",
        settings=settings,
        training=steps,
        summary="Low-rank adapters on every linear layer of the decoder." if method == "lora" else "",
        cost=Cost(92.0 + seed, 41.0, 1_200_000_000, 983_040, 240, 84_512),
        scores=scores,
        diagnostics=diagnostics,
        signature=f"cell:{hashlib.sha256((label + str(seed)).encode()).hexdigest()[:16]}",
    )


def fake_run(labels=tuple(METHODS), seeds=(0, 1, 2), per_benchmark=100, types=None) -> Run:
    entries = questions(per_benchmark, types)
    cells = [cell(name, entries, seed) for name in labels for seed in (seeds[:1] if name == "Vanilla" else seeds)]
    return Run(
        title="mini: lora, replay, kore",
        preset="mini",
        cells=tuple(cells),
        questions=tuple(entries),
        pictures={f"p{n}": picture(f"p{n}") for n in range(40)},
        notes=("The miniature checks machinery and helps to develop methods; its scores are not the paper's.",),
        signature="preset:mini|base:3f2a91c0d2c4|device:cpu|precision:float32|decoding:greedy, batch 32|torch:2.13",
    )
