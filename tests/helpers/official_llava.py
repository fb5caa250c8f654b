"""VLMEvalKit's own class for LLaVA, unchanged and without weights: what it would feed to the model.

``python official_llava.py JOBS RESULTS``; JOBS contains {"tokenizer": folder, "reply": text, "tables": {name: path}}.
RESULTS, for each question: text, ids (a picture is -200) and pictures of each turn, and the options of ``generate``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
import tempfile
import types
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from benchmarks.retention_specs import SPEC_BY_NAME, SPECS
from benchmarks.vlmeval import adapter

PICTURE = -200


class Anything:
    """What the class moves to the GPU."""

    def __init__(self, value=None):
        self.value = value

    def cuda(self):
        return self

    def to(self, *_, **__):
        return self

    def unsqueeze(self, _):
        return self


def install_llava(calls, tokenizer, reply):
    """The parts of the package ``llava`` that the class imports; what reaches the model is appended to ``calls``."""

    def tokenizer_image_token(prompt, tokenizer, image_token_index, return_tensors):
        """As LLaVA's: each piece of the text by itself, with the picture's number between, and <s> only once."""
        pieces = [tokenizer(piece).input_ids for piece in prompt.split("<image>")]
        assert all(piece[0] == tokenizer.bos_token_id for piece in pieces)
        ids = pieces[0] + [i for piece in pieces[1:] for i in (image_token_index, *piece[1:])]
        return Anything((prompt, ids))

    def process_images(images, processor, arguments):
        assert arguments.image_aspect_ratio == "pad"
        return Anything([hashlib.sha256(image.tobytes()).hexdigest() for image in images])

    def generate(input_ids, images, stopping_criteria, **options):
        (prompt, ids), shown = input_ids.value, [] if images is None else images.value
        calls.append({"prompt": prompt, "ids": ids, "pictures": shown, "options": options})
        return [tokenizer(reply, add_special_tokens=False).input_ids]

    model = types.SimpleNamespace(generate=generate)
    model.cuda = lambda: model
    content = {
        "llava.constants": {"IMAGE_TOKEN_INDEX": PICTURE},
        "llava.mm_utils": {
            "KeywordsStoppingCriteria": lambda *_: None,
            "process_images": process_images,
            "tokenizer_image_token": tokenizer_image_token,
            "get_model_name_from_path": lambda path: path,
        },
        "llava.model.builder": {"load_pretrained_model": lambda **_: (tokenizer, model, None, 2048)},
    }
    for name in ("llava", "llava.model", *content):
        module = sys.modules[name] = types.ModuleType(name)
        module.__dict__.update(content.get(name, {}))


def class_of_llava(kit):
    """VLMEvalKit's class, imported from its file: the packages around it import every model there is."""
    root = Path(importlib.util.find_spec("vlmeval.smp").origin).parents[1]
    types_ = {name: cls.TYPE for cls in map(kit.dataset_class, SPECS) for name in cls.supported_datasets()}
    sys.modules["vlmeval.dataset"].DATASET_TYPE = types_.__getitem__
    sys.modules["vlmeval.dataset"].DATASET_MODALITY = lambda _: "IMAGE"
    for name in ("vlm", "vlm/llava"):
        package = types.ModuleType(f"vlmeval.{name}".replace("/", "."))
        package.__path__ = [str(root / name)]
        sys.modules[package.__name__] = package
    from vlmeval.vlm.llava.llava import LLaVA

    return LLaVA


def ask(model, dataset, row, name):
    """As ``infer_data`` in vlmeval/inference.py, for dialogues as ``chat_mt`` in vlmeval/inference_mt.py."""
    if dataset.TYPE == "MT":
        said = []
        for turn in dataset.build_prompt(row)[::2]:
            said.append(turn)
            said.append({"role": "assistant", "content": model.chat(list(said), dataset=name)})
        return
    custom = model.use_custom_prompt(name)
    model.generate(model.build_prompt(row, dataset=name) if custom else dataset.build_prompt(row), dataset=name)


def main():
    job = json.loads(Path(sys.argv[1]).read_text())
    kit, calls, results = adapter.load(), [], {}
    install_llava(calls, PreTrainedTokenizerFast.from_pretrained(job["tokenizer"]), job["reply"])
    model = class_of_llava(kit)("liuhaotian/llava-v1.5-7b")
    for name, path in job["tables"].items():
        spec = SPEC_BY_NAME[name]
        kit.dataset_class(spec).DATASET_MD5 = {}
        root = Path(tempfile.mkdtemp())
        os.environ["LMUData"] = str(root)  # noqa: SIM112
        (root / f"{spec.dataset}.tsv").symlink_to(path)
        dataset = kit.dataset_class(spec)(dataset=spec.dataset)
        model.set_dump_image(dataset.dump_image)
        results[name] = {}
        for _, row in dataset.data.iterrows():
            ask(model, dataset, row, spec.dataset)
            results[name][str(row["index"])], calls[:] = list(calls), []
    Path(sys.argv[2]).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
