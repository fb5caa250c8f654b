"""Rows from elsewhere: an adapter in PEFT's format, a fine-tuned model of the base's architecture, or answers alone.

They are methods that train nothing. ``attach`` loads what a folder holds, and everything after it is as for other rows.
Of a file with answers nothing is loaded: the answers take the place of the model's.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.errors import UserError, first_line
from benchmarks.model_folder import file_digests
from methods.base import InjectableModel, InjectionMethod, KnowledgeItem, MethodSettings, Paper, Tensors, setting
from methods.full_ft import FullFT

if TYPE_CHECKING:
    import torch

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
NOT_WEIGHTS = frozenset({"README.md", "SHA256SUMS", "training_args.bin", "trainer_state.json", "optimizer.pt"})
"""Files in such folders that do not affect answers."""


@dataclasses.dataclass(frozen=True)
class ExternalSettings(MethodSettings):
    """Where the weights are. The training's own settings are not known."""

    data_settings: ClassVar[tuple[str, ...]] = ()
    data: str = setting("elsewhere", "the training data, which are not known")
    folder: str = setting("", "the folder with the weights")

    def cache_key(self) -> dict[str, Any]:
        """The content of the folder instead of its path."""
        return {"folder": folder_digest(Path(self.folder))}


class ExternalMethod(InjectionMethod, register=False):
    """What the two kinds of rows have in common."""

    interpretation = "trained elsewhere; its data, settings and costs are not known here"
    Settings = ExternalSettings
    settings: ExternalSettings
    trains = False
    place: ClassVar[str] = "folder"
    """The setting that says where the row is."""

    def check_data(self, knowledge: Sequence[KnowledgeItem], divided: Sequence[KnowledgeItem] = ()) -> None:
        """There is no training data to check; the folder is checked instead."""
        self.check_folder(self._folder)

    def check_folder(self, folder: Path) -> None:
        """Refuse a folder that cannot be loaded, before anything is computed.

        Raises:
            UserError: It is missing, incomplete, or holds pickled weights instead of safetensors.
        """
        raise NotImplementedError

    @property
    def _folder(self) -> Path:
        return Path(self.settings.folder)


class PeftFolder(ExternalMethod, register=False):
    """An adapter of any kind that PEFT loads into a model's layers: LoRA, DoRA, OFT, IA3 and others."""

    name = "peft-adapter"
    summary = "an adapter that was trained elsewhere, in PEFT's format"
    paper = Paper(
        "PEFT: State-of-the-art Parameter-Efficient Fine-Tuning methods", "https://github.com/huggingface/peft"
    )

    def check_folder(self, folder: Path) -> None:
        """Refuse a folder without PEFT's two files."""
        if not (folder / CONFIG).is_file():
            hint = "give a folder that PEFT's save_pretrained wrote"
            raise UserError(f"this is no adapter: {CONFIG} is missing", location=str(folder), hint=hint)
        if not (folder / WEIGHTS).is_file():
            pickled = sorted(path.name for path in folder.iterdir() if path.name.startswith("adapter_model."))
            problem = f"its weights are pickled ({pickled[0]})" if pickled else f"{WEIGHTS} is missing"
            hint = "save it with save_pretrained(..., safe_serialization=True)"
            raise UserError(problem, location=str(folder), hint=hint)
        self._read_config(folder)

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """Insert the adapter and load its weights from the folder."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            tensors = load_file(self._folder / WEIGHTS)
        except (SafetensorError, OSError) as error:
            hint = "copy the file again"
            raise UserError(f"it cannot be read ({error})", location=str(self._folder / WEIGHTS), hint=hint) from error
        self.restore(model, tensors)

    def export(self, model: InjectableModel) -> Tensors:
        """The adapter's tensors, by PEFT's names."""
        from peft.utils import get_peft_model_state_dict

        from methods.components.lora_layers import attached_tuner
        from methods.components.peft_adapter import BASE

        state = get_peft_model_state_dict(attached_tuner(model.module), save_embedding_layers=False)
        return {BASE + name: value.detach().to("cpu", copy=True).contiguous() for name, value in state.items()}

    def restore(self, model: InjectableModel, exported: Tensors) -> None:
        """Insert the adapter and load these weights.

        Raises:
            UserError: The adapter is for another model.
        """
        from methods.components.peft_adapter import load_peft

        try:
            load_peft(model, self._read_config(self._folder), exported)
        except UserError:
            raise
        except (ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:  # PEFT's for a misfit
            self.detach(model)
            raise UserError(
                f"it does not fit the base model ({first_line(error)})",
                location=str(self._folder),
                hint="give an adapter that was trained on this model",
            ) from error

    def _read_config(self, folder: Path) -> Any:
        """PEFT's configuration of the adapter."""
        from peft import PeftConfig
        from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

        path = folder / CONFIG
        try:
            fields = json.loads(path.read_text("utf-8"))
            config = PeftConfig.from_pretrained(str(folder))
        except (OSError, ValueError, TypeError, KeyError) as error:
            hint = "give a folder that this version of PEFT can read"
            raise UserError(f"it cannot be read ({first_line(error)})", location=str(path), hint=hint) from error
        if config.peft_type not in PEFT_TYPE_TO_TUNER_MAPPING or config.is_prompt_learning:
            kind = str(fields.get("peft_type"))
            hint = "give an adapter of the model's layers, such as LoRA, DoRA, OFT or IA3"
            raise UserError(f"adapters of type {kind} are not supported", location=str(path), hint=hint)
        config.inference_mode = True
        return config


class ModelFolder(FullFT, ExternalMethod, register=False):
    """A whole model of the base's architecture, such as a merged adapter: it is loaded where it differs."""

    name = "model-folder"
    summary = "a model of the same architecture that was trained elsewhere"
    paper = Paper("-", "https://huggingface.co/docs/transformers")
    Settings = ExternalSettings  # type: ignore[assignment]
    settings: ExternalSettings

    def check_folder(self, folder: Path) -> None:
        """Refuse a folder without a model, or with pickled weights."""
        if not (folder / "config.json").is_file():
            hint = "give a folder in Hugging Face layout; for an adapter use --adapter"
            raise UserError("this is no model: config.json is missing", location=str(folder), hint=hint)
        if not any(folder.glob("*.safetensors")):
            hint = "save it with save_pretrained(..., safe_serialization=True)"
            raise UserError("it has no weights as safetensors", location=str(folder), hint=hint)

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """Load every weight in which the folder's model differs from the base.

        Raises:
            UserError: It is of another architecture or size.
        """
        state = self._load_folder(model)
        self._copy_base(model)
        own = dict(model.module.named_parameters())
        wrong = sorted(own.keys() ^ state.keys())
        wrong += sorted(name for name in own.keys() & state.keys() if own[name].shape != state[name].shape)
        if wrong:
            self.detach(model)
            raise UserError(
                f"it is no model like the base: {len(wrong)} weights differ in name or shape, the first is {wrong[0]}",
                location=str(self._folder),
                hint="give a model that was fine-tuned from the base of this run",
            )
        self._load(model, {name: value for name, value in state.items() if not value.equal(own[name].detach().cpu())})

    def _load_folder(self, model: InjectableModel) -> dict[str, torch.Tensor]:
        """The folder's parameters by the names of the loaded model, in the base's data type."""
        from transformers import AutoModelForImageTextToText

        try:
            other: Any = AutoModelForImageTextToText.from_pretrained(
                self._folder, dtype=model.module.dtype, use_safetensors=True, local_files_only=True
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            problem = f"the model cannot be loaded ({first_line(error)})"
            raise UserError(
                problem, location=str(self._folder), hint="give a folder that transformers loads"
            ) from error
        return {name: value.detach() for name, value in other.named_parameters()}

    def _copied(self, model: InjectableModel) -> frozenset[str]:
        """Every parameter: the vision tower may have been trained, too."""
        return frozenset(name for name, _ in model.module.named_parameters())


@dataclasses.dataclass(frozen=True)
class AnswersSettings(MethodSettings):
    """Where the answers are."""

    data_settings: ClassVar[tuple[str, ...]] = ()
    data: str = setting("elsewhere", "the training data, which are not known")
    file: str = setting("", "the file with the answers")

    def cache_key(self) -> dict[str, Any]:
        """The content of the file instead of its path; empty without a file."""
        path = Path(self.file)
        return {"file": hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""}


class AnswersFile(ExternalMethod, register=False):
    """Answers that any engine or API gave to the questions of the run. No model is loaded, and none is asked."""

    name = "answers-file"
    summary = "answers that were given elsewhere"
    interpretation = "answered elsewhere; its model, data, settings and costs are not known here"
    paper = Paper("-", "https://jsonlines.org")
    Settings = AnswersSettings  # type: ignore[assignment]
    settings: AnswersSettings  # type: ignore[assignment]
    place = "file"

    def check_folder(self, folder: Path) -> None:
        """Refuse a path without a file; whether it answers the run's questions is checked when it is read."""
        if not folder.is_file():
            hint = "give a file with answers to the lines that `answers export` wrote"
            raise UserError("there is no such file", location=str(folder), hint=hint)

    @property
    def _folder(self) -> Path:
        return Path(self.settings.file)


EXTERNAL: Mapping[str, type[ExternalMethod]] = {"adapter": PeftFolder, "model": ModelFolder, "answers": AnswersFile}
"""The kinds of rows from elsewhere."""


def folder_digest(folder: Path) -> str:
    """SHA-256 of the files in a folder that may affect answers, by name and content; empty without a folder."""
    if not folder.is_dir():
        return ""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return _digest(folder, tuple((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files))


@cache
def _digest(folder: Path, _files: tuple[tuple[str, int, int], ...]) -> str:
    """The digest, computed once for each state of the folder: a model of 14 GB takes half a minute."""
    return hashlib.sha256(json.dumps(file_digests(folder, NOT_WEIGHTS)).encode()).hexdigest()
