"""Text that tries to become something else, put wherever a run holds text from a model, a data set or a plug-in."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from helpers.fake_run import fake_run
from reports.record import ItemResult, Run, Setting
from reports.statistics.analysis import analyse
from reports.statistics.estimates import Analysis

ATTACKS = (
    "<script>window.pwned=1</script>",
    "</script><script>window.pwned=1</script>",
    "</title><img src=x onerror=window.pwned=1>",
    "<!-- <svg onload=window.pwned=1>",
    "{{ 7*7 }}{% for x in y %}",
    "javascript:window.pwned=1",
    '" onmouseover="window.pwned=1" x="',
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "+1-1",
    "\t=1+1",
    "\\input{/etc/passwd}",
    "\\write18{touch pwned} % $x_1^2$ & # ~",
    "$\\frac{",
    "| a | b |\n|---|---|\n**bold** [x](http://evil.example) ![i](http://evil.example/i.png)",
    "http://evil.example/track www.evil.example @everyone",
    "\u202egnp.exe\u2066 \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "\x1b[31mred\x1b]0;title\x07\x00",
    "\u2028\u2029 line \ud800 lone",
    "😀" * 40,
    "[bold red]rich[/bold red][link=http://evil.example]x[/link]",
    "A" * 100_000,
)


@cache
def attacked_analysis(text: str) -> Analysis:
    """The analysis of ``attacked(text)``, cached."""
    return analyse(attacked(text))


def attacked(text: str) -> Run:
    """A small run with ``text`` in every free text field."""
    run = fake_run(
        labels=("Vanilla", "LoRA", "KORE"), seeds=(0,), per_benchmark=6, types={"news": {"x": 5}, "entity": {"y": 5}}
    )
    questions = tuple(
        replace(question, text=text, reference=text, type=text if question.type == "x" else question.type)
        for question in run.questions
    )
    cells = []
    for cell in run.cells:
        scores = {}
        for name, result in cell.scores.items():
            items = tuple(ItemResult(item.question_id, item.values, text, item.status) for item in result.items)
            scores[name] = replace(result, items=items, notes=(text,), signature=text, judge=text)
        label = cell.label if cell.is_vanilla else f"{text[:90]}{cell.label}{text[90:]}"
        cells.append(
            replace(
                cell, label=label, summary=text, our_reading=text, signature=text, scores=scores,
                settings={text: Setting(text, text)}, diagnostics={text: 1.0},
                variant="" if cell.is_vanilla else text,
            )
        )  # fmt: skip
    return replace(
        run, title=text, preset=text, notes=(text,), signature=text, cells=tuple(cells), questions=questions,
        pictures=dict.fromkeys(run.pictures, "data:text/html,<script>window.pwned=1</script>"),
    )  # fmt: skip
