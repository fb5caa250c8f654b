"""The second miniature: a Qwen2.5-VL with its own vision tower and the decoder of the first.

Its decoder starts from the first miniature's: Llama and Qwen2 differ only by the biases of q, k and v, which start at
zero, and by the positions of image tokens, which it learns in stages 2 and 3. So only the tower starts from scratch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from tokenizers import Tokenizer
from transformers import (
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from benchmarks.records import IMAGE
from harness.miniature.base import MiniArchitecture, load_saved
from harness.miniature.batches import IMAGE_SIDE, PATCH_SIDE, PATCHES, ChatFormat
from harness.miniature.llava import LlavaMiniArchitecture
from harness.miniature.llava import load_architecture as load_first
from harness.models.qwen2_5_vl import batch_window_attention

if TYPE_CHECKING:
    from harness.models.base import Batch

MERGE_SIZE = 2
"""An image token is made of MERGE_SIZE x MERGE_SIZE patches of the tower."""
TOWER_PATCH = PATCH_SIDE // MERGE_SIZE
RENAMED = {"<pad>": "<|endoftext|>", "<s>": "<|im_start|>", "</s>": "<|im_end|>", "<image>": "<|image_pad|>"}
"""The first miniature's control tokens under the names that they have in Qwen's tokenizer."""
ADDED_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|video_pad|>")
IMAGE_TOKENS = "<|vision_start|><|image_pad|><|vision_end|>"
CHAT_TEMPLATE = (
    "<|im_start|>{% for message in messages %}"
    "{% if message['role'] == 'user' %}<|user|>{% else %}{% endif %}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}" + IMAGE_TOKENS + "{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message['role'] == 'user' %}<|assistant|>{% else %}<|im_end|>{% endif %}"
    "{% endfor %}"
)


def new_tokenizer(base: Path) -> PreTrainedTokenizerFast:
    """The first miniature's tokenizer, in ``base``, with Qwen's control tokens: the same ids, and three more."""
    content = json.loads((base / "tokenizer.json").read_text("utf-8"))
    vocabulary = content["model"]["vocab"]
    for old, new in RENAMED.items():
        vocabulary[new] = vocabulary.pop(old)
    for token in content["added_tokens"]:
        token["content"] = RENAMED.get(token["content"], token["content"])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=Tokenizer.from_str(json.dumps(content)),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>", "<|image_pad|>", "<|user|>", "<|assistant|>", *ADDED_TOKENS],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        model_max_length=1024,
    )


def new_model(tokenizer: PreTrainedTokenizerFast, text: Any) -> Qwen2_5_VLForConditionalGeneration:
    """A model of about 5 million parameters with a decoder as large as that of ``text``; seed torch before."""
    ids = tokenizer.get_vocab()
    sizes = "hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads"
    copied = f"{sizes} max_position_embeddings rms_norm_eps bos_token_id eos_token_id pad_token_id".split()
    pairs = text.hidden_size // text.num_attention_heads // 2
    config = Qwen2_5_VLConfig(
        vision_config={
            "depth": 4,
            "hidden_size": 128,
            "num_heads": 4,
            "intermediate_size": 352,
            "patch_size": TOWER_PATCH,
            "spatial_merge_size": MERGE_SIZE,
            "temporal_patch_size": 2,
            "window_size": IMAGE_SIDE // 2,
            "fullatt_block_indexes": [1, 3],
            "out_hidden_size": text.hidden_size,
        },
        text_config={
            **{name: getattr(text, name) for name in copied},
            "vocab_size": len(tokenizer),
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": text.rope_parameters["rope_theta"],
                "mrope_section": [pairs // 4, pairs * 3 // 8, pairs * 3 // 8],
            },
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    return Qwen2_5_VLForConditionalGeneration(config)


@torch.no_grad()
def copy_decoder(model: Qwen2_5_VLForConditionalGeneration, other: LlavaForConditionalGeneration) -> None:
    """Copy the decoder of a LLaVA of the same size; biases start at zero, embeddings of added tokens are kept."""
    decoder: Any = model.model.language_model
    state = {name: tensor.float() for name, tensor in other.model.language_model.state_dict().items()}
    embeddings = state.pop("embed_tokens.weight")
    decoder.embed_tokens.weight[: len(embeddings)] = embeddings
    missing, unexpected = decoder.load_state_dict(state, strict=False)
    if unexpected or {name for name in missing if not name.endswith(".bias")} != {"embed_tokens.weight"}:
        raise ValueError(f"the decoders differ: {unexpected} {missing}")
    for name, parameter in decoder.named_parameters():
        if name.endswith(".bias"):
            parameter.zero_()


def new_image_processor() -> Qwen2VLImageProcessorPil:
    """A processor that scales pictures of any shape to about 64 x 64 pixels in [-1, 1] and cuts them into patches."""
    area = IMAGE_SIDE**2
    return Qwen2VLImageProcessorPil(
        patch_size=TOWER_PATCH,
        merge_size=MERGE_SIZE,
        temporal_patch_size=2,
        size={"shortest_edge": area, "longest_edge": area},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )


def to_patches(pixels: torch.Tensor) -> torch.Tensor:
    """(n, 3, height, width) -> (n x patches, values), in the image processor's layout."""
    count, colours, height, width = pixels.shape
    rows, columns = height // PATCH_SIDE, width // PATCH_SIDE
    cut = pixels.reshape(count, colours, rows, MERGE_SIZE, TOWER_PATCH, columns, MERGE_SIZE, TOWER_PATCH)
    cut = cut.permute(0, 2, 5, 3, 6, 1, 4, 7)
    return cut.unsqueeze(6).expand(*cut.shape[:6], 2, TOWER_PATCH, TOWER_PATCH).flatten(0, 4).flatten(1)


class QwenMiniArchitecture(MiniArchitecture):
    """The second miniature.

    Args:
        model: A Qwen2.5-VL of this size.
        tokenizer: As from ``new_tokenizer``.
        first: The first miniature, for stage 1, in which the tower learns to give its features.
    """

    tower: ClassVar[str] = "model.visual."
    projector: ClassVar[str] = "model.visual.merger."
    chat_format: ClassVar[ChatFormat] = ChatFormat(
        bos="<|im_start|>",
        eos="<|im_end|>",
        patch="<|image_pad|>",
        format_question=lambda text: text.replace(f"{IMAGE}\n", IMAGE_TOKENS).replace(IMAGE, IMAGE_TOKENS),
    )
    decoder_is_trained: ClassVar[bool] = True

    def __init__(
        self, model: Any, tokenizer: PreTrainedTokenizerFast, first: LlavaMiniArchitecture | None = None
    ) -> None:
        batch_window_attention(model.model.visual)
        super().__init__(model, tokenizer)
        self._first = first

    def image_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """The tower's patches after the merger."""
        output = self.model.model.visual(to_patches(pixels), grid_thw=self._grid(len(pixels)))
        merged: torch.Tensor = output.pooler_output
        return merged.reshape(len(pixels), PATCHES, -1)

    @property
    def projector_output(self) -> torch.nn.Linear:
        """The merger's last layer."""
        layer: torch.nn.Linear = self.model.model.visual.merger.mlp[-1]
        return layer

    @torch.no_grad()
    def teacher_features(self, pixels: torch.Tensor) -> torch.Tensor | None:
        """The first miniature's features, which the decoder was trained on."""
        return self._first.image_features(pixels) if self._first else None

    def position_ids(self, batch: Batch) -> torch.Tensor:
        """(3, batch, tokens): time, row and column of image tokens, the index of all others."""
        ids = batch["input_ids"]
        is_image = ids == self.model.config.image_token_id
        positions: torch.Tensor = self.model.model.get_rope_index(
            ids,
            mm_token_type_ids=is_image.int(),
            image_grid_thw=self._grid(int(is_image.sum()) // PATCHES),
            attention_mask=batch["attention_mask"],
        )[0]
        return positions

    def save(self, folder: Path) -> None:
        """Write the model in half precision, with tokenizer and processor, in Hugging Face layout."""
        self.model.half().save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        new_image_processor().save_pretrained(folder)

    @staticmethod
    def _grid(pictures: int) -> torch.Tensor:
        return torch.tensor([[1, IMAGE_SIDE // TOWER_PATCH, IMAGE_SIDE // TOWER_PATCH]] * pictures)


def new_architecture(base: Path) -> QwenMiniArchitecture:
    """The second miniature before its training; seed torch before.

    Args:
        base: Folder of the first, for its decoder and tokenizer.
    """
    first = load_first(base)
    first.model.requires_grad_(False)
    tokenizer = new_tokenizer(base)
    model = new_model(tokenizer, first.model.config.text_config)
    copy_decoder(model, first.model)
    return QwenMiniArchitecture(model, tokenizer, first)


def load_architecture(folder: Path) -> QwenMiniArchitecture:
    """The second miniature as it was saved, in full precision.

    Raises:
        OSError: A file is missing.
    """
    model = load_saved(Qwen2_5_VLForConditionalGeneration, folder)
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
    return QwenMiniArchitecture(model, tokenizer)
