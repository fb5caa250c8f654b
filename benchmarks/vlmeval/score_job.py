"""Run one scoring job: write VLMEvalKit's prediction file, apply the protocol's rule, return plain data.

Runs in ``vlmeval.worker``. A language model that judges is called by the harness's own process because this one has no
network: the first run records VLMEvalKit's requests, the next one has the replies.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.judges import Judge, RecordedJudge, get_judge
from benchmarks.retention_specs import RetentionSpec, spec_of_job
from benchmarks.vlmeval import adapter, lenient_score, rules_llava, rules_vlmeval
from benchmarks.vlmeval.result import EvaluationRun, ScoringResult

MIN_COVERAGE = 50.0
"""Share (0-100) of a judge's replies that must be readable; below it the benchmark counts as not scored."""


def score_answers(job: dict[str, Any]) -> dict[str, Any]:
    """Score the answers of one benchmark; ``job["answers"]`` holds [id, texts, error] for each question.

    Returns ``{"judge_requests": {key: request}}`` if the judge has not replied to every request yet.
    """
    spec = spec_of_job(job)
    judge = _judge(job) if spec.judge or "replies" in job else None
    if spec.judge and judge is None:
        result = ScoringResult(None, {}, {}, notes=[f"not scored: needs a judge to {spec.judge} the answers"])
    else:
        try:
            result = _evaluate(job, spec, judge)
        except Exception:  # VLMEvalKit may fail as long as replies are missing; they are requested first
            if not isinstance(judge, RecordedJudge) or not judge.open_requests:
                raise
            return {"judge_requests": judge.open_requests}
    if isinstance(judge, RecordedJudge):
        if judge.open_requests:
            return {"judge_requests": judge.open_requests}
        _note_judging(result, judge, "judged" if spec.judge else "what the rule cannot read is read")
    elif judge is not None:
        result.notes.insert(0, f"{judge.name} judge in place of a language model")
    return _as_data(job, result, judge)


def _judge(job: dict[str, Any]) -> Judge | None:
    if "replies" in job:
        return RecordedJudge(job["judge"], job["replies"])
    return get_judge(job["judge"])


def _evaluate(job: dict[str, Any], spec: RetentionSpec, judge: Judge | None) -> ScoringResult:
    folder = Path(job["folder"])
    answers = {question_id: texts for question_id, texts, _ in job["answers"]}
    kit = adapter.safe_kit()
    adapter.use_judge(kit, judge)
    dataset = adapter.build_dataset(kit, spec, Path(job["tsv"]), folder / "lmu")
    write_predictions(kit, spec, dataset.data, answers, folder / "run.tsv")
    run = EvaluationRun(
        kit, spec, dataset, folder, "" if judge is None else "rule" if judge.name == "rule" else "judge"
    )
    rule = rules_llava.RULES[spec.name] if job["protocol"] == "llava" else rules_vlmeval.RULES[spec.family]
    result = rule(run)
    is_complete = not (isinstance(judge, RecordedJudge) and judge.open_requests)
    if spec.family in lenient_score.FAMILIES and answers and is_complete:
        lenient_score.add_lenient_number(result, run, rule)
    return result


def _note_judging(result: ScoringResult, judge: RecordedJudge, verb: str) -> None:
    """Note how much was judged, and drop a headline that too few replies support."""
    result.notes.insert(0, f"{verb} by {judge.name}")
    result.metrics.setdefault("coverage", judge.coverage)
    if judge.failed:
        result.headline = None
        result.notes.append(
            f"not scored: {judge.failed} of {judge.calls} calls to the judge failed; the same command asks them again"
        )
    elif result.metrics["coverage"] < MIN_COVERAGE:
        result.headline = None
        result.notes.append(f"not scored: only {result.metrics['coverage']:.0f} % of the judge's replies could be read")


def _as_data(job: dict[str, Any], result: ScoringResult, judge: Judge | None) -> dict[str, Any]:
    items = [
        [question_id, result.values.get(question_id, {}), _status(question_id, texts, error, result)]
        for question_id, texts, error in job["answers"]
    ]
    for state in ("unparsed", "empty", "failed"):
        result.metrics[state] = 100 * sum(item[2] == state for item in items) / len(items) if items else 0.0
    return {
        "headline": None if result.headline is None else float(result.headline),
        "metrics": {name: float(value) for name, value in result.metrics.items()},
        "items": items,
        "judge": judge.name if judge else "",
        "notes": result.notes,
        "pending": judge.failed if isinstance(judge, RecordedJudge) else 0,
    }


def _status(question_id: str, texts: list[str], error: str, result: ScoringResult) -> str:
    if error:
        return "failed"
    if not any(text.strip() for text in texts):
        return "empty"
    return "unparsed" if question_id in result.unread else "parsed"


def write_predictions(kit: Any, spec: RetentionSpec, data: Any, answers: Mapping[str, list[str]], path: Path) -> None:
    """Write the prediction file that VLMEvalKit reads: the table without pictures, with the model's answers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = data.drop(columns=["image"], errors="ignore")
    table = table[[str(index) in answers for index in table["index"]]].copy()
    texts = [[printable(text) for text in answers[str(index)]] for index in table["index"]]
    table["prediction"] = [repr(turns) for turns in texts] if spec.family == "mmdu" else [t[-1] for t in texts]
    kit.files.dump(table, str(path))


def printable(text: str) -> str:
    """Replace lone surrogates and NUL, which a table cannot hold, by the replacement character."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")
