"""What training, methods and answering use of a language-vision model, whichever family implements it."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from benchmarks.records import Conversation, Picture
from harness.models.greedy import PrefixCache
from harness.models.loading import folder_digest, weights_digest
from harness.models.vision import AS_PUBLISHED, PictureOptions, TensorCache
from methods.batch import Batch as Batch

IGNORE_INDEX = -100
"""Label of a position that is not supervised, as in torch's cross-entropy."""

Dialogue = tuple[Sequence[str], Sequence[Picture]]
"""Alternating user and assistant texts, ending with a user's, and the pictures in order."""

FAMILIES: dict[str, type[LanguageVisionModel]] = {}
"""The families that are made for one architecture, by its name; ``harness.models.registry`` chooses among them."""


def configuration_digest(folder: Path, options: PictureOptions) -> str:
    """Digest of everything in a folder that determines the answers, apart from the weights, and of these options."""
    own = folder_digest(folder)
    return own if options == AS_PUBLISHED else hashlib.sha256(f"{own}{options}".encode()).hexdigest()


class LanguageVisionModel(ABC):
    """A Hugging Face model with its tokenizer and what prepares pictures for it; made by ``load``.

    Satisfies ``methods.interfaces.InjectableModel``. A subclass is a family: of one ``architecture``, which it then
    serves wherever a folder names it, or of any. ``python -m harness check-model`` holds a family to what the plain
    call of Hugging Face computes.

    Args:
        module: The model, frozen.
        config_digest: Digest of everything that determines the model's answers, apart from its weights.
        device: Where the module is.
    """

    architecture: ClassVar[str] = ""
    """The name in ``config.json`` that this family serves, e.g. ``LlavaForConditionalGeneration``; "" for any."""
    protocols: ClassVar[Mapping[str, str]] = {}
    """Chat templates that are used instead of the model's own, by the protocol that asks for them."""
    own_template: str = ""
    """The chat template that the family uses in place of the folder's; "" if it uses the folder's."""
    module: torch.nn.Module
    device: torch.device
    folder: Path | None = None
    """Where it was loaded from."""
    stops: frozenset[int]
    """The ids of the tokens that end an answer."""
    _tokenizer: Any
    base_parameters: Sequence[torch.nn.Parameter]
    """The model's own parameters, without those that a method has added."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if vars(cls).get("architecture"):
            FAMILIES[cls.architecture] = cls

    def __init__(self, module: Any, config_digest: str, device: torch.device) -> None:
        self.module, self.device, self._config_digest = module, device, config_digest
        self.base_parameters = tuple(module.parameters())

    @classmethod
    @abstractmethod
    def load(
        cls, folder: Path, device: torch.device, dtype: torch.dtype, options: PictureOptions = AS_PUBLISHED
    ) -> Self:
        """Load and check: safetensors only, no remote code, every weight present.

        Args:
            folder: Local folder in Hugging Face layout (config, safetensors, tokenizer, processor).
            device: Where to run.
            dtype: Type of the frozen weights; trainable parameters are always float32.
            options: How to prepare pictures.

        Raises:
            UserError: The folder is incomplete, damaged or unsafe, or its parts do not fit together.
        """

    @classmethod
    @abstractmethod
    def without_weights(cls, module: Any, folder: Path, options: PictureOptions = AS_PUBLISHED) -> Self:
        """A model that encodes texts and pictures and knows its sizes, but computes nothing.

        Args:
            module: On the ``meta`` device.
            folder: The model's.
            options: How to prepare pictures.

        Raises:
            UserError: The tokenizer or what prepares pictures cannot be read.
        """

    @classmethod
    def serves(cls, config: Mapping[str, Any]) -> bool:
        """Whether this family serves a model of its architecture with this ``config.json``."""
        return True

    @classmethod
    @abstractmethod
    def targets_of(cls, module: torch.nn.Module) -> str:
        """``linear_targets`` of a model, which may be without weights (on the ``meta`` device).

        Raises:
            UserError: As of ``linear_targets``.
        """

    @property
    @abstractmethod
    def linear_targets(self) -> str:
        """Full-match pattern over module names: every linear layer of the language decoder and nothing else.

        Raises:
            UserError: The decoder has weights that adapters on linear layers would leave out.
        """

    @property
    @abstractmethod
    def projector(self) -> str:
        """The last part of the name of the vision-to-language projector, such as ``multi_modal_projector``."""

    @property
    @abstractmethod
    def towers(self) -> frozenset[str]:
        """Parts of module names: what is below one of them, without the projector, belongs to an encoder."""

    @property
    def inner(self) -> Any:
        """The Hugging Face model itself, even if a method has wrapped it with PEFT."""
        unwrap = getattr(self.module, "get_base_model", None)
        return unwrap() if unwrap else self.module

    @property
    @abstractmethod
    def decoder(self) -> torch.nn.Module:
        """The language model, with its ``layers``."""

    @property
    def vision_is_trained(self) -> bool:
        """Whether any weight of an encoder is trained."""
        paths = ((set(name.split(".")), weight) for name, weight in self.module.named_parameters())
        return any(weight.requires_grad and self.towers & path and self.projector not in path for path, weight in paths)

    def answer_texts(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """The texts of generated ids, without special tokens and without space around them."""
        texts = self._tokenizer.batch_decode(rows, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return [text.strip() for text in texts]

    def penalties(self, given: Sequence[float | None]) -> list[float]:
        """The repetition penalty of each row; for None that of the model's ``generation_config``."""
        own = float(self.inner.generation_config.repetition_penalty or 1.0)
        return [own if each is None else each for each in given]

    def fingerprint(self) -> str:
        """Sha256 over the module's current weights, the tokenizer and the processor's settings."""
        return hashlib.sha256(f"{weights_digest(self.module)}{self._config_digest}".encode()).hexdigest()

    @abstractmethod
    def encoder_for(self, options: PictureOptions | None) -> object:
        """What prepares pictures in this way; for None as in training.

        Raises:
            UserError: The model does not support an option.
        """

    @abstractmethod
    def pictures_as(self, options: PictureOptions | None) -> AbstractContextManager[None]:
        """Prepare pictures in this way within the block; for None as in training."""

    @abstractmethod
    def vision_cache(self) -> TensorCache:
        """Keeps what is computed of a picture, for ``training_batch`` and ``generation_batch``.

        Valid until the encoder's weights change; call this again after they may have changed.
        """

    @abstractmethod
    def training_batch(self, conversations: Sequence[Conversation], cache: TensorCache | None = None) -> Batch:
        """Right-padded ``input_ids``, ``attention_mask``, ``labels`` (rows, tokens) and the pictures.

        Labels are the answers with the token that ends them, and -100 everywhere else. All but the labels are what the
        model's ``forward`` takes, unless a family uses a ``cache``. ``conversation_ids`` names each row's conversation.
        """

    @abstractmethod
    def encode(self, sample: Conversation) -> tuple[list[int], list[int]]:
        """Token ids and labels of a conversation, as in training."""

    @abstractmethod
    def picture_tokens(self, picture: Picture) -> int:
        """Number of image tokens that the decoder reads for a picture."""

    @abstractmethod
    def prompt_batch(self, conversations: Sequence[Conversation]) -> Batch:
        """Right-padded first user turns without answers, as the model's ``forward`` takes them; for calibration."""

    @abstractmethod
    def generation_batch(
        self, dialogues: Sequence[Dialogue], cache: TensorCache | None = None, templates: Sequence[str] = ()
    ) -> Batch:
        """Left-padded prompts, each in its template (``Question.template``), for ``generate``."""

    @abstractmethod
    def prompt_length(self, texts: Sequence[str], pictures: Sequence[Picture], template: str = "") -> int:
        """Number of tokens of a prompt or conversation, for sorting; a damaged picture counts as one."""

    @abstractmethod
    def picture_features(self, pictures: Sequence[Picture]) -> torch.Tensor:
        """What the projector reads of each picture, averaged over its tokens: (n, d) float32 on the CPU.

        Each vector depends on its own picture alone.
        """

    @abstractmethod
    def supervised(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (n, vocabulary) float32 and targets (n,) at the n supervised positions only."""

    @abstractmethod
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
            prefix: Cache of earlier turns of the same rows. A family may use and extend it, or leave it empty.
            repetition_penalties: One for each row; None for that of the model's ``generation_config``.
        """
