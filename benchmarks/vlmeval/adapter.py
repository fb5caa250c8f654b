"""The only file that imports VLMEvalKit. Runs inside ``vlmeval.worker`` alone.

VLMEvalKit's packages import hundreds of modules, switch off TLS verification and set up logging; ``load`` puts empty
packages in place of those that do so and takes only the modules of the twelve benchmarks. ``make_safe`` then exchanges
single functions inside them: what evaluates text, starts processes, reads other files or rewrites a file for each row.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.errors import UserError
from benchmarks.judges import Judge, RecordedJudge
from benchmarks.retention_specs import RetentionSpec
from benchmarks.vlmeval import safe_literal as arithmetic
from benchmarks.vlmeval.client import INSTALL

TEXT_COLUMNS = frozenset(
    {
        *("prediction", "res", "extracted", "score_raw", "log"),
        *("question", "hint", "answer", "answer_option", "choices", "image", "image_path", "split"),
        *("category", "l2-category", "task", "skills", "components", "component_weight", "component_type"),
    }
)
SAID = ("prediction", "res", "score_raw")


@dataclass(frozen=True)
class VLMEvalModules:
    """The modules of VLMEvalKit that are used."""

    base: Any
    yorn: Any
    mcq: Any
    vqa: Any
    mt: Any
    mia: Any
    yorn_rules: Any
    mcq_rules: Any
    vqa_rules: Any
    mathvista: Any
    mathv: Any
    mmdu: Any
    files: Any
    misc: Any

    def dataset_class(self, spec: RetentionSpec) -> Any:
        """VLMEvalKit's class for a benchmark."""
        if spec.name == "MMMU":
            return self.mcq.MMMUDataset
        return {
            "yes-no": self.yorn.ImageYORNDataset,
            "choice": self.mcq.ImageMCQDataset,
            "short answer": self.vqa.ImageVQADataset,
            "mathvista": self.vqa.MathVista,
            "mathvision": self.vqa.MathVision,
            "mia": self.mia.MIABench,
            "mmdu": self.mt.MMDUDataset,
        }[spec.family]


def load() -> VLMEvalModules:
    """Import the modules of the twelve, and nothing else of VLMEvalKit.

    Raises:
        UserError: VLMEvalKit is missing or damaged.
    """
    if "vlmeval" not in sys.modules:
        _stand_in()
    try:
        from vlmeval.dataset import image_base, image_mcq, image_mt, image_vqa, image_yorn, miabench
        from vlmeval.dataset.utils import mathv, mathvista, mmdu, multiple_choice, vqa_eval, yorn
        from vlmeval.smp import file, misc
    except ImportError as error:
        raise UserError(f"VLMEvalKit cannot be imported ({error})", hint=INSTALL) from error
    return VLMEvalModules(
        base=image_base,
        yorn=image_yorn,
        mcq=image_mcq,
        vqa=image_vqa,
        mt=image_mt,
        mia=miabench,
        yorn_rules=yorn,
        mcq_rules=multiple_choice,
        vqa_rules=vqa_eval,
        mathvista=mathvista,
        mathv=mathv,
        mmdu=mmdu,
        files=file,
        misc=misc,
    )


def _stand_in() -> None:
    """Empty packages for those of VLMEvalKit whose ``__init__`` imports everything."""
    found = importlib.util.find_spec("vlmeval")
    if found is None or not found.submodule_search_locations:
        raise UserError("VLMEvalKit is not installed", hint=INSTALL)
    place = found.submodule_search_locations[0]
    for name, folder in (("vlmeval", place), ("vlmeval.dataset", str(Path(place) / "dataset"))):
        package = types.ModuleType(name)
        package.__path__ = [folder]
        sys.modules[name] = package
    sys.modules["vlmeval"].dataset = sys.modules["vlmeval.dataset"]  # type: ignore[attr-defined]


@cache
def safe_kit() -> VLMEvalModules:
    """VLMEvalKit, loaded and made safe once in this process."""
    # Its MathVision rules import half of sympy for a comparison of model text that ``make_safe`` replaces.
    unused = types.ModuleType("latex2sympy2_extended")
    unused.latex2sympy = None  # type: ignore[attr-defined]
    sys.modules.setdefault("latex2sympy2_extended", unused)
    kit = load()
    make_safe(kit, Path(tempfile.mkdtemp()))
    return kit


def make_safe(kit: VLMEvalModules, folder: Path) -> None:
    """Exchange what would execute text, start processes, use the network or share files.

    Args:
        kit: The loaded modules; they are changed in place, so this belongs into a process of its own.
        folder: Where files with fixed names go instead of ``/tmp``.
    """
    for module in (kit.misc, kit.mia, kit.mmdu, kit.mathvista, kit.mathv, kit.vqa, kit.vqa_rules):
        module.eval = arithmetic.literal  # a module's own name goes before the built-in one
    kit.mmdu.eval = _list_or_dictionary
    kit.mathv.is_equal = arithmetic.equal
    for module in (kit.yorn, kit.mcq_rules, kit.vqa, kit.mt, kit.mia):
        module.track_progress_rich = _one_by_one(kit.files.dump)
    kit.vqa.mp = types.SimpleNamespace(Pool=_SerialPool)
    kit.files.pd = _pandas_that_reads_text_as_text(kit.files.pd)
    kit.base.file_size = lambda *_: 0  # a table above 1 GiB would be rewritten by another part of VLMEvalKit
    kit.base.download_file = kit.files.download_file = _no_download
    for name in ("load", "dump"):
        setattr(kit.mcq_rules, name, _kept_private(getattr(kit.files, name), folder))
    for cls in {kit.dataset_class(spec) for spec in _specs()}:
        cls.DATASET_MD5 = {}  # the harness knows its tables by content; a mismatch would be downloaded over


def use_judge(kit: VLMEvalModules, judge: Judge | None) -> None:
    """Give every dataset class this judge instead of one built from environment variables."""

    def build(**options: Any) -> Judge:
        if judge is None:
            raise UserError("this benchmark needs a judge", hint="name a judge")
        if isinstance(judge, RecordedJudge):
            judge.max_tokens = int(options.get("max_tokens", RecordedJudge.usual_tokens))
        return judge

    for module in (kit.yorn, kit.mcq, kit.vqa, kit.mt, kit.mia):
        module.build_judge = build


def build(kit: VLMEvalModules, spec: RetentionSpec, tsv: Path, root: Path) -> Any:
    """A new dataset object over a table, which VLMEvalKit looks for under its own name.

    Args:
        kit: The loaded modules.
        spec: Which of the twelve.
        tsv: The table.
        root: Private folder that stands for VLMEvalKit's data root.
    """
    root.mkdir(parents=True, exist_ok=True)
    link = root / f"{spec.dataset}.tsv"
    if not link.exists():
        link.symlink_to(tsv)
    os.environ["LMUData"] = str(root)  # noqa: SIM112  (its spelling)
    return kit.dataset_class(spec)(dataset=spec.dataset)


def read_table(kit: VLMEvalModules, path: Path) -> Any:
    """A TSV as a data frame, text as text, an empty field as missing and nothing else."""
    return kit.files.load(str(path))


def _list_or_dictionary(text: object) -> object:
    """A judge's reply may hold braces that are no dictionary; VLMEvalKit makes a table of what it gets."""
    found = arithmetic.literal(text)
    if not isinstance(found, list | dict):
        raise SyntaxError(f"no list or dictionary: {str(text)[:60]!r}")
    return found


def _specs() -> Sequence[RetentionSpec]:
    from benchmarks.retention_specs import TWELVE

    return TWELVE


def _one_by_one(dump: Callable[..., None]) -> Callable[..., list[Any]]:
    """VLMEvalKit's worker pool without threads, and with one write at the end instead of one for each row."""

    def run(func: Any, tasks: Sequence[Any] = (), nproc: int = 1, save: str = "", keys: Any = None, **_: Any) -> Any:
        results = [func(**task) if isinstance(task, dict) else func(*task) for task in tasks]
        if save:
            dump(dict(zip(keys, results, strict=True)), save)
        return results

    return run


class _SerialPool:
    """A ``multiprocessing.Pool`` that works where it stands."""

    def __init__(self, *_: object) -> None:
        pass

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return [function(item) for item in items]


def _pandas_that_reads_text_as_text(pandas: Any) -> types.ModuleType:
    """Pandas for ``load``: an answer or option "None", "NA" or "007" stays what it is.

    Pandas takes the first two for missing and the last for the number 7, depending on its version and on the column's
    other rows.
    """
    reading = types.ModuleType("pandas")
    reading.__dict__.update(pandas.__dict__)

    def read_csv(path: str, sep: str = ",") -> Any:
        header = pandas.read_csv(path, sep=sep, nrows=0).columns
        types_ = {name: str for name in header if name in TEXT_COLUMNS or (len(name) == 1 and name.isupper())}
        table = pandas.read_csv(
            path, sep=sep, dtype=types_, keep_default_na=False, na_values=[""], low_memory=False, encoding="utf-8"
        )
        for name in SAID:
            if name in table:
                table[name] = table[name].fillna("")
        return table

    reading.read_csv = read_csv  # type: ignore[attr-defined]
    return reading


def _kept_private(function: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    """Circular scoring writes ``/tmp/<second>.tsv``, which two scorings in one second would share."""

    def call(*arguments: Any, **options: Any) -> Any:
        *first, path = arguments
        if Path(path).parent == Path("/tmp"):  # noqa: S108  (that is the name to get away from)
            path = str(folder / Path(path).name)
        return function(*first, path, **options)

    return call


def _no_download(url: str, *_: object) -> None:
    raise UserError("VLMEvalKit wanted to download", location=url, hint="put the file there yourself")
