"""LLaVA-1.5 and everything of its architecture, the miniature included."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from benchmarks.errors import UserError
from benchmarks.records import IMAGE, Conversation, Picture
from harness.models.base import Batch, Dialogue, LanguageVisionModel
from harness.models.dialogue import DialogueEncoder
from harness.models.greedy import Past, can_go_on, greedy, read
from harness.models.loading import check_folder, folder_digest, quiet_loading, weights_digest
from harness.models.pictures import TensorCache
from harness.models.prefixes import plan

NOTHING = -100
"""Label of a position where there is nothing to learn."""
TOWER = "clip_vision_model"
"""The tower that is supported: square pictures, a class token before the patches."""
TOGETHER = 8
"""Pictures in one pass of the tower when what it makes of them is remembered."""
REMEMBERED = 512 << 20
"""Bytes of the tower's outputs that are kept in main memory."""


class LlavaModel(LanguageVisionModel):
    """A ``LlavaForConditionalGeneration`` with its processor; made by ``load``."""

    architecture: ClassVar[str] = "LlavaForConditionalGeneration"
    linear_targets: ClassVar[str] = (
        r"(.*\.)?language_model\.(.*\.)?layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)"
    )
    projector: ClassVar[str] = "multi_modal_projector"

    def __init__(self, module: Any, tokenizer: Any, image_processor: Any, described: str, device: torch.device) -> None:
        self.module, self.device, self._dtype = module, device, module.dtype
        self._tokenizer, self._image_processor, self._described = tokenizer, image_processor, described
        config = module.config
        patches = (config.vision_config.image_size // config.vision_config.patch_size) ** 2
        self.image_tokens = patches + (config.vision_feature_select_strategy != "default")
        self._encoder = DialogueEncoder(tokenizer, self.image_tokens)
        self._pixels = TensorCache()
        self._memory, self._remembers = TensorCache(REMEMBERED), ""
        self._pad = int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)

    @classmethod
    def load(cls, folder: Path, device: torch.device, dtype: torch.dtype) -> LlavaModel:
        """Load and check: safetensors only, no remote code, every weight present.

        Raises:
            UserError: The folder is incomplete, damaged or unsafe, or its parts do not fit together.
        """
        from transformers import AutoTokenizer, LlavaForConditionalGeneration
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

        kind: Any = LlavaForConditionalGeneration
        check_folder(folder)
        described = folder_digest(folder)
        try:
            with quiet_loading():
                module, report = kind.from_pretrained(
                    folder, dtype=dtype, use_safetensors=True, local_files_only=True, output_loading_info=True
                )
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            image_processor = CLIPImageProcessorPil.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise UserError(
                f"the model cannot be loaded ({error})", where=str(folder), mend="download the model again"
            ) from error
        lacking = sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])
        if lacking:
            raise UserError(
                f"{len(lacking)} weights are missing or of another shape, the first is {lacking[0]}",
                where=str(folder),
                mend="download the model again",
            )
        tower = module.config.vision_config.model_type
        if tower != TOWER:
            raise UserError(
                f"its vision tower is a {tower}", where=str(folder / "config.json"), mend=f"give a model with a {TOWER}"
            )
        if tokenizer.convert_tokens_to_ids(IMAGE) != module.config.image_token_id:
            raise UserError(
                f"the tokenizer does not know {IMAGE} as the model does",
                where=str(folder / "tokenizer.json"),
                mend="take the tokenizer that belongs to the model",
            )
        module.requires_grad_(False)
        return cls(module.to(device).eval(), tokenizer, image_processor, described, device)

    def fingerprint(self) -> str:
        """Sha256 over all weights of the module as it stands, the tokenizer and the processor's settings."""
        return hashlib.sha256(f"{weights_digest(self.module)}{self._described}".encode()).hexdigest()

    @property
    def tower_trains(self) -> bool:
        """Whether any weight of the vision tower is trained."""
        return any(parameter.requires_grad for parameter in self._inner().model.vision_tower.parameters())

    def memory(self) -> TensorCache:
        """What the vision tower has made of pictures, by their sha256; empty when its weights were others then."""
        weights = weights_digest(self._inner().model.vision_tower)
        if weights != self._remembers:
            self._memory, self._remembers = TensorCache(REMEMBERED), weights
        return self._memory

    def training_batch(self, conversations: Sequence[Conversation], memory: TensorCache | None = None) -> Batch:
        """Right-padded ``input_ids``, ``attention_mask``, ``labels`` (batch, tokens) and the pictures.

        Labels are the answers with their ``</s>``; -100 stands everywhere else. The pictures are ``pixel_values``, or
        with a ``memory``, for a tower that is not trained, ``seen``: what the tower makes of the distinct ones, with
        their ``order``.
        """
        encoded = [self.encode(sample) for sample in conversations]
        batch = self._padded([ids for ids, _ in encoded], left=False)
        labels = torch.full_like(batch["input_ids"], NOTHING)
        for row, (_, wanted) in enumerate(encoded):
            labels[row, : len(wanted)] = torch.tensor(wanted)
        pictures = [picture for sample in conversations for picture in sample.pictures]
        return {**self._on_device({**batch, "labels": labels}), **self._shown(pictures, memory)}

    def encode(self, sample: Conversation) -> tuple[list[int], list[int]]:
        """Token ids and labels of a conversation."""
        ids: list[int] = []
        labels: list[int] = []
        for turn, segment in enumerate(self._encoder.segments([turn.text for turn in sample.turns])):
            ids += segment
            labels += segment if turn % 2 else [NOTHING] * len(segment)
        return ids, labels

    def prompt_batch(self, conversations: Sequence[Conversation]) -> Batch:
        """Right-padded first user turns without answers, as calibration sees them."""
        rows: list[list[int]] = []
        shown: list[Picture] = []
        for sample in conversations:
            first = sample.turns[0].text
            rows += self._encoder.segments([first])
            shown += sample.pictures[: first.count(IMAGE)]
        return self._on_device({**self._padded(rows, left=False), **self._pixel_values(shown)})

    def generation_batch(self, dialogues: Sequence[Dialogue], memory: TensorCache | None = None) -> Batch:
        """Left-padded prompts. A dialogue is (texts, pictures): user and assistant texts in turn, a user's last.

        The pictures are as in ``training_batch``.
        """
        rows = [[i for part in self._encoder.segments(texts) for i in part] for texts, _ in dialogues]
        pictures = [picture for _, shown in dialogues for picture in shown]
        return {**self._on_device(self._padded(rows, left=True)), **self._shown(pictures, memory)}

    def prompt_length(self, texts: Sequence[str], pictures: Sequence[Picture]) -> int:
        """Number of tokens of one prompt or conversation, image tokens included."""
        return sum(map(len, self._encoder.segments(texts)))

    def supervised(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (n, vocabulary) float32 and targets (n,) at the n supervised positions alone."""
        module, targets = self._inner(), batch["labels"][:, 1:]
        hidden = module.model.language_model(
            inputs_embeds=self._embedded(batch), attention_mask=batch["attention_mask"], use_cache=False
        ).last_hidden_state[:, :-1]
        chosen = targets != NOTHING
        return module.lm_head(hidden[chosen]).float(), targets[chosen]

    @torch.inference_mode()
    def generate(
        self, batch: Batch, max_new_tokens: int | Sequence[int], past: Past | None = None
    ) -> list[tuple[str, int, bool]]:
        """Greedy continuation of each row: text, number of new tokens, whether it was cut at the limit.

        Of several tokens with exactly the same logit the one with the smallest id is taken.

        Args:
            batch: As ``generation_batch`` gives it.
            max_new_tokens: One limit for all, or one for each row.
            past: What earlier turns of the same rows have read, if it is to be remembered; enlarged by this batch.
        """
        rows = len(batch["input_ids"])
        limits = [max_new_tokens] * rows if isinstance(max_new_tokens, int) else list(max_new_tokens)
        module, embeddings, mask = self._inner(), self._embedded(batch), batch["attention_mask"]
        decoder, known = module.model.language_model, self._known(batch, embeddings, past)
        remember = past is not None and can_go_on(decoder)
        found = greedy(decoder, module.lm_head, embeddings, mask, limits, self._stops, known, remember=remember)
        if past is not None and remember:
            past.layers, past.mask, past.ids = known.layers, known.mask, _unpadded(batch["input_ids"], mask)
        texts = self._tokenizer.batch_decode(
            [ids for ids, _ in found], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return [(text.strip(), len(ids), not ended) for text, (ids, ended) in zip(texts, found, strict=True)]

    def _known(self, batch: Batch, embeddings: torch.Tensor, past: Past | None) -> Past:
        """What need not be read from the beginning: earlier turns, or what several rows begin with."""
        if past is not None and past.layers:
            now = _unpadded(batch["input_ids"], batch["attention_mask"])
            if all(len(a) < len(b) and b[: len(a)] == a for a, b in zip(past.ids, now, strict=True)):
                return past
        decoder, ids, mask = self._inner().model.language_model, batch["input_ids"], batch["attention_mask"]
        if "order" not in batch or not can_go_on(decoder):
            return Past()
        told = ids.masked_scatter(
            ids == self._encoder.image_id, -1 - batch["order"].repeat_interleave(self.image_tokens)
        )
        shared = plan(_unpadded(told, mask))
        if shared is None:
            return Past()
        lengths = torch.tensor(shared.lengths, device=ids.device)
        owners = torch.tensor(shared.owners, device=ids.device)
        columns = torch.arange(int(lengths.max()), device=ids.device)
        places = (mask.shape[1] - mask[owners].sum(-1))[:, None] + columns
        first = embeddings[owners[:, None], places.clamp(max=mask.shape[1] - 1)]
        begun = (columns < lengths[:, None]).to(mask.dtype)
        cache = read(decoder, first, begun, Past())[2]
        made = Past([(layer.keys, layer.values) for layer in cache.layers], begun, [[] for _ in owners])
        made.keep(shared.kinds)
        return made

    @property
    def _stops(self) -> frozenset[int]:
        listed = self._inner().generation_config.eos_token_id
        more = listed if isinstance(listed, list) else [listed]
        return frozenset(int(i) for i in (*more, self._tokenizer.eos_token_id) if i is not None)

    def _inner(self) -> Any:
        """The Hugging Face model itself, also where a method has wrapped it with PEFT."""
        unwrap = getattr(self.module, "get_base_model", None)
        return unwrap() if unwrap else self.module

    def _embedded(self, batch: Batch) -> torch.Tensor:
        """(batch, tokens, hidden): what the decoder reads, with the pictures in the places that are kept for them."""
        module, ids = self._inner(), batch["input_ids"]
        embeddings: torch.Tensor = module.get_input_embeddings()(ids)
        seen = self._see(batch["pixel_values"]) if "pixel_values" in batch else batch.get("seen")
        if seen is None:
            return embeddings
        places = (ids == self._encoder.image_id).unsqueeze(-1)
        features = module.model.multi_modal_projector(seen).to(embeddings.dtype)
        if "order" in batch:
            features = features[batch["order"]]
        if int(places.sum()) != features.shape[0] * features.shape[1]:
            raise UserError(
                f"{int(places.sum())} places for pictures, but {features.shape[0]} pictures of {features.shape[1]}",
                where="batch",
                mend="give one picture for each marker",
            )
        return embeddings.masked_scatter(places, features)

    def _see(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(pictures, 3, height, width) -> (pictures, image tokens, hidden states of the tower)."""
        model = self._inner().model
        layers = model.config.vision_feature_layer
        first = int(model.config.vision_feature_select_strategy == "default")  # leave the class token out
        states = model.vision_tower(pixel_values, output_hidden_states=True, return_dict=True).hidden_states
        chosen = [states[layer][:, first:] for layer in ([layers] if isinstance(layers, int) else layers)]
        return torch.cat(chosen, dim=-1)

    def _shown(self, pictures: Sequence[Picture], memory: TensorCache | None) -> Batch:
        if memory is None or not pictures:
            return self._on_device(self._pixel_values(pictures))
        distinct = {picture.sha256: picture for picture in pictures}
        numbers = {name: number for number, name in enumerate(distinct)}
        order = torch.tensor([numbers[picture.sha256] for picture in pictures])
        return self._on_device({"seen": self._remembered(list(distinct.values()), memory), "order": order})

    @torch.no_grad()
    def _remembered(self, pictures: Sequence[Picture], memory: TensorCache) -> torch.Tensor:
        """What the tower makes of the distinct pictures in order, (pictures, image tokens, hidden), on the CPU.

        The tower always sees the same number of pictures, so that rounding does not depend on a picture's company.
        """
        known = {picture.sha256: memory.get(picture.sha256) for picture in pictures}
        new = [picture for picture in pictures if known[picture.sha256] is None]
        for start in range(0, len(new), TOGETHER):
            part = new[start : start + TOGETHER]
            pixels = self._processed(part)
            blank = pixels.new_zeros((TOGETHER - len(part), *pixels.shape[1:]))
            for picture, seen in zip(part, self._see(torch.cat([pixels, blank]).to(self.device)), strict=False):
                known[picture.sha256] = memory.put(picture.sha256, seen.to("cpu", copy=True))
        return torch.stack([seen for seen in known.values() if seen is not None])

    def _pixel_values(self, pictures: Sequence[Picture]) -> Batch:
        if not pictures:
            return {}
        known = {picture.sha256: self._pixels.get(picture.sha256) for picture in pictures}
        new = {picture.sha256: picture for picture in pictures if known[picture.sha256] is None}
        if new:
            for name, pixels in zip(new, self._processed(list(new.values())), strict=True):
                known[name] = self._pixels.put(name, pixels.clone())
        return {"pixel_values": torch.stack([seen for p in pictures if (seen := known[p.sha256]) is not None])}

    def _processed(self, pictures: Sequence[Picture]) -> torch.Tensor:
        """(pictures, 3, height, width) as the tower takes them."""
        shown = [picture.pixels() for picture in pictures]
        pixels = torch.as_tensor(self._image_processor(images=shown, return_tensors="pt")["pixel_values"])
        side = self._inner().config.vision_config.image_size
        if pixels.shape[-2:] != (side, side):
            raise UserError(
                f"it makes pictures of {tuple(pixels.shape[-2:])} pixels, but the model takes {side} x {side}",
                where="image processor",
                mend="take the processor that belongs to the model",
            )
        return pixels.to(self._dtype)

    def _padded(self, rows: Sequence[Sequence[int]], *, left: bool) -> Batch:
        width = max(map(len, rows))
        ids = torch.full((len(rows), width), self._pad)
        mask = torch.zeros_like(ids)
        for row, tokens in enumerate(rows):
            place = slice(width - len(tokens), width) if left else slice(0, len(tokens))
            ids[row, place] = torch.tensor(tokens)
            mask[row, place] = 1
        return {"input_ids": ids, "attention_mask": mask}

    def _on_device(self, batch: Batch) -> Batch:
        return {key: tensor.to(self.device) for key, tensor in batch.items()}


def _unpadded(ids: torch.Tensor, mask: torch.Tensor) -> list[list[int]]:
    """The real ids of each row."""
    used = mask.sum(-1).tolist()
    return [row[len(row) - count :] for row, count in zip(ids.tolist(), used, strict=True)]
