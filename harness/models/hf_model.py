"""What all supported architectures have in common: a tower, a projector and a decoder that reads what they make."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch

from benchmarks.errors import UserError
from benchmarks.records import IMAGE, Conversation, Picture
from harness.models.base import Batch, Dialogue, LanguageVisionModel
from harness.models.chat_template import ChatEncoder
from harness.models.greedy import PrefixCache, counted, greedy, read, supports_prefix_cache
from harness.models.loading import folder_digest, open_folder, weights_digest
from harness.models.pictures import TensorCache
from harness.models.prefix_sharing import plan
from harness.models.vision import AS_PUBLISHED, PictureOptions, VisionEncoder

NOTHING = -100
"""Label of a position where there is nothing to learn."""
REMEMBERED = 512 << 20
"""Bytes of the tower's outputs that are kept in main memory."""
SightT = TypeVar("SightT", bound=VisionEncoder)


class HFVisionLanguageModel(LanguageVisionModel, Generic[SightT]):
    """A Hugging Face model with its tokenizer and image processor; made by ``load``.

    Args:
        module: The model, frozen.
        tokenizer: With the chat template that is to be used.
        image_processor: One of those that need no torchvision.
        described: Digest of all that decides what the model says, beside its weights.
        device: Where the module is.
    """

    linear_targets: ClassVar[str] = (
        r"(.*\.)?language_model\.(.*\.)?layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
    )
    vision_encoder_class: ClassVar[type[VisionEncoder]]
    vision_encoder: SightT

    def __init__(self, module: Any, tokenizer: Any, image_processor: Any, described: str, device: torch.device) -> None:
        self.module, self.device = module, device
        self.base_parameters = tuple(module.parameters())
        self._tokenizer, self._image_processor, self._described = tokenizer, image_processor, described
        self.vision_encoder = self.vision_encoder_class(module.config, image_processor, module.dtype)  # type: ignore[assignment]
        self._encoder = self.encoder()
        self._memory, self._remembers = TensorCache(REMEMBERED), ""
        self._pad = int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)

    @classmethod
    @abstractmethod
    def image_processor(cls, folder: Path, options: PictureOptions) -> Any:
        """The image processor of a folder.

        Raises:
            UserError: An option is none of this family's.
        """

    @classmethod
    @abstractmethod
    def check(cls, module: Any, tokenizer: Any, folder: Path) -> None:
        """Refuse parts that do not fit together, with a UserError."""

    @abstractmethod
    def encoder(self) -> ChatEncoder:
        """How this model's dialogues are written."""

    def places(self, batch: Batch, pictures: Sequence[Picture]) -> Batch:
        """``position_ids`` of a padded batch on the CPU, where tokens are not just counted."""
        return {}

    @classmethod
    def load(
        cls,
        folder: Path,
        device: torch.device,
        dtype: torch.dtype,
        options: PictureOptions = AS_PUBLISHED,
    ) -> Self:
        """Load and check: safetensors only, no remote code, every weight present.

        Raises:
            UserError: The folder is incomplete, damaged or unsafe, or its parts do not fit together.
        """
        described = folder_digest(folder)
        if options != AS_PUBLISHED:
            described = hashlib.sha256(f"{described}{options}".encode()).hexdigest()
        module, tokenizer = open_folder(folder, cls.architecture, dtype)
        cls.check(module, tokenizer, folder)
        try:
            image_processor = cls.image_processor(folder, options)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"the image processor cannot be loaded ({error})",
                location=str(folder),
                hint="download preprocessor_config.json",
            ) from error
        module.requires_grad_(False)
        return cls(module.to(device).eval(), tokenizer, image_processor, described, device)

    def fingerprint(self) -> str:
        """Sha256 over all weights of the module as it stands, the tokenizer and the processor's settings."""
        return hashlib.sha256(f"{weights_digest(self.module)}{self._described}".encode()).hexdigest()

    @property
    def inner(self) -> Any:
        """The Hugging Face model itself, also where a method has wrapped it with PEFT."""
        unwrap = getattr(self.module, "get_base_model", None)
        return unwrap() if unwrap else self.module

    @property
    def decoder(self) -> Any:
        """The language model, with its ``layers``."""
        return self.inner.model.language_model

    @property
    def vision_is_trained(self) -> bool:
        """Whether any weight of the vision tower is trained."""
        return any(
            weight.requires_grad
            for part in self.vision_encoder.vision_modules(self.inner)
            for weight in part.parameters()
        )

    def memory(self) -> TensorCache:
        """What the vision tower has made of pictures, by their sha256; empty when its weights were others then."""
        weights = "".join(map(weights_digest, self.vision_encoder.vision_modules(self.inner)))
        if weights != self._remembers:
            self._memory, self._remembers = TensorCache(REMEMBERED), weights
        return self._memory

    def training_batch(self, conversations: Sequence[Conversation], memory: TensorCache | None = None) -> Batch:
        """Right-padded ``input_ids``, ``attention_mask``, ``labels`` (batch, tokens) and the pictures.

        Labels are the answers with the token that ends them; -100 stands everywhere else. The pictures are what the
        model's ``forward`` takes, or with a ``memory``, for a tower that is not trained, ``seen`` and ``order``.
        """
        encoded = [self.encode(sample) for sample in conversations]
        pictures = [picture for sample in conversations for picture in sample.pictures]
        batch = self._batch([ids for ids, _ in encoded], pictures, memory, left=False)
        labels = torch.full(batch["input_ids"].shape, NOTHING)
        for row, (_, wanted) in enumerate(encoded):
            labels[row, : len(wanted)] = torch.tensor(wanted)
        return {**batch, "labels": labels.to(self.device)}

    def encode(self, sample: Conversation) -> tuple[list[int], list[int]]:
        """Token ids and labels of a conversation."""
        ids: list[int] = []
        labels: list[int] = []
        for turn, segment in enumerate(self._segments([turn.text for turn in sample.turns], sample.pictures)):
            ids += segment
            learnt = self._answer_length(segment) if turn % 2 else 0
            labels += segment[:learnt] + [NOTHING] * (len(segment) - learnt)
        return ids, labels

    def prompt_batch(self, conversations: Sequence[Conversation]) -> Batch:
        """Right-padded first user turns without answers, as calibration sees them."""
        rows: list[list[int]] = []
        shown: list[Picture] = []
        for sample in conversations:
            first = sample.turns[0].text
            pictures = sample.pictures[: first.count(IMAGE)]
            rows += self._segments([first], pictures)
            shown += pictures
        return self._batch(rows, shown, None, left=False)

    def generation_batch(self, dialogues: Sequence[Dialogue], memory: TensorCache | None = None) -> Batch:
        """Left-padded prompts. A dialogue is (texts, pictures): user and assistant texts in turn, a user's last.

        The pictures are as in ``training_batch``.
        """
        rows = [[i for part in self._segments(texts, shown) for i in part] for texts, shown in dialogues]
        return self._batch(rows, [picture for _, shown in dialogues for picture in shown], memory, left=True)

    def prompt_length(self, texts: Sequence[str], pictures: Sequence[Picture]) -> int:
        """Number of tokens of one prompt or conversation, image tokens included; a damaged picture counts for one."""
        sizes = []
        for picture in pictures[: sum(text.count(IMAGE) for text in texts[::2])]:
            try:
                sizes.append(self.vision_encoder.tokens(picture))
            except UserError:  # whoever asks about it will be told
                sizes.append(1)
        return sum(map(len, self._encoder.segments(texts, sizes)))

    def supervised(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (n, vocabulary) float32 and targets (n,) at the n supervised positions alone."""
        module, targets = self.inner, batch["labels"][:, 1:]
        hidden = self.decoder(
            inputs_embeds=self.embedded(batch),
            attention_mask=batch["attention_mask"],
            position_ids=batch.get("position_ids"),
            use_cache=False,
        ).last_hidden_state[:, :-1]
        chosen = targets != NOTHING
        return module.lm_head(hidden[chosen]).float(), targets[chosen]

    @torch.inference_mode()
    def generate(
        self, batch: Batch, max_new_tokens: int | Sequence[int], past: PrefixCache | None = None
    ) -> list[tuple[str, int, bool]]:
        """Greedy continuation of each row: text, number of new tokens, whether it was cut at the limit.

        Of several tokens with exactly the same logit the one with the smallest id is taken. Tokens that were said or
        read are made less probable where the model's ``generation_config`` has a repetition penalty.

        Args:
            batch: As ``generation_batch`` gives it.
            max_new_tokens: One limit for all, or one for each row.
            past: What earlier turns of the same rows have read, if it is to be remembered; enlarged by this batch.
        """
        rows = len(batch["input_ids"])
        limits = [max_new_tokens] * rows if isinstance(max_new_tokens, int) else list(max_new_tokens)
        module, embeddings, mask = self.inner, self.embedded(batch), batch["attention_mask"]
        positions = batch["position_ids"] if "position_ids" in batch else counted(mask)
        decoder, known = self.decoder, self._known(batch, embeddings, positions, past)
        remember = past is not None and supports_prefix_cache(decoder)
        said = _unpadded(batch["input_ids"], mask)
        penalty = float(module.generation_config.repetition_penalty or 1.0)
        found = greedy(
            decoder, module.lm_head, embeddings, mask, positions, limits, self._stops, known,
            remember=remember, penalty=(penalty, said) if penalty != 1.0 else None,
        )  # fmt: skip
        if past is not None and remember:
            past.layers, past.mask, past.ids = known.layers, known.mask, said
        texts = self._tokenizer.batch_decode(
            [ids for ids, _ in found], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return [(text.strip(), len(ids), not ended) for text, (ids, ended) in zip(texts, found, strict=True)]

    def embedded(self, batch: Batch) -> torch.Tensor:
        """(batch, tokens, hidden): what the decoder reads, with the pictures in the places that are kept for them."""
        ids = batch["input_ids"]
        embeddings: torch.Tensor = self.inner.get_input_embeddings()(ids)
        if "pixel_values" in batch:
            features = self.vision_encoder.features(self.inner, batch)
        elif "seen" in batch:
            features = self.vision_encoder.project(self.inner, batch["seen"])[batch["order"]]
        else:
            return embeddings
        return self.vision_encoder.scatter_features(embeddings, ids == self._encoder.image_id, features)

    def _known(
        self, batch: Batch, embeddings: torch.Tensor, positions: torch.Tensor, past: PrefixCache | None
    ) -> PrefixCache:
        """What need not be read from the beginning: earlier turns, or what several rows begin with."""
        if past is not None and past.layers:
            now = _unpadded(batch["input_ids"], batch["attention_mask"])
            if all(len(a) < len(b) and b[: len(a)] == a for a, b in zip(past.ids, now, strict=True)):
                return past
        decoder, ids, mask = self.decoder, batch["input_ids"], batch["attention_mask"]
        if "order" not in batch or not supports_prefix_cache(decoder):
            return PrefixCache()
        told = ids.masked_scatter(ids == self._encoder.image_id, -1 - batch["order"])
        shared = plan(_unpadded(told, mask))
        if shared is None:
            return PrefixCache()
        lengths = torch.tensor(shared.lengths, device=ids.device)
        owners = torch.tensor(shared.owners, device=ids.device)
        columns = torch.arange(int(lengths.max()), device=ids.device)
        places = ((mask.shape[1] - mask[owners].sum(-1))[:, None] + columns).clamp(max=mask.shape[1] - 1)
        first, placed = embeddings[owners[:, None], places], positions[..., owners[:, None], places]
        begun = (columns < lengths[:, None]).to(mask.dtype)
        cache = read(decoder, first, begun, placed, PrefixCache())[2]
        made = PrefixCache([(layer.keys, layer.values) for layer in cache.layers], begun, [[] for _ in owners])
        made.keep(shared.kinds)
        return made

    @property
    def _stops(self) -> frozenset[int]:
        listed = self.inner.generation_config.eos_token_id
        more = listed if isinstance(listed, list) else [listed]
        return frozenset(int(i) for i in (*more, self._tokenizer.eos_token_id) if i is not None)

    def _segments(self, texts: Sequence[str], pictures: Sequence[Picture]) -> list[list[int]]:
        return self._encoder.segments(texts, [self.vision_encoder.tokens(picture) for picture in pictures])

    def _answer_length(self, segment: Sequence[int]) -> int:
        """How much of an assistant's segment is the answer with the token that ends it; a template may add to that."""
        ends = [place for place, token in enumerate(segment) if token in self._stops]
        return ends[-1] + 1 if ends else len(segment)

    def _batch(
        self,
        rows: Sequence[Sequence[int]],
        pictures: Sequence[Picture],
        memory: TensorCache | None,
        *,
        left: bool,
    ) -> Batch:
        """Padded rows with their pictures."""
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self._pad)
        mask = torch.zeros_like(ids)
        for row, tokens in enumerate(rows):
            place = slice(width - len(tokens), width) if left else slice(0, len(tokens))
            ids[row, place] = torch.tensor(tokens)
            mask[row, place] = 1
        batch = {"input_ids": ids, "attention_mask": mask}
        batch |= self.places(batch, pictures)
        if memory is None or not pictures:
            batch |= self.vision_encoder.pixel_values(pictures)
        else:
            batch |= self.vision_encoder.cached_features(self.inner, pictures, memory)
        return {key: tensor.to(self.device) for key, tensor in batch.items()}


def _unpadded(ids: torch.Tensor, mask: torch.Tensor) -> list[list[int]]:
    """The real ids of each row."""
    used = mask.sum(-1).tolist()
    return [row[len(row) - count :] for row, count in zip(ids.tolist(), used, strict=True)]
