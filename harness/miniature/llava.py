"""The first miniature: a LLaVA of a few million parameters, its tokenizer and its processor."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from harness.miniature.base import MiniArchitecture, load_saved
from harness.miniature.batches import IMAGE_SIDE, PATCH_SIDE, ChatFormat

VOCABULARY = 2048
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<image>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "<s>{% for message in messages %}"
    "{% if message['role'] == 'user' %}<|user|>{{ message['content'] }}<|assistant|>"
    "{% else %}{{ message['content'] }}</s>{% endif %}"
    "{% endfor %}"
)


def train_tokenizer(corpus: Iterable[str]) -> Tokenizer:
    """A byte-level BPE over ``corpus`` without unknown text; digits are single tokens, words include a leading space.

    A space is put before every segment, so that a word has the same ids in questions and answers.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Prepend(" ")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.ByteLevel(add_prefix_space=False), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def wrap_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer for use with Hugging Face models, with the chat template."""
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<image>", "<|user|>", "<|assistant|>"],
        chat_template=CHAT_TEMPLATE,
        padding_side="right",
        model_max_length=1024,
    )


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """A randomly initialised model of about 6.2 million parameters; seed torch before."""
    vision = CLIPVisionConfig(
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=5,
        num_attention_heads=3,
        image_size=IMAGE_SIDE,
        patch_size=PATCH_SIDE,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.get_vocab()["<image>"],
        vision_feature_layer=-1,  # the default, -2, would leave the last layer without gradient
        vision_feature_select_strategy="default",
        image_seq_length=(IMAGE_SIDE // PATCH_SIDE) ** 2,
        tie_word_embeddings=True,
    )
    return LlavaForConditionalGeneration(config)


def new_processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    """A processor that scales pictures to 64 x 64 pixels in [-1, 1]; one ``<image>`` becomes 16 tokens."""
    size = {"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    image_processor = CLIPImageProcessorPil(
        size=size, crop_size=size, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return LlavaProcessor(  # type: ignore[no-untyped-call]
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=PATCH_SIDE,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )


class LlavaMiniArchitecture(MiniArchitecture):
    """The first miniature, all of it randomly initialised."""

    tower: ClassVar[str] = "model.vision_tower."
    projector: ClassVar[str] = "model.multi_modal_projector."
    chat_format: ClassVar[ChatFormat] = ChatFormat()

    def image_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """The tower's patches after the projector, without the class token."""
        features = self.model.model.vision_tower(pixels).last_hidden_state[:, 1:]
        patches: torch.Tensor = self.model.model.multi_modal_projector(features)
        return patches

    @property
    def projector_output(self) -> torch.nn.Linear:
        """The projector's last layer."""
        layer: torch.nn.Linear = self.model.model.multi_modal_projector.linear_2
        return layer

    def save(self, folder: Path) -> None:
        """Write the model in half precision, with tokenizer and processor, in Hugging Face layout."""
        self.model.half().save_pretrained(folder)
        new_processor(self.tokenizer).save_pretrained(folder)


def load_architecture(folder: Path) -> LlavaMiniArchitecture:
    """The first miniature as it was saved, in full precision.

    Raises:
        OSError: A file is missing.
    """
    model = load_saved(LlavaForConditionalGeneration, folder)
    tokenizer = wrap_tokenizer(Tokenizer.from_file(str(folder / "tokenizer.json")))
    return LlavaMiniArchitecture(model, tokenizer)
