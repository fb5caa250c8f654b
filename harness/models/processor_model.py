"""The generic family: any image-text model of transformers, by its own processor, ``forward`` and ``generate``.

It knows nothing of an architecture, so it is right for all that keep to transformers' conventions, and slower than the
families that are made for one: each picture goes through the encoder whenever it is shown.
"""

from __future__ import annotations

import copy
import inspect
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image

from benchmarks.errors import UserError
from benchmarks.records import IMAGE, Conversation, Picture
from harness.models.answer_tokens import ImagesOnce, first_tokens
from harness.models.base import IGNORE_INDEX, Batch, Dialogue, LanguageVisionModel, configuration_digest
from harness.models.chat_template import no_template
from harness.models.greedy import PrefixCache
from harness.models.loading import folder_digest, open_folder, read_config, read_tokenizer
from harness.models.processor_chat import ProcessorChat, Spans
from harness.models.processors import open_processor
from harness.models.row_limits import RowLimits, RowRepetitionPenalty
from harness.models.stopped_forward import inputs_recorded
from harness.models.structure import ModelStructure, find_structure
from harness.models.vision import AS_PUBLISHED, PictureOptions, TensorCache

CACHED_ROWS = 100_000
"""Conversations whose supervised tokens are remembered."""


@dataclass(frozen=True)
class Row:
    """One row of a batch, as the processor takes it.

    Attributes:
        text: By the chat template, with a token in each picture's place.
        pictures: In order.
        answers: Where the answers to learn are in ``text``, without the tokens that end them.
        suffix: What is learned after the text, if the processor takes it apart.
    """

    text: str
    pictures: tuple[Picture, ...]
    answers: Spans = ()
    suffix: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for equal content."""
        return self.text, self.suffix, self.answers, tuple(picture.sha256 for picture in self.pictures)


class ProcessorModel(LanguageVisionModel):
    """A model that is called as its documentation says; made by ``load``.

    Args:
        module: The model, frozen.
        processor: Of transformers, for texts and pictures.
        config_digest: Digest of everything that determines the model's answers, apart from its weights.
        device: Where the module is.
        line_break: Whether training keeps the line break after ``<image>`` (``PictureOptions``).
    """

    def __init__(
        self, module: Any, processor: Any, config_digest: str, device: torch.device, *, line_break: bool = False
    ) -> None:
        super().__init__(module, config_digest, device)
        self._structure = find_structure(module)
        self._processor = processor
        self._tokenizer = processor.tokenizer
        eos = module.generation_config.eos_token_id
        stops = (*(eos if isinstance(eos, list) else [eos]), self._tokenizer.eos_token_id)
        self.stops = frozenset(int(token) for token in stops if token is not None)
        if not self.stops:
            raise UserError("no token ends an answer", location="generation_config.json", hint="set eos_token_id in it")
        self._pad = int(next(i for i in (self._tokenizer.pad_token_id, *sorted(self.stops)) if i is not None))
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.convert_ids_to_tokens(self._pad)
        self._chat, self._training_chat = self.open_chat(processor), self.open_chat(processor, line_break=line_break)
        self._accepted = inspect.signature(type(module).forward).parameters.keys()
        self._processors: dict[PictureOptions, Any] = {}
        self._labels: dict[tuple[object, ...], tuple[list[int], list[int]]] = {}
        self._picture_tokens = lru_cache(maxsize=100_000)(self._count_picture_tokens)

    @classmethod
    def load(
        cls, folder: Path, device: torch.device, dtype: torch.dtype, options: PictureOptions = AS_PUBLISHED
    ) -> Self:
        """As in ``LanguageVisionModel``."""
        config_digest = configuration_digest(folder, options)
        architecture = cls.architecture or str(read_config(folder)["architectures"][0])
        module, tokenizer = open_folder(folder, architecture, dtype)
        processor = open_processor(folder, tokenizer, options)
        module.requires_grad_(False)
        model = cls(module.to(device).eval(), processor, config_digest, device, line_break=options.line_break)
        model.folder, model._processors[options] = folder, processor
        return model

    @classmethod
    def without_weights(cls, module: Any, folder: Path, options: PictureOptions = AS_PUBLISHED) -> Self:
        """As in ``LanguageVisionModel``."""
        module.requires_grad_(False)
        processor = open_processor(folder, read_tokenizer(folder), options)
        model = cls(module, processor, folder_digest(folder), torch.device("meta"), line_break=options.line_break)
        model.folder = folder
        return model

    @classmethod
    def targets_of(cls, module: torch.nn.Module) -> str:
        """Every linear layer of the decoder's layers, found by structure."""
        return find_structure(module).complete_targets()

    @property
    def structure(self) -> ModelStructure:
        """The parts of the model, by name."""
        return self._structure

    @property
    def linear_targets(self) -> str:
        """As in ``LanguageVisionModel``."""
        return self._structure.complete_targets()

    @property
    def projector(self) -> str:
        """As in ``LanguageVisionModel``."""
        return self._structure.projector

    @property
    def towers(self) -> frozenset[str]:
        """As in ``LanguageVisionModel``."""
        return self._structure.towers

    @property
    def decoder(self) -> torch.nn.Module:
        """The language model, with its ``layers``."""
        decoder: torch.nn.Module = self.inner.get_submodule(self._structure.decoder)
        return decoder

    def open_chat(self, processor: Any, *, line_break: bool = False) -> ProcessorChat:
        """The chat template of a processor."""
        return ProcessorChat(processor, sorted(self.stops), line_break=line_break)

    def encoder_for(self, options: PictureOptions | None) -> object:
        """The processor that prepares pictures in this way; for None the one of training."""
        if options is None:
            return self._processor
        if options not in self._processors:
            if self.folder is None:
                raise ValueError("only a model that was loaded from a folder can prepare pictures in another way")
            self._processors[options] = open_processor(self.folder, self._tokenizer, options)
        return self._processors[options]

    @contextmanager
    def pictures_as(self, options: PictureOptions | None) -> Iterator[None]:
        """Prepare pictures in this way within the block; for None as in training."""
        before = self._processor, self._picture_tokens
        self._processor = self.encoder_for(options)
        if self._processor is not before[0]:
            self._picture_tokens = lru_cache(maxsize=100_000)(self._count_picture_tokens)
        try:
            yield
        finally:
            self._processor, self._picture_tokens = before

    def vision_cache(self) -> TensorCache:
        """An empty cache: this family keeps nothing of a picture."""
        return TensorCache()

    def training_rows(self, sample: Conversation) -> list[Row]:
        """The rows of a conversation: one, with all its answers."""
        text, answers = self._training_chat.dialogue([turn.text for turn in sample.turns])
        return [Row(text, sample.pictures, answers)]

    def prompt_row(self, texts: Sequence[str], pictures: Sequence[Picture]) -> Row:
        """The row of a dialogue that the model continues."""
        return Row(self._chat.prompt(texts), tuple(pictures))

    def training_batch(self, conversations: Sequence[Conversation], cache: TensorCache | None = None) -> Batch:
        """As in ``LanguageVisionModel``; nothing is cached.

        Raises:
            UserError: A conversation is encoded otherwise in a batch than alone.
        """
        named = [(sample.id, row) for sample in conversations for row in self.training_rows(sample)]
        rows = [row for _, row in named]
        batch = self.process(rows, left=False)
        labels = torch.full(batch["input_ids"].shape, IGNORE_INDEX)
        encoded = batch["input_ids"].tolist()
        for number, row in enumerate(rows):
            ids, own = self._supervision(row)
            if encoded[number][: len(ids)] != ids:
                raise UserError(
                    "the processor encodes a conversation otherwise in a batch than alone",
                    location=type(self._processor).__name__,
                    hint="train with batches of one (training.micro_batch=1)",
                )
            labels[number, : len(own)] = torch.tensor(own)
        return Batch({**batch, "labels": labels.to(self.device)}, [name for name, _ in named])

    def encode(self, sample: Conversation) -> tuple[list[int], list[int]]:
        """Token ids and labels of a conversation, as in training; those of its rows one after the other."""
        parts = [self._supervision(row) for row in self.training_rows(sample)]
        return [token for ids, _ in parts for token in ids], [label for _, labels in parts for label in labels]

    def prompt_batch(self, conversations: Sequence[Conversation]) -> Batch:
        """As in ``LanguageVisionModel``."""
        firsts = [(sample.turns[0].text, sample.pictures) for sample in conversations]
        return self.process([self.prompt_row([text], shown[: text.count(IMAGE)]) for text, shown in firsts], left=False)

    def generation_batch(
        self, dialogues: Sequence[Dialogue], cache: TensorCache | None = None, templates: Sequence[str] = ()
    ) -> Batch:
        """As in ``LanguageVisionModel``; there are no templates but the model's own."""
        for template in filter(None, templates):
            raise no_template(template)
        return self.process([self.prompt_row(*dialogue) for dialogue in dialogues], left=True)

    def prompt_length(self, texts: Sequence[str], pictures: Sequence[Picture], template: str = "") -> int:
        """Number of tokens of the text and of the pictures, without what the processor puts around these."""
        if template:
            raise no_template(template)
        shown = pictures[: sum(text.count(IMAGE) for text in texts[::2])]
        length = len(self._tokenizer(self.prompt_row(texts, shown).text)["input_ids"])
        for picture in shown:
            try:
                length += self.picture_tokens(picture)
            except UserError:  # reported when the question is asked
                length += 1
        return length

    def picture_tokens(self, picture: Picture) -> int:
        """As in ``LanguageVisionModel``; 1 if the processor does not tell."""
        return self._picture_tokens(picture.size)

    def picture_features(self, pictures: Sequence[Picture]) -> torch.Tensor:
        """As in ``LanguageVisionModel``: the input of the projector, in a forward pass that ends there."""
        names = (name for name, _ in self.inner.named_modules() if name.split(".")[-1] == self.projector)
        projector = self.inner.get_submodule(next(names))
        vectors = []
        for picture in pictures:
            batch = self.process([self.prompt_row([IMAGE], [picture])], left=True)
            with inputs_recorded(projector) as seen:
                self.inner(**batch, use_cache=False)
            vectors.append(seen[0].float().flatten(0, -2).mean(0).cpu())
        return torch.stack(vectors)

    def supervised(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """As in ``LanguageVisionModel``."""
        targets = batch["labels"][:, 1:]
        chosen = targets != IGNORE_INDEX
        columns = chosen.any(0).nonzero().flatten()
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        if "logits_to_keep" in self._accepted:
            logits = self.inner(**inputs, use_cache=False, logits_to_keep=columns).logits
        else:
            logits = self.inner(**inputs, use_cache=False).logits[:, columns]
        return logits[chosen[:, columns]].float(), targets[chosen]

    @torch.inference_mode()
    def generate(
        self,
        batch: Batch,
        max_new_tokens: int | Sequence[int],
        prefix: PrefixCache | None = None,
        repetition_penalties: Sequence[float | None] | None = None,
    ) -> list[tuple[str, int, bool]]:
        """As in ``LanguageVisionModel``; ``prefix`` stays empty."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        rows, width = ids.shape
        limits = [max_new_tokens] * rows if isinstance(max_new_tokens, int) else list(max_new_tokens)
        penalties = self.penalties(repetition_penalties or [None] * rows)
        prompts = [row[kept].tolist() for row, kept in zip(ids.cpu(), mask.cpu().bool(), strict=True)]
        penalised = any(penalty != 1.0 for penalty in penalties)
        found = self.inner.generate(
            **batch,
            generation_config=self._decoding(max(limits)),
            logits_processor=[RowRepetitionPenalty(penalties, prompts, width)] if penalised else [],
            stopping_criteria=[RowLimits(limits, width)],
        )
        results = [self._cut(new[:limit]) for new, limit in zip(found[:, width:].tolist(), limits, strict=True)]
        texts = self.answer_texts([new for new, _ in results])
        return [(text, len(new), not ended) for text, (new, ended) in zip(texts, results, strict=True)]

    def _decoding(self, limit: int) -> Any:
        """The folder's settings, greedy."""
        settings = copy.deepcopy(self.inner.generation_config)
        settings.update(do_sample=False, num_beams=1, temperature=None, top_p=None, top_k=None, repetition_penalty=None)
        settings.update(max_length=None, max_new_tokens=limit, eos_token_id=sorted(self.stops), pad_token_id=self._pad)
        settings.update(return_dict_in_generate=False, use_cache=True)
        return settings

    def _cut(self, new: Sequence[int]) -> tuple[list[int], bool]:
        """A row's ids up to the token that ended it, and whether there is one."""
        end = next((place for place, token in enumerate(new) if token in self.stops), None)
        return (list(new), False) if end is None else (list(new[:end]), True)

    def process(self, rows: Sequence[Row], *, left: bool) -> Batch:
        """What the model's ``forward`` takes of these rows, padded on one side.

        Raises:
            UserError: The processor refuses a row.
        """
        dtype = self.inner.dtype
        tensors = {
            name: value.to(self.device, dtype) if value.is_floating_point() else value.to(self.device)
            for name, value in self._encode(rows, left=left).items()
            if name in self._accepted and name != "labels" and isinstance(value, torch.Tensor)
        }
        return Batch(tensors)

    def _encode(self, rows: Sequence[Row], *, left: bool) -> Any:
        """What the processor makes of these rows, on the CPU."""
        pictures = [[picture.pixels() for picture in row.pictures] for row in rows]
        bos = self._tokenizer.bos_token
        options: dict[str, Any] = {"padding": True, "padding_side": "left" if left else "right"}
        if bos is not None and rows[0].text.startswith(bos):  # as in the processors' own ``apply_chat_template``
            options["add_special_tokens"] = False
        if any(row.suffix for row in rows):
            options["suffix"] = [row.suffix for row in rows]
        try:
            return self._processor(
                text=[row.text for row in rows],
                images=pictures if any(pictures) else None,
                return_tensors="pt",
                **options,
            )
        except (ValueError, TypeError, IndexError) as error:
            raise UserError(
                f"the processor cannot encode it ({error})",
                location=type(self._processor).__name__,
                hint="give the numbers and sizes of pictures that the model takes",
            ) from error

    def labels(self, row: Row, ids: list[int]) -> list[int]:
        """The labels of a row whose ids, alone, are these: its answers, each with the token that ends it."""
        firsts = first_tokens(row.text, row.answers, ids, lambda text: self.ids(Row(text, row.pictures)))
        labels = [IGNORE_INDEX] * len(ids)
        for first in firsts:
            end = next((place for place in range(first, len(ids)) if ids[place] in self.stops), None)
            if end is None:
                raise UserError(
                    "no token ends an answer", location="chat template", hint="use another template (--plugin)"
                )
            labels[first : end + 1] = ids[first : end + 1]
        return labels

    def _supervision(self, row: Row) -> tuple[list[int], list[int]]:
        """Ids and labels of a row alone, remembered."""
        if row.key not in self._labels:
            if len(self._labels) >= CACHED_ROWS:
                self._labels.clear()
            with self._images_once():
                ids = self.ids(row)
                self._labels[row.key] = ids, self.labels(row, ids)
        return self._labels[row.key]

    def unexpanded_ids(self, texts: Sequence[str], pictures: Sequence[Picture]) -> list[int]:
        """The token ids of a prompt before the processor puts a picture's tokens in the place of its one."""
        text, bos = self.prompt_row(texts, pictures).text, self._tokenizer.bos_token
        special = bos is None or not text.startswith(bos)
        return [int(token) for token in self._tokenizer(text, add_special_tokens=special)["input_ids"]]

    def ids(self, row: Row) -> list[int]:
        """The token ids of a row alone."""
        ids: list[int] = self._encode([row], left=False)["input_ids"][0].tolist()
        return ids

    @contextmanager
    def _images_once(self) -> Iterator[None]:
        """Prepare the pictures of a row once within the block."""
        images = self._processor.image_processor
        self._processor.image_processor = ImagesOnce(images)
        try:
            yield
        finally:
            self._processor.image_processor = images

    def _count_picture_tokens(self, size: tuple[int, int]) -> int:
        """Number of tokens of a picture of this size; a blank one is tried if the processor does not tell."""
        count = getattr(self._processor, "_get_num_multimodal_tokens", None)
        try:
            counts = count(image_sizes=[(size[1], size[0])]) if count else None
        except (TypeError, AttributeError, KeyError):  # it expects other settings than the image processor has
            counts = None
        if counts is not None and counts["num_image_tokens"]:
            return int(counts["num_image_tokens"][0])
        blank = io.BytesIO()
        Image.new("RGB", size).save(blank, "PNG")
        row = self.prompt_row([IMAGE], [Picture(blank.getvalue())])
        return len(self.ids(row)) - len(self._tokenizer(row.text)["input_ids"])
