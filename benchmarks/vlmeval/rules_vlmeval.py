"""From answers to scores: VLMEvalKit's ``evaluate`` gives the numbers, its files and functions the single questions.

Runs in ``vlmeval.worker``. An item carries a metric where it is that metric's unit: all of HallusionBench's questions
carry aAcc, the first question of each figure carries fAcc. So a metric is the mean over the items that carry it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.vlmeval import safe_literal as arithmetic
from benchmarks.vlmeval.result import MME_GROUPS, Run, ScoringResult, Values, by_id, first_of_each, mean, numbers


def _yes_no(run: Run) -> ScoringResult:
    result = run.evaluate().to_dict("records")
    table = run.read("_auxmatch")
    hits = {question_id: float(bool(hit)) for question_id, hit in by_id(table, "score").items()}
    unread = {question_id for question_id, said in by_id(table, "extracted").items() if said == "Unknown"}
    if run.spec.name == "MME":
        return _mme(result[0], table, hits, unread)
    if run.spec.name == "POPE":
        return _pope(result, table, hits, unread)
    return _hallusion(result, table, hits, unread)


def _mme(result: dict[str, float], table: Any, hits: dict[str, float], unread: set[str]) -> ScoringResult:
    present = [name for names in MME_GROUPS.values() for name in names if name in set(table["category"])]
    raw = result["perception"] + result["reasoning"]
    groups = zip(table["category"], table["image_path"], strict=True)
    pairs = first_of_each((i, group, hits[i]) for i, group in zip(table["index"].astype(str), groups, strict=True))
    values: Values = {i: {"acc": hit} for i, hit in hits.items()}
    for question_id, hit in pairs.items():
        values[question_id]["acc+"] = hit
    metrics = {"acc": mean(hits), "acc+": mean(pairs), **numbers(result, 1.0, "points")}
    return ScoringResult(raw / (200 * len(present)) * 100, metrics, values, unread)


def _pope(result: list[dict[str, Any]], table: Any, hits: dict[str, float], unread: set[str]) -> ScoringResult:
    rows = {row["split"]: row for row in result}
    metrics = {"F1": rows["Overall"]["Overall"]}
    for split, row in rows.items():
        part = "" if split == "Overall" else f"/{split}"
        metrics |= {f"F1{part}": row["Overall"]} | {f"{m}{part}": row[m] for m in ("acc", "precision", "recall")}
    is_yes, said_yes = by_id(table, "answer"), by_id(table, "extracted")
    values = {
        i: {"acc": hit, "is_yes": float(is_yes[i] == "Yes"), "said_yes": float(said_yes[i] == "Yes")}
        for i, hit in hits.items()
    }
    return ScoringResult(metrics["F1"], metrics, values, unread)


def _hallusion(result: list[dict[str, Any]], table: Any, hits: dict[str, float], unread: set[str]) -> ScoringResult:
    metrics: dict[str, float] = {}
    for row in result:
        part = "" if row["split"] == "Overall" else f"/{row['split']}"
        metrics |= {f"{name}{part}": float(row[name]) for name in ("aAcc", "fAcc", "qAcc")}
    values: Values = {i: {"aAcc": hit} for i, hit in hits.items()}
    wide = by_id(table, "l2-category")
    for name, place in (("fAcc", 4), ("qAcc", 5)):
        keyed = ((i, (wide[i], i.split("_")[3], i.split("_")[place]), hit) for i, hit in hits.items())
        for question_id, hit in first_of_each(keyed).items():
            values[question_id][name] = hit
    return ScoringResult(sum(metrics[name] for name in ("aAcc", "fAcc", "qAcc")) / 3, metrics, values, unread)


def _choice(run: Run) -> ScoringResult:
    frame = run.evaluate()
    rows = {row["split"]: row for row in frame.to_dict("records")}
    row = rows[run.spec.split] if run.spec.split in rows else next(iter(rows.values()))
    name = "circular" if run.spec.name == "MMBench" else "acc"
    metrics = numbers(row, 100.0, name)
    metrics[name] = metrics.pop(f"{name}/Overall")
    table, read = run.read(""), {}
    if run.spec.name == "MMMU":
        table = run.kit.mcq_rules.MMMU_preproc(table)
    for i in range(len(table)):
        read[str(table.iloc[i]["index"])] = run.kit.mcq_rules.prefetch_answer(table.iloc[i])
    unread = {question_id for question_id, letter in read.items() if letter in (False, "Z")}
    hits = {i: float(hit) for i, hit in by_id(run.read(f"_{run.model}_result"), "hit").items()}
    values: Values = {i: {name: hit} for i, hit in hits.items()}
    if name == "circular":
        for question_id, letter in by_id(table, "answer").items():
            values.setdefault(question_id, {})["acc"] = float(read[question_id] == letter)
        metrics["acc"] = 100 * sum(value["acc"] for value in values.values()) / len(values)
    return ScoringResult(metrics[name], metrics, values, unread)


def _short_answer(run: Run) -> ScoringResult:
    result = run.evaluate().to_dict("records")[0]
    table = run.read("_results")
    values: Values = {}
    for i in range(len(table)):
        line = run.kit.vqa_rules.process_line(table.iloc[i], method="accuracy")
        values[str(table.iloc[i]["index"])] = {"acc": float(max(line["match"]))}
    metrics = numbers(result, 1.0, "acc")
    metrics["acc"] = metrics.pop("acc/Overall")
    return ScoringResult(metrics["acc"], metrics, values)


def _mathvista(run: Run) -> ScoringResult:
    frame = run.evaluate()
    metrics = {f"acc/{row['Task&Skill']}": float(row["acc"]) for row in frame.to_dict("records")}
    metrics["acc"] = metrics.pop("acc/Overall")
    table = run.read(f"_{run.model}")
    hits = _recheck(table, run.kit.mathvista.post_check)
    mended = {i: max(hit, mended) for (i, hit), mended in zip(hits.items(), _lists_and_texts(table), strict=True)}
    values: Values = {i: {"acc": hits[i], "acc_corrected": mended[i]} for i in hits}
    metrics["acc_corrected"] = mean(mended)
    notes = []
    if mended != hits:
        notes.append("VLMEvalKit never counts an answer of type list or text as right; acc_corrected does")
    return ScoringResult(metrics["acc"], metrics, values, _nothing_read(table), notes)


def _lists_and_texts(table: Any) -> list[float]:
    """Whether an answer of type list or text, which the published rule can never count, is right."""
    rows = table.to_dict("records")
    return [
        float(
            row["question_type"] != "multi_choice"
            and row["answer_type"] in ("list", "text")
            and _same(row["res"] or row["prediction"], row["answer"])
        )
        for row in rows
    ]


def _same(said: str, wanted: str) -> bool:
    try:
        return arithmetic.literal(said) == arithmetic.literal(wanted)
    except SyntaxError:
        return said.strip().lower() == wanted.strip().lower()


def _mathvision(run: Run) -> ScoringResult:
    """Twice: compared as numbers, and by the published rule (still without running any text)."""
    frame = run.evaluate()
    metrics = {f"acc/{row['Subject']}": float(row["acc"]) for row in frame.to_dict("records")}
    metrics["acc"] = metrics.pop("acc/Overall")
    table = run.read(f"_{run.model}")
    hits = _recheck(table, run.kit.mathv.post_check)
    published = _as_published(run)
    values: Values = {i: {"acc": hits[i], "acc_published": published[i]} for i in hits}
    metrics["acc_published"] = mean(published)
    notes = []
    if published != hits:
        count = sum(published[i] != hits[i] for i in hits)
        notes.append(f"the published rule, by which 'A' equals any number, differs on {count} of {len(hits)} answers")
    return ScoringResult(metrics["acc"], metrics, values, _nothing_read(table), notes)


def _as_published(run: Run) -> dict[str, float]:
    second = run.folder / "published"
    second.mkdir()
    (second / "run.tsv").write_bytes((run.folder / "run.tsv").read_bytes())
    run.kit.mathv.is_equal = arithmetic.equal_as_published
    try:
        run.dataset.evaluate(str(second / "run.tsv"), model=run.model, nproc=1)
        table = run.kit.files.load(str(second / f"run_{run.model}.tsv"))
        return _recheck(table, run.kit.mathv.post_check)
    finally:
        run.kit.mathv.is_equal = arithmetic.equal


def _recheck(table: Any, check: Callable[[Any], object]) -> dict[str, float]:
    """VLMEvalKit's own verdict on each row."""
    return {str(table.iloc[i]["index"]): float(bool(check(table.iloc[i]))) for i in range(len(table))}


def _nothing_read(table: Any) -> set[str]:
    return {question_id for question_id, read in by_id(table, "res").items() if not str(read).strip()}


def _mia(run: Run) -> ScoringResult:
    result = run.evaluate()
    table = run.read(f"_{run.model}")
    values: Values = {}
    unread: set[str] = set()
    for row in table.to_dict("records"):
        try:
            kinds = row["component_type"][2:-2].split("', '")
            read = run.kit.mia.process_rawscore(kinds, row["score_raw"])
        except (LookupError, ValueError, ZeroDivisionError, NameError):  # a sentence without commas leaves a name unset
            unread.add(str(row["index"]))
            continue
        values[str(row["index"])] = {"total_score": float(read["total_score"])}
    metrics = {f"component/{name}": 100 * float(value) for name, value in result.items()}
    metrics["total_score"] = metrics.pop("component/total_score", 0.0)
    metrics["coverage"] = 100 * len(values) / len(table)
    notes = [f"{len(unread)} of {len(table)} replies of the judge could not be read"] if unread else []
    return ScoringResult(metrics["total_score"] if values else None, metrics, values, unread, notes)


def _mmdu(run: Run) -> ScoringResult:
    try:
        frame = run.evaluate()
    except ZeroDivisionError:  # how VLMEvalKit says that no reply could be read
        return ScoringResult(None, {"coverage": 0.0}, {}, notes=["no reply of the judge could be read"])
    rows = {row["set"]: row for row in frame.to_dict("records")}
    metrics = numbers(rows["all"], 1.0, "all") | numbers(rows["valid"], 1.0, "valid")
    headline = metrics["all/Overall Score"]
    graded = run.kit.files.load(str(run.folder / f"run_{run.model}.pkl"))
    values: Values = {}
    verdicts: list[int | None] = []
    for index, dialogue in graded.items():
        table = dialogue["res"]
        grades = [_grade(value) for value in table.get("Overall Score", [None] * len(table))]
        values[str(index)] = {"Overall Score": sum(grade or 0 for grade in grades) / (10 * len(grades))}
        verdicts += grades
    notes = []
    if None in verdicts:
        lost = verdicts.count(None)
        notes.append(f"{lost} of {len(verdicts)} replies of the judge could not be read and count as 0")
        metrics["coverage"] = 100 * (1 - lost / len(verdicts))
    return ScoringResult(headline, metrics, values, notes=notes)


def _grade(value: Any) -> int | None:
    """A grade from 0 to 10 as VLMEvalKit takes it, or None where it is none."""
    try:
        return min(max(int(value), 0), 10)
    except (TypeError, ValueError, OverflowError):
        return None


RULES: dict[str, Callable[[Run], ScoringResult]] = {
    "yes-no": _yes_no,
    "choice": _choice,
    "short answer": _short_answer,
    "mathvista": _mathvista,
    "mathvision": _mathvision,
    "mia": _mia,
    "mmdu": _mmdu,
}
