"""Training on the miniature: our loop against PEFT with the Hugging Face Trainer, on the same conversations.

    python tests/speed/trainer.py [--methods lora,kore] [--samples N] [--epochs E] [--repeats R] [--threads 1,2]

The Trainer's side is ``examples/train_with_peft.py``: its processor, collator, arguments and optimiser. For KORE its
adapter has KORE's rank and a frozen A, which takes as long whatever A is. Both sides train every conversation once an
epoch in batches of the preset's size, in alternation, from a fresh adapter each time and with empty caches; reading the
model and computing KORE's statistics are not measured. Memory is the peak of the process beyond what it held before.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import psutil
import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE)]

from injected import CPU, AttachedMethod  # noqa: E402
from side_by_side import Clock, header  # noqa: E402

from harness.augment.writer import save_picture  # noqa: E402
from harness.training.conversation_batches import ConversationBatches  # noqa: E402
from harness.training.hardware import ResourceMonitor, release_freed_memory  # noqa: E402
from methods.components.lora_layers import lora_layers  # noqa: E402

MEGABYTE = 1 << 20


def load_example():
    """The documented script as a module."""
    spec = importlib.util.spec_from_file_location("train_with_peft", HERE.parents[1] / "examples/train_with_peft.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TrainerSide:
    """The example's training, prepared; ``train`` is what is measured."""

    def __init__(self, made, conversations, args, folder):
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForImageTextToText, AutoProcessor, PrinterCallback, Trainer

        example, base = load_example(), str(made.model.folder)
        settings = made.method.settings
        module = AutoModelForImageTextToText.from_pretrained(base, dtype="float32")
        config = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            target_modules=example.LAYERS,
            modules_to_save=[example.PROJECTOR],
        )
        module = get_peft_model(module, config)
        (_, ours), *_ = lora_layers(made.model.module)
        if not next(iter(ours.lora_A.values())).weight.requires_grad:
            for name, weight in module.named_parameters():
                weight.requires_grad_(weight.requires_grad and "lora_A" not in name)
        options = SimpleNamespace(
            adapter=folder,
            epochs=args.epochs,
            batch_size=made.training.batch_size,
            warmup=0.03,
            seed=0,
            lr=settings.learning_rate,
            projector_lr=settings.projector_learning_rate,
        )
        arguments = example.training_arguments(options)
        arguments.disable_tqdm = True
        self._trainer = Trainer(
            model=module,
            args=arguments,
            train_dataset=[row(sample, folder) for sample in conversations],
            data_collator=example.Collator(AutoProcessor.from_pretrained(base), folder),
            optimizers=(example.optimizer(module, options), None),
        )
        self._trainer.remove_callback(PrinterCallback)

    def train(self):
        self._trainer.train()


class OurSide:
    """Our loop, prepared in the same way."""

    def __init__(self, made, conversations, args, folder):
        made.method.detach(made.model)
        made.method.attach(made.model, made.prepared)
        made.groups = list(made.method.parameter_groups(made.model))
        made.model._vision_cache, made.model._vision_cache_weights = type(made.model._vision_cache)(), ""
        self._made, self._conversations = made, conversations
        self._settings = made.training.model_copy(update={"epochs": args.epochs})

    def train(self):
        self._made.train(ConversationBatches(self._made.model, self._conversations, self._settings, 0))


SIDES = {"Trainer": TrainerSide, "ours": OurSide}


def row(sample, folder):
    """A conversation as the example reads it."""
    return {
        "messages": [{"role": turn.role, "content": turn.text} for turn in sample.turns],
        "images": [save_picture(picture, folder) for picture in sample.pictures],
    }


def report(name, threads, args):
    torch.set_num_threads(threads)
    made = AttachedMethod(name)
    conversations = made.conversations[: args.samples]
    wall, cpu, peak = ({side: [] for side in SIDES} for _ in range(3))
    for turn in range(args.repeats + 1):
        for side, make in SIDES.items():
            with tempfile.TemporaryDirectory() as folder:
                ready = make(made, conversations, args, Path(folder))
                release_freed_memory()
                before = psutil.Process().memory_info().rss
                monitor = ResourceMonitor(CPU)
                with Clock() as clock:
                    ready.train()
            if turn:  # the first is a warm-up: it chooses kernels
                wall[side].append(clock.wall)
                cpu[side].append(clock.cpu)
                peak[side].append((monitor.peak_bytes - before) / MEGABYTE)
    trained = args.epochs * len(conversations)
    for unit, seconds in (("wall", wall), ("cpu", cpu)):
        theirs, ours = (statistics.median(seconds[side]) for side in SIDES)
        memory = " ".join(f"{statistics.median(peak[side]):>9.0f}" for side in SIDES)
        print(
            f"{name:>10} {threads:>7} {trained:>7} {unit:>5} {trained / theirs:>9.1f} {trained / ours:>9.1f} "
            f"{theirs / ours:>6.2f}x {memory}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="lora,kore")
    parser.add_argument("--samples", type=int, default=320)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", default="1,2")
    args = parser.parse_args()
    from transformers.utils import logging

    logging.disable_progress_bar()
    header("samples per second, and MiB at the peak")
    print("    method threads samples  time   Trainer      ours   gain   Trainer      ours")
    for threads in map(int, args.threads.split(",")):
        for name in args.methods.split(","):
            report(name, threads, args)


if __name__ == "__main__":
    main()
