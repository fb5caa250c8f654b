"""Shared by the measurements: models of full shape with random weights, samples, questions, a meter, a table.

The shapes are those of the published configurations; nothing is downloaded. Tokenizer and templates are those of the
tests' small checkpoints, which determine the number of tokens; the table shows it.
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
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "rope_theta": 1e6,
    "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
}
QWEN_TOWER = {
    "depth": 32,
    "hidden_size": 1280,
    "num_heads": 16,
    "intermediate_size": 3420,
    "out_hidden_size": 3584,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
}
RANKS = {"llava": {"kore": 235, "lora": 128}, "qwen": {"kore": 274, "lora": 128}, "tiny": {"kore": 6, "lora": 4}}
"""KORE's and LoRA's rank in the paper."""
GIGABYTE = 1e9


def parser(what: str) -> argparse.ArgumentParser:
    """The options of every measurement."""
    options = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--shape", choices=["7b", "13b", "tiny"], default="7b")
    options.add_argument("--family", choices=["llava", "qwen"], default="llava")
    options.add_argument("--layers", type=int, help="decoder layers; all of the shape's by default")
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options.add_argument("--dtype", choices=["bfloat16", "float32"], help="of the weights; float32 on a CPU by default")
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    return options


def resolve_options(args: argparse.Namespace) -> argparse.Namespace:
    """The options, with defaults that depend on the device."""
    if args.family == "qwen" and args.shape == "13b":
        raise SystemExit("Qwen2.5-VL has no 13b; take --shape 7b")
    if torch.cuda.device_count() > 1:
        raise SystemExit("this measures one GPU, and the Trainer would take all: set CUDA_VISIBLE_DEVICES=0")
    torch.set_num_threads(args.threads)
    args.device = torch.device(args.device)
    args.dtype = getattr(torch, args.dtype or ("float32" if args.device.type == "cpu" else "bfloat16"))
    args.ranks = RANKS["tiny" if args.shape == "tiny" else args.family]
    return args


def build(args: argparse.Namespace) -> LlavaModel | QwenModel:
    """A frozen model of the shape, its weights drawn on the device."""
    wrapper, network = (LlavaModel, Llava) if args.family == "llava" else (QwenModel, Qwen)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        config = _llava(folder, args) if args.family == "llava" else _qwen(folder, args)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        if args.family == "qwen":
            tokenizer.chat_template = json.loads((folder / "chat_template.json").read_text())["chat_template"]
        pad = PictureOptions(aspect="pad") if args.family == "llava" else PictureOptions()
        images = wrapper.image_processor(folder, pad)
    torch.manual_seed(0)
    default_dtype = torch.get_default_dtype()
    torch.set_default_dtype(args.dtype)
    try:
        with args.device:
            module = network(config)
    finally:
        torch.set_default_dtype(default_dtype)
    with torch.no_grad():  # as large as in the tests' small models, so that every input has another answer
        for name, weight in module.named_parameters():
            if weight.dim() > 1:
                weight.normal_(0.0, 0.6 if "embed_tokens" in name else 1.5 * weight[0].numel() ** -0.5)
    module.generation_config.update(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return wrapper(module.requires_grad_(False).eval(), tokenizer, images, "random weights", args.device)


def with_empty_caches(model: LlavaModel | QwenModel, module: torch.nn.Module) -> LlavaModel | QwenModel:
    """The same model, possibly in another type, with empty caches of texts and pictures."""
    return type(model)(module, model._tokenizer, model._image_processor, model._config_digest, model.device)


def _llava(folder: Path, args: argparse.Namespace) -> LlavaConfig:
    write_llava(folder)
    config = LlavaConfig.from_pretrained(folder)
    if args.shape != "tiny":
        text = {**LLAVA[args.shape], "vocab_size": 32064, "max_position_embeddings": 4096}
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
    config.text_config.num_hidden_layers = args.layers or config.text_config.num_hidden_layers
    return config


def _qwen(folder: Path, args: argparse.Namespace) -> QwenConfig:
    write_qwen(folder, repetition_penalty=1.0)
    config = QwenConfig.from_pretrained(folder)
    layers = args.layers or (config.text_config.num_hidden_layers if args.shape == "tiny" else 28)
    if args.shape != "tiny":
        named = ("image", "video", "vision_start", "vision_end")
        ids = {f"{name}_token_id": getattr(config, f"{name}_token_id") for name in named}
        config = QwenConfig(vision_config=QWEN_TOWER, **{**QWEN, "num_hidden_layers": layers}, **ids)
        Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=262144).save_pretrained(folder)
    return config if args.shape != "tiny" else _with_layers(config, layers)


def _with_layers(config: QwenConfig, layers: int) -> QwenConfig:
    config.text_config.num_hidden_layers = layers
    config.text_config.layer_types = ["full_attention"] * layers
    return config


def pictures(count: int, args: argparse.Namespace) -> list:
    """Distinct pictures of a photograph's proportions."""
    width, height = (96, 64) if args.shape == "tiny" else (640, 480)
    return [painted(seed, width, height) for seed in range(count)]


def samples(count: int, args: argparse.Namespace) -> list[Conversation]:
    """Conversations of one to four turns, each about another picture."""
    texts = [conversation(i, words=4 + i % 9, turns=1 + i % 4, pictures=1) for i in range(count)]
    pairs = zip(texts, pictures(count, args), strict=True)
    return [Conversation(id=text.id, turns=text.turns, pictures=(picture,)) for text, picture in pairs]


def questions(count: int, each: int, new_tokens: int, args: argparse.Namespace) -> list[Question]:
    """``count`` questions, ``each`` of them about one picture."""
    shown = pictures(-(-count // each), args)
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


class Usage:
    """Seconds of a block, and its peak memory beyond what was in use before."""

    seconds = peak = 0.0


@contextmanager
def measure(device: torch.device):
    """Measure a block: the GPU's memory on a GPU, otherwise this process's."""
    usage, before = Usage(), _in_use(device)
    meter = ResourceMonitor(device)
    wait(device)
    started = time.perf_counter()
    yield usage
    wait(device)
    usage.seconds, usage.peak = time.perf_counter() - started, max(0, meter.peak_bytes - before) / GIGABYTE


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
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {torch.get_num_threads()} threads"


def table(title: str, args: argparse.Namespace, rows: list[dict[str, str]]) -> None:
    """Print the measurements with the machine and the date, as Markdown."""
    today = datetime.datetime.now(datetime.UTC).date()
    versions = f"torch {torch.__version__}"
    print(f"{title}\n\n{args.family} {args.shape}, random weights; {device_name(args.device)}; {today}; {versions}\n")
    columns = list(rows[0])
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(row[name] for name in columns)} |")
