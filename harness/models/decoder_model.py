"""The fast engine: it calls the decoder itself, on embeddings in which each picture's features are in place.

It encodes each picture once, prefills a prompt prefix that several rows share once, and computes logits only where they
are needed. It is right for an architecture whose own ``forward`` does nothing else, which a test must show.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from benchmarks.errors import UserError
from benchmarks.records import IMAGE, Conversation, Picture
from harness.models.base import IGNORE_INDEX, Batch, Dialogue, LanguageVisionModel, configuration_digest
from harness.models.chat_template import ChatEncoder
from harness.models.greedy import PrefixCache, default_position_ids, greedy_decode, prefill, supports_prefix_cache
from harness.models.loading import folder_digest, open_folder, read_tokenizer, weights_digest
from harness.models.prefix_sharing import plan_prefixes
from harness.models.vision import AS_PUBLISHED, PictureOptions, TensorCache, VisionEncoder

VISION_CACHE_BYTES = 512 << 20
"""Size of the vision tower's outputs that are kept in main memory."""


class DecoderModel(LanguageVisionModel):
    """A model whose decoder is called directly; there is a subclass for each architecture.

    Args:
        module: The model, frozen.
        tokenizer: With the chat template to use.
        image_processor: One of those that work without torchvision.
        config_digest: Digest of everything that determines the model's answers, apart from its weights.
        device: Where the module is.
    """

    projector: str
    linear_targets: str = (
        r"(.*\.)?language_model\.(.*\.)?layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
    )
    towers: frozenset[str] = frozenset({"vision_tower", "visual"})
    vision_encoder_class: ClassVar[type[VisionEncoder]]
    vision_encoder: VisionEncoder

    def __init__(
        self, module: Any, tokenizer: Any, image_processor: Any, config_digest: str, device: torch.device
    ) -> None:
        super().__init__(module, config_digest, device)
        self._tokenizer, self._image_processor = tokenizer, image_processor
        self.vision_encoder = self.vision_encoder_class(module.config, image_processor, module.dtype)
        self._chat_encoder = self._training_encoder = self.chat_encoder()
        self._vision_cache = TensorCache(VISION_CACHE_BYTES)
        self._vision_cache_weights = ""
        """Digest of the vision tower's weights that the cache belongs to."""
        self._encoders: dict[PictureOptions, VisionEncoder] = {}
        eos = module.generation_config.eos_token_id
        stops = (*(eos if isinstance(eos, list) else [eos]), tokenizer.eos_token_id)
        self.stops = frozenset(int(token) for token in stops if token is not None)
        self._pad = int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)

    @classmethod
    def targets_of(cls, module: torch.nn.Module) -> str:
        """The pattern of the class."""
        return cls.linear_targets

    @classmethod
    @abstractmethod
    def image_processor(cls, folder: Path, options: PictureOptions) -> Any:
        """The image processor of a folder.

        Raises:
            UserError: The family does not support an option.
        """

    @classmethod
    @abstractmethod
    def check(cls, module: Any, tokenizer: Any, folder: Path) -> None:
        """Raise a UserError if the parts do not fit together."""

    @abstractmethod
    def chat_encoder(self, *, line_break: bool = False) -> ChatEncoder:
        """An encoder for this model's dialogues; ``line_break`` keeps the one after ``<image>`` in any family."""

    def position_ids(self, batch: Mapping[str, torch.Tensor], pictures: Sequence[Picture]) -> dict[str, torch.Tensor]:
        """``position_ids`` of a padded batch on the CPU, if they are not just each token's index."""
        return {}

    @classmethod
    def load(
        cls, folder: Path, device: torch.device, dtype: torch.dtype, options: PictureOptions = AS_PUBLISHED
    ) -> Self:
        """As in ``LanguageVisionModel``."""
        config_digest = configuration_digest(folder, options)
        module, tokenizer = open_folder(folder, cls.architecture, dtype)
        cls.check(module, tokenizer, folder)
        image_processor = cls._open_image_processor(folder, options)
        module.requires_grad_(False)
        model = cls(module.to(device).eval(), tokenizer, image_processor, config_digest, device)
        model.folder, model._encoders[options] = folder, model.vision_encoder
        if options.line_break:
            model._training_encoder = model.chat_encoder(line_break=True)
        return model

    @classmethod
    def without_weights(cls, module: Any, folder: Path, options: PictureOptions = AS_PUBLISHED) -> Self:
        """As in ``LanguageVisionModel``."""
        module.requires_grad_(False)
        processor = cls._open_image_processor(folder, options)
        model = cls(module, read_tokenizer(folder), processor, folder_digest(folder), torch.device("meta"))
        model.folder = folder
        return model

    @classmethod
    def _open_image_processor(cls, folder: Path, options: PictureOptions) -> Any:
        try:
            return cls.image_processor(folder, options)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"the image processor cannot be loaded ({error})",
                location=str(folder),
                hint="download preprocessor_config.json",
            ) from error

    def encoder_for(self, options: PictureOptions | None) -> VisionEncoder:
        """The encoder that prepares pictures in this way, over the same weights; for None the one of training.

        Raises:
            UserError: The family does not support an option.
        """
        if options is None:
            return self.vision_encoder
        if options not in self._encoders:
            if self.folder is None:
                raise ValueError("only a model that was loaded from a folder can prepare pictures in another way")
            processor = self._open_image_processor(self.folder, options)
            self._encoders[options] = self.vision_encoder_class(self.inner.config, processor, self.inner.dtype)
        return self._encoders[options]

    @contextmanager
    def pictures_as(self, options: PictureOptions | None) -> Iterator[None]:
        """Prepare pictures in this way within the block, with a cache of its own; for None as in training."""
        before = self.vision_encoder, self._vision_cache, self._vision_cache_weights
        encoder = self.encoder_for(options)
        if encoder is before[0]:
            yield
            return
        self.vision_encoder, self._vision_cache_weights = encoder, ""  # ``vision_cache`` then makes a new cache
        try:
            yield
        finally:
            self.vision_encoder, self._vision_cache, self._vision_cache_weights = before

    @property
    def decoder(self) -> torch.nn.Module:
        """The language model, with its ``layers``."""
        decoder: torch.nn.Module = self.inner.model.language_model
        return decoder

    @property
    def vision_is_trained(self) -> bool:
        """Whether any weight of the vision tower is trained."""
        modules = self.vision_encoder.vision_modules(self.inner)
        return any(weight.requires_grad for module in modules for weight in module.parameters())

    def vision_cache(self) -> TensorCache:
        """The vision tower's outputs by the sha256 of the picture; a new cache if the tower's weights have changed.

        Valid until these weights change; call this again after they may have changed.
        """
        weights = "".join(map(weights_digest, self.vision_encoder.vision_modules(self.inner)))
        if weights != self._vision_cache_weights:
            self._vision_cache, self._vision_cache_weights = TensorCache(VISION_CACHE_BYTES), weights
        return self._vision_cache

    def training_batch(self, conversations: Sequence[Conversation], cache: TensorCache | None = None) -> Batch:
        """Right-padded ``input_ids``, ``attention_mask``, ``labels`` (batch, tokens) and the pictures.

        Labels are the answers with the token that ends them, and -100 everywhere else. The pictures are what the
        model's ``forward`` takes; with a ``cache``, ``encoded`` and ``encoded_rows`` from
        ``VisionEncoder.cached_features``, so that no gradient reaches the tower.
        """
        encoded = [self.encode(sample) for sample in conversations]
        pictures = [picture for sample in conversations for picture in sample.pictures]
        batch = self._batch([ids for ids, _ in encoded], pictures, cache, left=False)
        labels = torch.full(batch["input_ids"].shape, IGNORE_INDEX)
        for row, (_, row_labels) in enumerate(encoded):
            labels[row, : len(row_labels)] = torch.tensor(row_labels)
        return Batch({**batch, "labels": labels.to(self.device)}, [sample.id for sample in conversations])

    def encode(self, sample: Conversation) -> tuple[list[int], list[int]]:
        """Token ids and labels of a conversation, as in training."""
        ids: list[int] = []
        labels: list[int] = []
        sizes = [self.vision_encoder.tokens(picture) for picture in sample.pictures]
        for turn, segment in enumerate(self._training_encoder.segments([turn.text for turn in sample.turns], sizes)):
            ids += segment
            supervised = self._answer_length(segment) if turn % 2 else 0
            labels += segment[:supervised] + [IGNORE_INDEX] * (len(segment) - supervised)
        return ids, labels

    def prompt_batch(self, conversations: Sequence[Conversation]) -> Batch:
        """Right-padded first user turns without answers, for calibration."""
        rows: list[list[int]] = []
        pictures: list[Picture] = []
        for sample in conversations:
            first = sample.turns[0].text
            first_pictures = sample.pictures[: first.count(IMAGE)]
            rows += self._segments([first], first_pictures)
            pictures += first_pictures
        return self._batch(rows, pictures, None, left=False)

    def generation_batch(
        self, dialogues: Sequence[Dialogue], cache: TensorCache | None = None, templates: Sequence[str] = ()
    ) -> Batch:
        """Left-padded prompts, each in its template (``Question.template``); pictures are as in ``training_batch``."""
        rows = [
            self._chat_encoder.prompt(texts, [self.vision_encoder.tokens(picture) for picture in pictures], template)
            for (texts, pictures), template in zip(dialogues, templates or [""] * len(dialogues), strict=True)
        ]
        return self._batch(rows, [picture for _, pictures in dialogues for picture in pictures], cache, left=True)

    def prompt_length(self, texts: Sequence[str], pictures: Sequence[Picture], template: str = "") -> int:
        """Number of tokens of a prompt or conversation, for sorting; a damaged picture counts as one."""
        sizes = []
        for picture in pictures[: sum(text.count(IMAGE) for text in texts[::2])]:
            try:
                sizes.append(self.vision_encoder.tokens(picture))
            except UserError:  # reported when the question is asked
                sizes.append(1)
        return len(self._chat_encoder.prompt(texts, sizes, template))

    def picture_tokens(self, picture: Picture) -> int:
        """As in ``LanguageVisionModel``."""
        return self.vision_encoder.tokens(picture)

    def picture_features(self, pictures: Sequence[Picture]) -> torch.Tensor:
        """As in ``LanguageVisionModel``."""
        encoded = self.vision_encoder.encode(self.inner, pictures)
        return torch.stack([tokens.float().mean(0).cpu() for tokens in encoded]).clone()

    def supervised(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (n, vocabulary) float32 and targets (n,) at the n supervised positions only."""
        module, targets = self.inner, batch["labels"][:, 1:]
        hidden = self.decoder(
            inputs_embeds=self.input_embeddings(batch),
            attention_mask=batch["attention_mask"],
            position_ids=batch.get("position_ids"),
            use_cache=False,
        ).last_hidden_state[:, :-1]
        chosen = targets != IGNORE_INDEX
        return module.lm_head(hidden[chosen]).float(), targets[chosen]

    @torch.inference_mode()
    def generate(
        self,
        batch: Batch,
        max_new_tokens: int | Sequence[int],
        prefix: PrefixCache | None = None,
        repetition_penalties: Sequence[float | None] | None = None,
    ) -> list[tuple[str, int, bool]]:
        """Greedy continuation of each row: text, number of new tokens, whether it was cut at the limit.

        Of several tokens with exactly the same logit the one with the smallest id is taken. The repetition penalty is
        applied to the tokens of the prompt and the answer.

        Args:
            batch: From ``generation_batch``.
            max_new_tokens: One limit for all, or one for each row.
            prefix: Cache of earlier turns of the same rows, which are not processed again; extended by this batch.
            repetition_penalties: One for each row; None for that of the model's ``generation_config``.
        """
        rows = len(batch["input_ids"])
        limits = [max_new_tokens] * rows if isinstance(max_new_tokens, int) else list(max_new_tokens)
        module, embeddings, mask = self.inner, self.input_embeddings(batch), batch["attention_mask"]
        positions = batch["position_ids"] if "position_ids" in batch else default_position_ids(mask)
        decoder, usable = self.decoder, self._usable_prefix(batch, embeddings, positions, prefix)
        keep_prefix = prefix is not None and supports_prefix_cache(decoder)
        prompts = _unpad(batch["input_ids"], mask)
        penalties = self.penalties(repetition_penalties or [None] * rows)
        results = greedy_decode(
            decoder,
            module.lm_head,
            embeddings,
            mask,
            positions,
            limits,
            self.stops,
            usable,
            keep_prefix=keep_prefix,
            repetition_penalty=(penalties, prompts) if any(each != 1.0 for each in penalties) else None,
        )
        if prefix is not None and keep_prefix:
            prefix.layers, prefix.mask, prefix.ids = usable.layers, usable.mask, prompts
        texts = self.answer_texts([ids for ids, _ in results])
        return [(text, len(ids), not ended) for text, (ids, ended) in zip(texts, results, strict=True)]

    def input_embeddings(self, batch: Batch) -> torch.Tensor:
        """(batch, tokens, hidden): the decoder's input, with the pictures' features at the image tokens."""
        ids = batch["input_ids"]
        embeddings: torch.Tensor = self.inner.get_input_embeddings()(ids)
        if "pixel_values" in batch:
            features = self.vision_encoder.features(self.inner, batch)
        elif "encoded" in batch:
            features = self.vision_encoder.project(self.inner, batch["encoded"])[batch["encoded_rows"]]
        else:
            return embeddings
        return self.vision_encoder.scatter_features(embeddings, ids == self._chat_encoder.image_id, features)

    def _usable_prefix(
        self, batch: Batch, embeddings: torch.Tensor, positions: torch.Tensor, prefix: PrefixCache | None
    ) -> PrefixCache:
        """The cache of earlier turns if the rows begin with them, otherwise one of prefixes that several rows share."""
        if prefix is not None and prefix.layers:
            rows = _unpad(batch["input_ids"], batch["attention_mask"])
            if all(len(a) < len(b) and b[: len(a)] == a for a, b in zip(prefix.ids, rows, strict=True)):
                return prefix
        decoder, ids, mask = self.decoder, batch["input_ids"], batch["attention_mask"]
        if "encoded_rows" not in batch or not supports_prefix_cache(decoder):
            return PrefixCache()
        # Each image token gets the (negative) number of its feature, so that equal rows are equal inputs.
        inputs = ids.masked_scatter(ids == self._chat_encoder.image_id, -1 - batch["encoded_rows"])
        plan = plan_prefixes(_unpad(inputs, mask))
        if plan is None:
            return PrefixCache()
        lengths = torch.tensor(plan.lengths, device=ids.device)
        owners = torch.tensor(plan.owners, device=ids.device)
        columns = torch.arange(int(lengths.max()), device=ids.device)
        index = ((mask.shape[1] - mask[owners].sum(-1))[:, None] + columns).clamp(max=mask.shape[1] - 1)
        owner_embeddings, owner_positions = embeddings[owners[:, None], index], positions[..., owners[:, None], index]
        owner_mask = (columns < lengths[:, None]).to(mask.dtype)
        cache = prefill(decoder, owner_embeddings, owner_mask, owner_positions, PrefixCache())[2]
        shared = PrefixCache([(layer.keys, layer.values) for layer in cache.layers], owner_mask, [[] for _ in owners])
        shared.select_rows(plan.groups)
        return shared

    def _segments(self, texts: Sequence[str], pictures: Sequence[Picture]) -> list[list[int]]:
        return self._chat_encoder.segments(texts, [self.vision_encoder.tokens(picture) for picture in pictures])

    def _answer_length(self, segment: Sequence[int]) -> int:
        """Length of the answer with the token that ends it; a template may add more to an assistant's segment."""
        ends = [index for index, token in enumerate(segment) if token in self.stops]
        return ends[-1] + 1 if ends else len(segment)

    def _batch(
        self,
        rows: Sequence[Sequence[int]],
        pictures: Sequence[Picture],
        cache: TensorCache | None,
        *,
        left: bool,
    ) -> Batch:
        """Padded rows with their pictures."""
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self._pad)
        mask = torch.zeros_like(ids)
        for row, tokens in enumerate(rows):
            columns = slice(width - len(tokens), width) if left else slice(0, len(tokens))
            ids[row, columns] = torch.tensor(tokens)
            mask[row, columns] = 1
        batch = {"input_ids": ids, "attention_mask": mask}
        batch |= self.position_ids(batch, pictures)
        if cache is None or not pictures:
            batch |= self.vision_encoder.pixel_values(pictures)
        else:
            batch |= self.vision_encoder.cached_features(self.inner, pictures, cache)
        return Batch(batch).to(self.device)


def _unpad(ids: torch.Tensor, mask: torch.Tensor) -> list[list[int]]:
    """The ids of each left-padded row, without padding."""
    lengths = mask.sum(-1).tolist()
    return [row[len(row) - length :] for row, length in zip(ids.tolist(), lengths, strict=True)]
