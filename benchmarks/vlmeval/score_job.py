"""One scoring job: predictions into VLMEvalKit's file, the rule of the protocol, and what it found as plain data.

Runs in ``vlmeval.worker``. A judge that is a language model is asked by the harness's own process, for this one has no
network: a first run notes what VLMEvalKit would ask, the next one has the replies.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.judges import Judge, RecordedJudge, by_name
from benchmarks.retention_specs import BY_NAME, RetentionSpec
from benchmarks.vlmeval import adapter as vlmeval_adapter
from benchmarks.vlmeval import rules_llava as vlmeval_llava
from benchmarks.vlmeval import rules_vlmeval as vlmeval_scores
from benchmarks.vlmeval.result import Run, ScoringResult

LEAST_COVERAGE = 50.0
"""Share (0-100) of a judge's replies that must be readable; below it the benchmark counts as not scored."""


def score(job: dict[str, Any]) -> dict[str, Any]:
    """Score the answers of one benchmark; ``job["answers"]`` holds [id, texts, error] for each question.

    Where the judge has not replied to everything yet, the result is ``{"asked": {key: request}}``.
    """
    spec = BY_NAME[job["spec"]]
    judge = _judge(job) if spec.judge else None
    if spec.judge and judge is None:
        found = ScoringResult(None, {}, {}, notes=[f"not scored: needs a judge to {spec.judge} the answers"])
    else:
        try:
            found = _evaluated(job, spec, judge)
        except Exception:  # without the replies VLMEvalKit may stumble; they are asked for first
            if not isinstance(judge, RecordedJudge) or not judge.asked:
                raise
            return {"asked": judge.asked}
    if isinstance(judge, RecordedJudge):
        if judge.asked:
            return {"asked": judge.asked}
        _told(found, judge)
    elif judge is not None:
        found.notes.insert(0, f"{judge.name} judge in place of a language model")
    return _result(job, found, judge)


def _judge(job: dict[str, Any]) -> Judge | None:
    if "replies" in job:
        return RecordedJudge(job["judge"], job["replies"])
    return by_name(job["judge"])


def _evaluated(job: dict[str, Any], spec: RetentionSpec, judge: Judge | None) -> ScoringResult:
    folder = Path(job["folder"])
    said = {question_id: texts for question_id, texts, _ in job["answers"]}
    kit = vlmeval_adapter.safe_kit()
    vlmeval_adapter.use_judge(kit, judge)
    dataset = vlmeval_adapter.build(kit, spec, Path(job["tsv"]), folder / "lmu")
    write_predictions(kit, spec, dataset.data, said, folder / "run.tsv")
    run = Run(kit, spec, dataset, folder, "" if judge is None else "rule" if judge.name == "rule" else "judge")
    if job["protocol"] == "llava":
        return vlmeval_llava.RULES[spec.name](run)
    return vlmeval_scores.RULES[spec.family](run)


def _told(found: ScoringResult, judge: RecordedJudge) -> None:
    """Say how much of the judging took place; a number that rests on too little of it is none."""
    found.notes.insert(0, f"judged by {judge.name}")
    found.metrics.setdefault("coverage", judge.coverage)
    if judge.failed:
        found.headline = None
        found.notes.append(
            f"not scored: {judge.failed} of {judge.calls} calls to the judge failed; the same command asks them again"
        )
    elif found.metrics["coverage"] < LEAST_COVERAGE:
        found.headline = None
        found.notes.append(f"not scored: only {found.metrics['coverage']:.0f} % of the judge's replies could be read")


def _result(job: dict[str, Any], found: ScoringResult, judge: Judge | None) -> dict[str, Any]:
    items = [
        [question_id, found.values.get(question_id, {}), _status(question_id, texts, error, found)]
        for question_id, texts, error in job["answers"]
    ]
    for state in ("unparsed", "empty", "failed"):
        found.metrics[state] = 100 * sum(item[2] == state for item in items) / len(items) if items else 0.0
    return {
        "headline": None if found.headline is None else float(found.headline),
        "metrics": {name: float(value) for name, value in found.metrics.items()},
        "items": items,
        "judge": judge.name if judge else "",
        "notes": found.notes,
        "pending": judge.failed if isinstance(judge, RecordedJudge) else 0,
    }


def _status(question_id: str, texts: list[str], error: str, found: ScoringResult) -> str:
    if error:
        return "failed"
    if not any(text.strip() for text in texts):
        return "empty"
    return "unparsed" if question_id in found.unread else "parsed"


def write_predictions(kit: Any, spec: RetentionSpec, data: Any, said: Mapping[str, list[str]], path: Path) -> None:
    """The prediction file that VLMEvalKit reads: the table without pictures, and what the model said."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = data.drop(columns=["image"], errors="ignore")
    table = table[[str(index) in said for index in table["index"]]].copy()
    texts = [[printable(text) for text in said[str(index)]] for index in table["index"]]
    table["prediction"] = [repr(turns) for turns in texts] if spec.family == "mmdu" else [t[-1] for t in texts]
    kit.files.dump(table, str(path))


def printable(text: str) -> str:
    """A text that survives a table: lone surrogates and NUL become the replacement character."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")
