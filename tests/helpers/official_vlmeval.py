"""VLMEvalKit unchanged, except for the judge: scores prediction files for the golden test.

``python official_vlmeval.py JOBS RESULTS``; JOBS contains {name: {"tsv": path, "predictions": {id: text or texts}}}.
A job may have a "reader", {answer: reply}, for a language model that reads what the rule cannot.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.judges import RuleJudge
from benchmarks.retention_specs import SPEC_BY_NAME
from benchmarks.vlmeval import adapter


class Reader:
    """A language model with a fixed reply to each answer that it is asked to read."""

    name, last_error = "reader", ""

    def __init__(self, replies):
        self.by_answer = replies
        self.asked = []

    def working(self):
        return True

    def generate(self, prompt, **_):
        self.asked.append(prompt)
        return next(reply for said, reply in self.by_answer.items() if prompt.endswith(f"{said}\nYour output: "))

    def replies(self, requests):
        return {key: self.generate(request["parts"][0][1]) for key, request in requests.items()}


def headline(spec, frame):
    if spec.family == "mia":
        return 100 * frame["total_score"]
    if spec.family == "mmdu":
        return frame[frame["set"] == "all"]["Overall Score"].iloc[0]
    if spec.family in ("mathvista", "mathvision"):
        return frame[frame.iloc[:, 0] == "Overall"]["acc"].iloc[0]
    if spec.name == "MME":
        names = [name for name in frame if name not in ("perception", "reasoning")]
        return (frame["perception"].iloc[0] + frame["reasoning"].iloc[0]) / (200 * len(names)) * 100
    if spec.name == "OCRVQA":
        return frame["Overall"].iloc[0]
    if spec.name == "HallusionBench":
        return frame[frame["split"] == "Overall"][["aAcc", "fAcc", "qAcc"]].mean(axis=1).iloc[0]
    if spec.name == "POPE":
        return frame[frame["split"] == "Overall"]["Overall"].iloc[0]
    scored = frame[frame["split"] == spec.split] if spec.split else frame
    return 100 * scored["Overall"].iloc[0]


def main():
    jobs = json.loads(Path(sys.argv[1]).read_text())
    kit = adapter.load()
    adapter.use_judge(kit, RuleJudge())
    kit.mathv.is_equal = kit.mathv.is_equal.__wrapped__  # its time limit starts a process per comparison
    results = {}
    for name, job in jobs.items():
        spec = SPEC_BY_NAME[name]
        kit.dataset_class(spec).DATASET_MD5 = {}
        root = Path(tempfile.mkdtemp())
        os.environ["LMUData"] = str(root)  # noqa: SIM112
        (root / f"{spec.dataset}.tsv").symlink_to(job["tsv"])
        dataset = kit.dataset_class(spec)(dataset=spec.dataset)
        table = dataset.data.drop(columns=["image"])
        table["prediction"] = [job["predictions"][str(index)] for index in table["index"]]
        file = str(root / "golden.tsv")
        kit.files.dump(table, file)
        judged = "rule" if spec.judge or "reader" in job else "exact_matching"
        if "reader" in job:
            adapter.use_judge(kit, Reader(job["reader"]))
        results[name] = float(headline(spec, dataset.evaluate(file, model=judged)))
    Path(sys.argv[2]).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
