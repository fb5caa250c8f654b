"""The only module that imports VLMEvalKit. Runs only inside ``vlmeval.worker``.

VLMEvalKit's packages import hundreds of modules, disable TLS verification and configure logging; ``load`` replaces
those packages by empty ones and imports only the modules of the twelve benchmarks. ``make_safe`` then replaces single
functions in them: those that evaluate text, start processes, read other files or rewrite a file for every row.
"""

from __future__ import annotations

import base64
import importlib
import importlib.util
import os
import sys
import tempfile
import types
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.errors import UserError
from benchmarks.judges import Judge, RecordedJudge
from benchmarks.records import Picture
from benchmarks.retention_specs import SPECS, RetentionSpec
from benchmarks.vlmeval.client import INSTALL
from benchmarks.vlmeval.safe_literal import parse_literal
from benchmarks.vlmeval.values import answers_equal

TEXT_COLUMNS = frozenset(
    {
        *("prediction", "res", "extracted", "score_raw", "log"),
        *("question", "hint", "answer", "answer_option", "choices", "image", "image_path", "split"),
        *("category", "l2-category", "cluster", "task", "skills", "components", "component_weight", "component_type"),
    }
)
OWN_RULES = ("AMBER", "MMT-Bench", "MMSci", "MMVP")
"""Parts of the names of sets whose headline VLMEvalKit computes by a rule of their own."""
UNREAD = "Z"
"""VLMEvalKit's letter for an answer that names no option."""
MODEL_COLUMNS = ("prediction", "res", "score_raw")


class VLMEvalModules(types.SimpleNamespace):
    """The modules of VLMEvalKit that are used, under the names that ``load`` gives them."""

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
            "open": self.vqa.MMVet,
        }[spec.family]


def load() -> VLMEvalModules:
    """Import the modules of the twelve benchmarks, and nothing else of VLMEvalKit.

    Raises:
        UserError: VLMEvalKit is missing or damaged.
    """
    if "vlmeval" not in sys.modules:
        _stub_packages()
    try:
        from vlmeval.dataset import image_base, image_mcq, image_mt, image_vqa, image_yorn, miabench
        from vlmeval.dataset.utils import mathv, mathvista, mmdu, mmvet, multiple_choice, vqa_eval, yorn
        from vlmeval.smp import file, misc
        from vlmeval.utils import matching_util
    except ImportError as error:
        raise UserError(f"VLMEvalKit cannot be imported ({error})", hint=INSTALL) from error
    return VLMEvalModules(
        **{"base": image_base, "yorn": image_yorn, "mcq": image_mcq, "vqa": image_vqa, "mt": image_mt, "mia": miabench},
        **{"yorn_rules": yorn, "mcq_rules": multiple_choice, "vqa_rules": vqa_eval, "mathvista": mathvista},
        **{"mathv": mathv, "mmdu": mmdu, "mmvet": mmvet, "published": _published(image_mcq, image_yorn, image_vqa)},
        **{"files": file, "misc": misc, "matching": matching_util},
    )


def _published(mcq: Any, yorn: Any, vqa: Any) -> dict[str, dict[str, str]]:
    """VLMEvalKit's data sets of the families that any benchmark may use, by name, with the md5 that it declares."""
    classes = {"choice": mcq.ImageMCQDataset, "yes-no": yorn.ImageYORNDataset, "short answer": vqa.ImageVQADataset}
    return {
        name: {"family": family, "url": url, "md5": cls.DATASET_MD5[name]}
        for family, cls in classes.items()
        for name, url in cls.DATASET_URL.items()
        if name in cls.DATASET_MD5 and not any(part in name for part in OWN_RULES)
    }


def list_datasets(_: dict[str, Any]) -> dict[str, Any]:
    """The job that lists what ``_published`` finds."""
    return {"datasets": safe_kit().published}


def _stub_packages() -> None:
    """Register empty packages for those of VLMEvalKit whose ``__init__`` imports everything."""
    spec = importlib.util.find_spec("vlmeval")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("VLMEvalKit is not installed", hint=INSTALL)
    root = spec.submodule_search_locations[0]
    for name, folder in (("vlmeval", root), ("vlmeval.dataset", str(Path(root) / "dataset"))):
        package = types.ModuleType(name)
        package.__path__ = [folder]
        sys.modules[name] = package
    sys.modules["vlmeval"].dataset = sys.modules["vlmeval.dataset"]  # type: ignore[attr-defined]


@cache
def safe_kit() -> VLMEvalModules:
    """VLMEvalKit's modules, loaded and made safe once per process."""
    # MathVision's module imports half of sympy for the comparison that ``make_safe`` replaces; ``published_rule``
    # imports the real package when it first compares two numbers.
    unused = types.ModuleType("latex2sympy2_extended")
    unused.latex2sympy = None  # type: ignore[attr-defined]
    sys.modules.setdefault("latex2sympy2_extended", unused)
    kit = load()
    if sys.modules["latex2sympy2_extended"] is unused:
        del sys.modules["latex2sympy2_extended"]
    make_safe(kit, Path(tempfile.mkdtemp()))
    return kit


def make_safe(kit: VLMEvalModules, folder: Path) -> None:
    """Replace what would execute text, start processes, use the network or share files.

    Args:
        kit: The loaded modules; changed in place, so this needs a separate process.
        folder: Receives files with fixed names instead of ``/tmp``.
    """
    for module in (kit.misc, kit.mia, kit.mmdu, kit.mathvista, kit.mathv, kit.vqa, kit.vqa_rules):
        module.eval = parse_literal  # a module's own name hides the builtin
    kit.mmdu.eval = _list_or_dictionary
    kit.mathv.is_equal = answers_equal
    # What a judge cannot read either stays unread ("Z"), where VLMEvalKit draws an option at random.
    kit.mcq_rules.rd = types.SimpleNamespace(choice=lambda _: UNREAD)
    for module in (kit.yorn, kit.mcq_rules, kit.vqa, kit.mt, kit.mia):
        module.track_progress_rich = _serial_progress(kit.files)
    kit.vqa.mp = types.SimpleNamespace(Pool=_SerialPool)
    kit.files.pd = pandas_with_text_columns(kit.files.pd)
    kit.base.file_size = lambda *_: 0  # a table above 1 GiB would be rewritten by another part of VLMEvalKit
    kit.base.decode_base64_to_image_file = _picture_writer(kit.base.decode_base64_to_image_file)
    kit.base.download_file = kit.files.download_file = _no_download
    for name in ("load", "dump"):
        setattr(kit.mcq_rules, name, _redirect_tmp(getattr(kit.files, name), folder))
    for cls in {kit.vqa.MMVet, *(kit.dataset_class(spec) for spec in SPECS)}:
        cls.DATASET_MD5 = {}  # a table with another md5 would be overwritten by a download


def use_judge(kit: VLMEvalModules, judge: Judge | None) -> None:
    """Make every dataset class use this judge instead of one configured by environment variables."""

    def build(**options: Any) -> Judge:
        if judge is None:
            raise UserError("this benchmark needs a judge", hint="choose a judge")
        if isinstance(judge, RecordedJudge):
            judge.max_tokens = int(options.get("max_tokens", RecordedJudge.default_max_tokens))
        return judge

    for module in (kit.yorn, kit.mcq, kit.vqa, kit.mt, kit.mia):
        module.build_judge = build


def build_dataset(kit: VLMEvalModules, spec: RetentionSpec, tsv: Path, root: Path) -> Any:
    """Create a dataset object for a table, which VLMEvalKit expects under its own file name.

    Args:
        kit: The loaded modules.
        spec: Which of the twelve.
        tsv: The table.
        root: Private folder that serves as VLMEvalKit's data root.
    """
    root.mkdir(parents=True, exist_ok=True)
    link = root / f"{spec.dataset}.tsv"
    if not link.exists():
        link.symlink_to(tsv)
    os.environ["LMUData"] = str(root)  # noqa: SIM112  (its spelling)
    return kit.dataset_class(spec)(dataset=spec.dataset)


def read_table(kit: VLMEvalModules, path: Path) -> Any:
    """Read a TSV as a data frame: text stays text, and only an empty field is missing."""
    return kit.files.load(str(path))


def _list_or_dictionary(text: object) -> object:
    """Refuse other literals: VLMEvalKit builds a table from whatever a judge's reply holds between braces."""
    parsed = parse_literal(text)
    if not isinstance(parsed, list | dict):
        raise SyntaxError(f"not a list or dictionary: {str(text)[:60]!r}")
    return parsed


def _serial_progress(files: Any) -> Callable[..., list[Any]]:
    """VLMEvalKit's worker pool without threads, adding to its file once at the end instead of once per row."""

    def run(func: Any, tasks: Sequence[Any] = (), nproc: int = 1, save: str = "", keys: Any = None, **_: Any) -> Any:
        results = [func(**task) if isinstance(task, dict) else func(*task) for task in tasks]
        if save:
            earlier = files.load(save) if Path(save).exists() else {}
            files.dump(earlier | dict(zip(keys, results, strict=True)), save)
        return results

    return run


class _SerialPool:
    """A ``multiprocessing.Pool`` that runs in the calling process."""

    def __init__(self, *_: object) -> None:
        pass

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        return [function(item) for item in items]


def pandas_with_text_columns(pandas: Any) -> types.ModuleType:
    """Pandas for ``load``: an answer or option "None", "NA" or "007" stays text.

    Pandas reads the first two as missing and the last as the number 7, depending on its version and on the column's
    other rows.
    """
    patched = types.ModuleType("pandas")
    patched.__dict__.update(pandas.__dict__)

    def read_csv(path: str, sep: str = ",") -> Any:
        header = pandas.read_csv(path, sep=sep, nrows=0).columns
        types_ = {name: str for name in header if name in TEXT_COLUMNS or (len(name) == 1 and name.isupper())}
        table = pandas.read_csv(
            path, sep=sep, dtype=types_, keep_default_na=False, na_values=[""], low_memory=False, encoding="utf-8"
        )
        for name in MODEL_COLUMNS:
            if name in table:
                table[name] = table[name].fillna("")
        return table

    patched.read_csv = read_csv  # type: ignore[attr-defined]
    return patched


def _redirect_tmp(function: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    """Redirect circular scoring's ``/tmp/<second>.tsv``, so that two scorings in one second do not share it."""

    def call(*arguments: Any, **options: Any) -> Any:
        *first, path = arguments
        if Path(path).parent == Path("/tmp"):  # noqa: S108  (the path to replace)
            path = str(folder / Path(path).name)
        return function(*first, path, **options)

    return call


def _picture_writer(write: Callable[[str, str], None]) -> Callable[[str, str], None]:
    """VLMEvalKit's function that writes a picture from base64, also for kinds that PNG cannot hold, such as CMYK."""

    def save(code: str, path: str) -> None:
        try:
            write(code, path)
        except (OSError, SyntaxError, ValueError) as error:
            try:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                Picture(base64.b64decode(code)).pixels().save(path)
            except UserError as bad:
                raise ValueError(bad.message) from error

    return save


def _no_download(url: str, *_: object) -> None:
    raise UserError("VLMEvalKit tried to download a file", location=url, hint="download it yourself")
