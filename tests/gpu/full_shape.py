"""What the measurements share: models of full shape with random weights, samples, questions, a meter, a table.

The shapes are those of the published configurations; nothing is downloaded. Tokenizer and templates are those of the
tests' small checkpoints, so texts have as many tokens as those make of them; the table says how many.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import platform
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent), str(HERE.parent / "speed")]

from transformers import AutoTokenizer, CLIPVisionConfig, LlamaConfig, LlavaConfig  # noqa: E402
from transformers import LlavaForConditionalGeneration as Llava  # noqa: E402
from transformers import Qwen2_5_VLConfig as QwenConfig  # noqa: E402
from transformers import Qwen2_5_VLForConditionalGeneration as Qwen  # noqa: E402
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil  # noqa: E402
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil  # noqa: E402

from benchmarks.records import Conversation, Question, Turn  # noqa: E402
from harness.models.llava import LlavaModel  # noqa: E402
from harness.models.qwen2_5_vl import QwenModel  # noqa: E402
from harness.models.vision import PictureOptions  # noqa: E402
from harness.training.hardware import ResourceMonitor  # noqa: E402
from helpers.published_models import painted, write_llava, write_qwen  # noqa: E402
from helpers.tiny import conversation  # noqa: E402

LLAVA = {
    "7b": {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
    "13b": {"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40},
}
TOWER = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
QWEN = {
    "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4, "vocab_size": 152064, "rope_theta": 1e6,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
}  # fmt: skip
QWEN_TOWER = {
    "depth": 32, "hidden_size": 1280, "num_heads": 16, "intermediate_size": 3420, "out_hidden_size": 3584,
    "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
}  # fmt: skip
RANKS = {"llava": {"kore": 235, "lora": 128}, "qwen": {"kore": 274, "lora": 128}, "tiny": {"kore": 6, "lora": 4}}
"""KORE's and LoRA's rank in the paper."""
GIGABYTE = 1e9


def parser(what: str) -> argparse.ArgumentParser:
    """The options of every measurement."""
    made = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--shape", choices=["7b", "13b", "tiny"], default="7b")
    made.add_argument("--family", choices=["llava", "qwen"], default="llava")
    made.add_argument("--layers", type=int, help="decoder layers; all of the shape's when left out")
    made.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    made.add_argument("--dtype", choices=["bfloat16", "float32"], help="of the weights; float32 on a CPU if left out")
    made.add_argument("--threads", type=int, default=torch.get_num_threads())
    return made


def settled(asked: argparse.Namespace) -> argparse.Namespace:
    """What was asked for, with what depends on the device."""
    if asked.family == "qwen" and asked.shape == "13b":
        raise SystemExit("Qwen2.5-VL has no 13b; take --shape 7b")
    if torch.cuda.device_count() > 1:
        raise SystemExit("this measures one GPU, and the Trainer would take all: set CUDA_VISIBLE_DEVICES=0")
    torch.set_num_threads(asked.threads)
    asked.device = torch.device(asked.device)
    asked.dtype = getattr(torch, asked.dtype or ("float32" if asked.device.type == "cpu" else "bfloat16"))
    asked.ranks = RANKS["tiny" if asked.shape == "tiny" else asked.family]
    return asked


def build(asked: argparse.Namespace) -> LlavaModel | QwenModel:
    """A frozen model of the shape, its weights drawn on the device."""
    kind, net = (LlavaModel, Llava) if asked.family == "llava" else (QwenModel, Qwen)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        config = _llava(folder, asked) if asked.family == "llava" else _qwen(folder, asked)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        if asked.family == "qwen":
            tokenizer.chat_template = json.loads((folder / "chat_template.json").read_text())["chat_template"]
        pad = PictureOptions(aspect="pad") if asked.family == "llava" else PictureOptions()
        images = kind.image_processor(folder, pad)
    torch.manual_seed(0)
    usual = torch.get_default_dtype()
    torch.set_default_dtype(asked.dtype)
    try:
        with asked.device:
            module = net(config)
    finally:
        torch.set_default_dtype(usual)
    with torch.no_grad():  # as lively as the tests' small models, so that every input has another answer
        for name, weight in module.named_parameters():
            if weight.dim() > 1:
                weight.normal_(0.0, 0.6 if "embed_tokens" in name else 1.5 * weight[0].numel() ** -0.5)
    module.generation_config.update(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return kind(module.requires_grad_(False).eval(), tokenizer, images, "random weights", asked.device)


def afresh(model: LlavaModel | QwenModel, module: torch.nn.Module) -> LlavaModel | QwenModel:
    """The same model, perhaps in another type, that remembers no text and no picture."""
    return type(model)(module, model._tokenizer, model._image_processor, model._described, model.device)


def _llava(folder: Path, asked: argparse.Namespace) -> LlavaConfig:
    write_llava(folder)
    config = LlavaConfig.from_pretrained(folder)
    if asked.shape != "tiny":
        text = {**LLAVA[asked.shape], "vocab_size": 32064, "max_position_embeddings": 4096}
        config = LlavaConfig(
            vision_config=CLIPVisionConfig(**TOWER, image_size=336, patch_size=14),
            text_config=LlamaConfig(**text),
            image_token_id=config.image_token_id,
            image_seq_length=576,
            vision_feature_layer=-2,
            vision_feature_select_strategy="default",
        )
        side = {"height": 336, "width": 336}
        CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size=side).save_pretrained(folder)
    config.text_config.num_hidden_layers = asked.layers or config.text_config.num_hidden_layers
    return config


def _qwen(folder: Path, asked: argparse.Namespace) -> QwenConfig:
    write_qwen(folder, repetition_penalty=1.0)
    config = QwenConfig.from_pretrained(folder)
    layers = asked.layers or (config.text_config.num_hidden_layers if asked.shape == "tiny" else 28)
    if asked.shape != "tiny":
        named = ("image", "video", "vision_start", "vision_end")
        ids = {f"{name}_token_id": getattr(config, f"{name}_token_id") for name in named}
        config = QwenConfig(vision_config=QWEN_TOWER, **{**QWEN, "num_hidden_layers": layers}, **ids)
        Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=262144).save_pretrained(folder)
    return config if asked.shape != "tiny" else _with_layers(config, layers)


def _with_layers(config: QwenConfig, layers: int) -> QwenConfig:
    config.text_config.num_hidden_layers = layers
    config.text_config.layer_types = ["full_attention"] * layers
    return config


def pictures(count: int, asked: argparse.Namespace) -> list:
    """Distinct pictures of a photograph's proportions."""
    width, height = (96, 64) if asked.shape == "tiny" else (640, 480)
    return [painted(seed, width, height) for seed in range(count)]


def samples(count: int, asked: argparse.Namespace) -> list[Conversation]:
    """Conversations of one to four turns, each about a picture of its own."""
    made = [conversation(i, words=4 + i % 9, turns=1 + i % 4, pictures=1) for i in range(count)]
    shown = pictures(count, asked)
    return [Conversation(id=one.id, turns=one.turns, pictures=(seen,)) for one, seen in zip(made, shown, strict=True)]


def questions(count: int, each: int, new_tokens: int, asked: argparse.Namespace) -> list[Question]:
    """``count`` questions, so many about each picture."""
    shown = pictures(-(-count // each), asked)
    return [
        Question(
            id=f"question-{i}",
            benchmark="measurement",
            turns=(_first(conversation(i, pictures=1)).text,),
            pictures=(shown[i // each],),
            reference="",
            max_new_tokens=new_tokens,
        )
        for i in range(count)
    ]


def _first(sample: Conversation) -> Turn:
    return sample.turns[0]


class Spent:
    """Seconds of a block and the most memory that it took beyond what was in use before."""

    seconds = peak = 0.0


@contextmanager
def spending(device: torch.device):
    """Measure a block; on a GPU its memory, else this process's."""
    spent, before = Spent(), _in_use(device)
    meter = ResourceMonitor(device)
    wait(device)
    started = time.perf_counter()
    yield spent
    wait(device)
    spent.seconds, spent.peak = time.perf_counter() - started, max(0, meter.peak_bytes - before) / GIGABYTE


def _in_use(device: torch.device) -> int:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return int(torch.cuda.memory_allocated(device))
    resident = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(resident.split()[1]) * 1024


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    """The accelerator's name, or the processor's with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {torch.get_num_threads()} threads"


def table(title: str, asked: argparse.Namespace, rows: list[dict[str, str]]) -> None:
    """Print what was measured, on what and when, as Markdown."""
    today = datetime.datetime.now(datetime.UTC).date()
    versions = f"torch {torch.__version__}"
    print(
        f"{title}\n\n{asked.family} {asked.shape}, random weights; {device_name(asked.device)}; {today}; {versions}\n"
    )
    columns = list(rows[0])
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(row[name] for name in columns)} |")
