"""VLMEvalKit unchanged: its headlines of further benchmarks. ``python official_further.py JOBS RESULTS``.

JOBS contains {name: {"tsv": path, "family": family, "predictions": {id: text}}}.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.vlmeval import adapter


def main():
    kit = adapter.load()
    classes = {
        "choice": kit.mcq.ImageMCQDataset,
        "yes-no": kit.yorn.ImageYORNDataset,
        "short answer": kit.vqa.ImageVQADataset,
    }
    results = {}
    for name, job in json.loads(Path(sys.argv[1]).read_text()).items():
        cls = classes[job["family"]]
        cls.DATASET_MD5 = {}
        root = Path(tempfile.mkdtemp())
        os.environ["LMUData"] = str(root)  # noqa: SIM112
        (root / f"{name}.tsv").symlink_to(job["tsv"])
        dataset = cls(dataset=name)
        table = dataset.data.drop(columns=["image"])
        table["prediction"] = [job["predictions"][str(index)] for index in table["index"]]
        file = str(root / "golden.tsv")
        kit.files.dump(table, file)
        frame = dataset.evaluate(file, model="exact_matching")
        results[name] = float(frame["acc" if name.startswith("VSR") else "Overall"].iloc[0])
        results[name] *= 100 if job["family"] == "choice" else 1
    Path(sys.argv[2]).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
