"""Write what a row of a run trained as a folder that plain PEFT or transformers loads, and prove that it does."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.errors import UserError
from benchmarks.records import Conversation, KnowledgeItem, Turn
from harness.config import hub
from harness.config.overrides import unknown_name
from harness.console import print_lines
from harness.experiment.answer import scaled_tensors
from harness.experiment.cell import ADAPTERS, Cell
from harness.experiment.context import IntegrityError, RunContext
from harness.experiment.finished_run import find_trained, open_finished, stored_training
from harness.storage.files import atomic_folder
from reports.formats.model_card import Card, render

if TYPE_CHECKING:
    import torch

    from methods.components.peft_adapter import PeftAdapter
    from reports.record import CellResult, Run

logger = logging.getLogger(__name__)

Form = Literal["adapter", "merged", "without-projector"]
BASE_FOLDER, ADAPTER_FOLDER = "base", "adapter"
"""The folders of a row ``without-projector``: the base with the trained projector, and the adapter for it."""
NOT_COPIED = (".safetensors", ".index.json", ".md", "SHA256SUMS", "training_log.json")
"""Ends of the names of files that describe the base's weights."""
LOADED_FROM = ("name_or_path", "_name_or_path")
"""Fields of a configuration in which transformers writes where something was loaded from."""
TOLERANCE = 1e-3
"""Largest difference of a logit, relative to the largest logit, where sums are rounded in another order."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Args:
        folder: Where.
        form: As what.
        difference: Largest difference between a logit of the run's model and of the one that was loaded back.
    """

    folder: Path
    form: Form
    difference: float


def export(run: Path, row: str, to: Path, seed: int = 0, form: Form = "adapter", repository: str = "") -> Exported:
    """Export one row: write it, load it back by plain PEFT and transformers, and compare the logits with the run's.

    Args:
        run: Folder of a finished run.
        row: The row's name in the tables.
        to: Folder to write; it must not exist or be empty.
        seed: Which of the row's trainings.
        form: ``adapter``, a PEFT folder; ``merged``, a whole model; ``without-projector``, a PEFT adapter of the
            language model only, and beside it the base with the trained projector, as serving engines want it.
        repository: Where it will be on the hub, for the model card; empty if nowhere.

    Raises:
        UserError: There is no such row, its adapter is lost, or it cannot be written in this form.
        IntegrityError: What was written does not give the run's logits; it is removed.
    """
    record, context = open_finished(run)
    result, cell = find_cell(record, row, seed), find_trained(context, row, seed)
    check_empty(to)
    tensors = _stored_adapter(context, run, cell)
    if not tensors:
        problem = "this row has the weights of the untouched base: there is nothing to write"
        raise UserError(problem, location=f"--row {row}", hint="export a row that is trained")
    samples = _samples(context.inputs.knowledge)
    with _restored(context, cell, tensors):
        expected = [_logits(context.model.module, batch) for batch in _batches(context, samples)]
        peft, weights = _portable(context, form)
    with atomic_folder(to) as written:
        exact = _write(written, context, form, peft, weights)
        difference = _compare(context, written, form, samples, expected, exact=exact)
        card = Card(record, result, form, _base_name(context.settings.model), context.dtype, repository=repository)
        (written / "README.md").write_text(render(card), "utf-8")
    return Exported(to, form, difference)


def parse_form(merge: bool, without_projector: bool) -> Form:
    """The form that the flags name.

    Raises:
        UserError: Both are given.
    """
    if merge and without_projector:
        hint = "give one of them: a merged model contains the projector"
        raise UserError("these exclude each other", location="--merge --without-projector", hint=hint)
    return "merged" if merge else "without-projector" if without_projector else "adapter"


def show_export(exported: Exported) -> None:
    """Print where it is and what was compared."""
    print_lines(
        f"written to {exported.folder}: {', '.join(sorted(path.name for path in exported.folder.iterdir()))}",
        f"loaded back by PEFT and transformers, its logits differ from the run's by at most {exported.difference:.3g}",
    )


def find_cell(record: Run, row: str, seed: int) -> CellResult:
    """The result of a row that was trained.

    Raises:
        UserError: There is no such row or seed, or it failed.
    """
    trained = [cell for cell in record.cells if not cell.is_vanilla]
    labels = list(dict.fromkeys(cell.label for cell in trained))
    if row not in labels:
        raise unknown_name("row", row, labels, where="--row")
    by_seed = {cell.seed: cell for cell in trained if cell.label == row}
    if seed not in by_seed:
        seeds = ", ".join(map(str, sorted(by_seed)))
        raise UserError("the row has no such seed", location=f"--seed {seed}", hint=f"choose from {seeds}")
    if by_seed[seed].status != "ok":
        problem = f"there is no adapter: the row is {by_seed[seed].status} ({by_seed[seed].reason})"
        raise UserError(problem, location=f"{row} seed {seed}", hint="run compare again, or export another row")
    return by_seed[seed]


def check_empty(to: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        UserError: It does.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError("something is there already", location=str(to), hint="give another folder with --to")


def _stored_adapter(context: RunContext, run: Path, cell: Cell) -> dict[str, torch.Tensor]:
    training, key = stored_training(context, run, cell)
    if key["base"] != context.cache_inputs.base:
        hint = "give back the folder of the model that the run used"
        raise UserError("the base model is not the one it was trained from", location=cell.title, hint=hint)
    tensors = context.store.read_tensors(ADAPTERS, key)
    if tensors is None or context.store.content_digest(ADAPTERS, key) != training["adapter"]:
        raise UserError("its adapter is missing or damaged", location=cell.title, hint="run compare again")
    return tensors


@contextmanager
def _restored(context: RunContext, cell: Cell, tensors: Mapping[str, torch.Tensor]) -> Iterator[None]:
    method = cell.make()
    method.restore(context.model, scaled_tensors(context, cell, dict(tensors)))
    context.model.module.eval()
    try:
        yield
    finally:
        method.detach(context.model)


def _portable(context: RunContext, form: Form) -> tuple[PeftAdapter | None, dict[str, torch.Tensor]]:
    """The adapter in PEFT's form, and the weights to replace in the base: the projector's, or all that were trained."""
    from methods.components.peft_adapter import peft_adapter, projector_weights

    model = context.model
    if form == "merged" and context.cache_inputs.precision == "nf4":
        problem = "the adapter was trained over quantised weights, and merged into others it would answer differently"
        raise UserError(problem, location="--merge", hint="export the adapter, and load the base in nf4 beneath it")
    peft = peft_adapter(model, projector=form != "without-projector")
    if peft is None:
        if form != "merged":
            problem = "this row is no adapter: its method trains the weights of the model itself"
            raise UserError(problem, location="export", hint="write the whole model with --merge")
        return None, {name: value.detach().cpu().clone() for name, value in model.module.state_dict().items()}
    return peft, projector_weights(model) if form == "without-projector" else {}


def _write(
    folder: Path, context: RunContext, form: Form, peft: PeftAdapter | None, weights: Mapping[str, torch.Tensor]
) -> bool:
    """Write the folder; returns whether its model computes exactly what the run's does."""
    source = context.settings.model
    if peft is not None and form == "adapter":
        _write_adapter(folder, peft, _base_name(source))
        return peft.exact
    if peft is not None and form == "without-projector":
        _write_model(folder / BASE_FOLDER, context, _load_base(context, source, weights))
        _write_adapter(folder / ADAPTER_FOLDER, peft, f"../{BASE_FOLDER}")
        return peft.exact
    module = _load_base(context, source, weights)
    if peft is not None:
        scratch = folder / "adapter"
        _write_adapter(scratch, peft, str(source))
        module = _load_adapter(module, scratch).merge_and_unload()
        shutil.rmtree(scratch)
    _write_model(folder, context, module)
    return peft is None


def _base_name(folder: Path) -> str:
    """The base's id on the hub, or else its folder's name: a path means nothing on another machine."""
    repository = hub.repository_of(folder)
    return repository[0] if repository else folder.name


def _write_adapter(folder: Path, peft: PeftAdapter, base: str) -> None:
    """PEFT's two files."""
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    peft.config.base_model_name_or_path = base
    peft.config.save_pretrained(folder)
    save_file(dict(peft.tensors), folder / "adapter_model.safetensors", metadata={"format": "pt"})


def _write_model(folder: Path, context: RunContext, module: Any) -> None:
    """The model's weights, and the base's tokenizer, processor and licence beside them."""
    from harness.models.loading import quiet_loading

    with quiet_loading():
        module.save_pretrained(folder)
    for file in context.settings.model.iterdir():
        if file.is_file() and not file.name.endswith(NOT_COPIED) and not (folder / file.name).exists():
            shutil.copy2(file, folder / file.name)
    _remove_paths(folder, _base_name(context.settings.model))


def _remove_paths(folder: Path, base: str) -> None:
    """Name the base where a configuration names the folder that a tokenizer or a model was once loaded from."""
    for file in folder.glob("*config.json"):
        values = json.loads(file.read_text("utf-8"))
        places = [key for key in LOADED_FROM if Path(str(values.get(key, ""))).is_absolute()]
        if places:
            content = values | dict.fromkeys(places, base)
            file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _load_base(context: RunContext, folder: Path, weights: Mapping[str, torch.Tensor]) -> Any:
    """The model in a folder, by transformers alone, with these weights in place of its own."""
    import torch
    from transformers import AutoModelForImageTextToText

    from harness.models.loading import quiet_loading

    with quiet_loading():
        module: Any = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=context.model.module.dtype, use_safetensors=True, local_files_only=True
        )
    state = module.state_dict()
    with torch.no_grad():
        for name, value in weights.items():
            state[name].copy_(value)
    return module.to(context.device).eval()


def _load_adapter(module: Any, folder: Path) -> Any:
    """The model with an adapter, by PEFT alone."""
    from peft import PeftModel

    from harness.models.loading import quiet_loading

    with quiet_loading():
        return PeftModel.from_pretrained(module, folder).eval()


def _compare(
    context: RunContext,
    folder: Path,
    form: Form,
    samples: list[Conversation],
    expected: list[torch.Tensor],
    *,
    exact: bool,
) -> float:
    """Load what was written by PEFT and transformers alone; returns the largest difference of a logit.

    Raises:
        IntegrityError: It is too large.
    """
    module = _load_base(context, _base_of(context, folder, form), {})
    if context.cache_inputs.precision == "nf4":
        from harness.models.quantization import quantize_linears

        quantize_linears(module, context.model.linear_targets, context.device)
    if form != "merged":
        module = _load_adapter(module, folder / ADAPTER_FOLDER if form == "without-projector" else folder)
    found = [_logits(module, batch) for batch in _batches(context, samples)]
    differences = [float((one - other).abs().max()) for one, other in zip(found, expected, strict=True)]
    largest, scale = max(differences), max(float(one.abs().max()) for one in expected)
    allowed = 0.0 if exact and context.cache_inputs.device == "cpu" else TOLERANCE * scale
    if not largest <= allowed:
        raise IntegrityError(
            f"loaded back, its logits differ by up to {largest:.3g} from the run's",
            location=str(folder.name),
            hint="report this with the name of the method; nothing was written",
        )
    return largest


def _base_of(context: RunContext, folder: Path, form: Form) -> Path:
    if form == "merged":
        return folder
    return folder / BASE_FOLDER if form == "without-projector" else context.settings.model


def _samples(knowledge: tuple[KnowledgeItem, ...] | list[KnowledgeItem]) -> list[Conversation]:
    """A text, a picture with a text, and several pictures."""
    from benchmarks.records import IMAGE

    items = list(knowledge[:3])
    pictures = tuple(item.picture for item in items)
    answer = Turn("assistant", items[0].text)
    return [
        Conversation("text", (Turn("user", f"What do you know about {items[0].name}?"), answer), ()),
        Conversation("picture", (Turn("user", f"{IMAGE}\nWhat is this?"), answer), pictures[:1]),
        Conversation("pictures", (Turn("user", f"{IMAGE}\n" * len(pictures) + "What are these?"), answer), pictures),
    ]


def _batches(context: RunContext, samples: list[Conversation]) -> Iterator[dict[str, torch.Tensor]]:
    """Each sample as the arguments of the model's own ``forward``."""
    for sample in samples:
        batch = context.model.training_batch([sample])
        yield {name: value for name, value in batch.items() if name != "labels"}


def _logits(module: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """(tokens, vocabulary) of the model's own forward pass."""
    import torch

    with torch.inference_mode():
        logits: torch.Tensor = module(**batch, use_cache=False).logits[0].float().cpu()
    return logits
