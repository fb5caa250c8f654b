"""From dialogues to what vLLM takes: token ids, and the embeddings of pictures that our own vision code has made.

vLLM's own tower is not used: it would prepare pictures in another way, and it does not have a trained projector.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch

from benchmarks.errors import UserError
from benchmarks.records import IMAGE, Picture
from harness.models.base import Batch, Dialogue, LanguageVisionModel
from harness.models.decoder_model import DecoderModel
from harness.models.loading import tensors_digest
from harness.models.processor_model import ProcessorModel
from harness.models.stopped_forward import inputs_recorded
from harness.models.vision import TensorCache

EMBEDDINGS, GRID = "embeddings", "image_grid_thw"
Grid = tuple[int, int, int]


@dataclass(frozen=True)
class ShownPicture:
    """A picture as the decoder reads it.

    Attributes:
        embeddings: (image tokens, hidden), projected.
        grid: Patches in time, height and width, where positions depend on them.
    """

    embeddings: torch.Tensor
    grid: Grid | None = None

    @property
    def name(self) -> str:
        """A digest of the content: it differs wherever the picture, its preparation or the projector does."""
        grid = {} if self.grid is None else {GRID: torch.tensor(self.grid)}
        return tensors_digest({EMBEDDINGS: self.embeddings, **grid})


@dataclass(frozen=True)
class ServedPrompt:
    """A prompt with one token in the place of each picture, and the pictures in order."""

    ids: list[int]
    pictures: list[ShownPicture]


def served_prompts(
    model: LanguageVisionModel, dialogues: Sequence[Dialogue], cache: TensorCache, templates: Sequence[str]
) -> list[ServedPrompt]:
    """The prompts of dialogues, each in its template.

    Raises:
        UserError: A prompt cannot be encoded, or an embedding is not finite.
    """
    batch = model.generation_batch(dialogues, cache, templates)
    pictures = [picture for _, shown in dialogues for picture in shown]
    embeddings = _embeddings(model, batch, pictures)
    if not all(bool(each.isfinite().all()) for each in embeddings):
        raise UserError("a picture's embeddings are not finite", location="answering", hint="check the weights")
    grids: Sequence[Grid | None] = [None] * len(pictures)
    if GRID in batch:
        grids = [(int(time), int(height), int(width)) for time, height, width in batch[GRID].tolist()]
    elif isinstance(model, DecoderModel):
        grids = [model.vision_encoder.grid(picture) for picture in pictures]
    shown = iter([ShownPicture(*pair) for pair in zip(embeddings, grids, strict=True)])
    rows = _rows(model, batch, dialogues)
    return [ServedPrompt(ids, [next(shown) for _ in parts]) for ids, (_, parts) in zip(rows, dialogues, strict=True)]


@torch.inference_mode()
def _embeddings(model: LanguageVisionModel, batch: Batch, pictures: Sequence[Picture]) -> list[torch.Tensor]:
    """The embeddings of each picture, on the CPU: the decoder's input at its image tokens."""
    if not pictures:
        return []
    if isinstance(model, DecoderModel):
        inputs = model.input_embeddings(batch)
    else:
        with inputs_recorded(model.decoder, "inputs_embeds") as seen:
            model.inner(**batch, use_cache=False)
        inputs = seen[0]
    sizes = [_size(model, picture) for picture in pictures]
    chosen = inputs[batch["input_ids"] == image_token(model)]
    if sum(sizes) != len(chosen):
        problem = f"{len(chosen)} image tokens, but pictures of {sum(sizes)}"
        raise UserError(problem, location="prompt", hint="use the built-in engine")
    return [part.to("cpu", copy=True) for part in torch.split(chosen, sizes)]


def _size(model: LanguageVisionModel, picture: Picture) -> int:
    """Number of image tokens of a picture; processors of the generic family do not always tell, so it is counted."""
    if isinstance(model, ProcessorModel):
        return model.ids(model.prompt_row([IMAGE], [picture])).count(image_token(model))
    return model.picture_tokens(picture)


def image_token(model: LanguageVisionModel) -> int:
    """The id of the token at a picture's places."""
    return int(model.inner.config.image_token_id)


def _rows(model: LanguageVisionModel, batch: Batch, dialogues: Sequence[Dialogue]) -> Iterator[list[int]]:
    """The ids of each prompt, as vLLM takes them."""
    if isinstance(model, ProcessorModel):
        yield from (model.unexpanded_ids(*dialogue) for dialogue in dialogues)
        return
    token = image_token(model)
    for row, mask, (_, shown) in zip(
        batch["input_ids"].tolist(), batch["attention_mask"].tolist(), dialogues, strict=True
    ):
        ids = [id for id, kept in zip(row, mask, strict=True) if kept]
        yield collapsed(ids, token, [model.picture_tokens(picture) for picture in shown])


def collapsed(ids: Sequence[int], token: int, sizes: Sequence[int]) -> list[int]:
    """The ids with one ``token`` in place of the ``sizes`` of each picture, which may follow each other directly."""
    left, result = iter(sizes), []
    for is_picture, run in groupby(ids, key=lambda id: id == token):
        part = list(run)
        if not is_picture:
            result += part
            continue
        rest = len(part)
        while rest > 0:
            rest -= next(left, rest + 1)
            result.append(token)
        if rest < 0:
            raise ValueError(f"{len(part)} image tokens in a row are not those of the next pictures")
    return result
