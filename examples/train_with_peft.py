"""Train a LoRA on a vision-language model with nothing but PEFT and Hugging Face's Trainer.

The data are JSON lines with ``messages`` and ``images``, as ``harness export RUN --row lora --training-data --to DATA``
writes them. The adapter stands in the tables beside ours with ``harness compare --adapter theirs=ADAPTER``.

    python train_with_peft.py BASE DATA/train.jsonl ADAPTER --epochs 6 --batch-size 16 --rank 32 --alpha 64 --lr 6e-3
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, Trainer, TrainingArguments, set_seed

LAYERS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
"""Every linear layer of the language decoder."""
PROJECTOR = "multi_modal_projector"
TEMPLATE = None
"""The base's own chat template; for LLaVA-1.5 from the hub that of harness/models/chat_template.py."""
IGNORED = -100


def main() -> None:
    """Read the options, train, and save the adapter."""
    options = parse_options()
    set_seed(options.seed)
    processor = AutoProcessor.from_pretrained(options.base)
    # Trained in 32 bits, whatever type the base is stored in: half precision would round small updates away.
    model = AutoModelForImageTextToText.from_pretrained(options.base, dtype="float32")
    config = LoraConfig(
        r=options.rank, lora_alpha=options.alpha, target_modules=LAYERS, modules_to_save=[PROJECTOR], bias="none"
    )
    model = get_peft_model(model, config)
    with options.data.open(encoding="utf-8") as file:  # not splitlines: it also cuts at characters within a text
        rows = [json.loads(line) for line in file]
    trainer = Trainer(
        model=model,
        args=training_arguments(options),
        train_dataset=rows,
        data_collator=Collator(processor, options.data.parent),
        optimizers=(optimizer(model, options), None),  # the schedule of the arguments
    )
    trainer.train()
    model.save_pretrained(options.adapter)


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train a LoRA with PEFT and Hugging Face's Trainer.")
    parser.add_argument("base", help="folder of the model, or its id on the hub")
    parser.add_argument("data", type=Path, help="train.jsonl")
    parser.add_argument("adapter", type=Path, help="folder to write")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=54)
    parser.add_argument("--rank", type=int, default=128)
    parser.add_argument("--alpha", type=float, default=256)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--projector-lr", type=float, default=2e-5)
    parser.add_argument("--warmup", type=float, default=0.03, help="share of the steps")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def training_arguments(options: argparse.Namespace) -> TrainingArguments:
    """AdamW without weight decay, warm-up and cosine, gradients clipped at 1; nothing but the adapter is saved."""
    return TrainingArguments(
        output_dir=str(options.adapter / "trainer"),
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        lr_scheduler_type="cosine",
        warmup_steps=options.warmup,
        max_grad_norm=1.0,
        save_strategy="no",
        report_to="none",
        logging_steps=10,
        remove_unused_columns=False,
        seed=options.seed,
        data_seed=options.seed,
    )


def optimizer(model: torch.nn.Module, options: argparse.Namespace) -> torch.optim.Optimizer:
    """AdamW with a smaller learning rate for the projector."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    return torch.optim.AdamW(
        [
            {"params": [one for name, one in trained.items() if PROJECTOR not in name], "lr": options.lr},
            {"params": [one for name, one in trained.items() if PROJECTOR in name], "lr": options.projector_lr},
        ],
        weight_decay=0.0,
    )


class Collator:
    """Rows as a padded batch, in which only the assistant's text and the token that ends it are labels."""

    def __init__(self, processor, folder: Path) -> None:
        self.processor, self.folder = processor, folder

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        """Encode the rows."""
        pictures = [[Image.open(self.folder / name).convert("RGB") for name in row["images"]] for row in rows]
        texts = [self.text(row["messages"]) for row in rows]
        shown = [each for row in pictures for each in row] or None
        batch = self.processor(
            text=texts, images=shown, padding=True, padding_side="right", add_special_tokens=False, return_tensors="pt"
        )
        labels = torch.full_like(batch["input_ids"], IGNORED)
        for number, (row, own) in enumerate(zip(rows, pictures, strict=True)):
            for turn, message in enumerate(row["messages"]):
                if message["role"] == "assistant":
                    start, end = (self.length(row["messages"][:cut], own) for cut in (turn, turn + 1))
                    labels[number, start:end] = batch["input_ids"][number, start:end]
        return {**batch, "labels": labels}

    def text(self, messages: list[dict]) -> str:
        """The messages in the chat template, up to where the assistant goes on if a user's is the last."""
        return self.processor.tokenizer.apply_chat_template(
            messages, chat_template=TEMPLATE, tokenize=False, add_generation_prompt=messages[-1]["role"] == "user"
        )

    def length(self, messages: list[dict], pictures: list[Image.Image]) -> int:
        """Number of tokens of the messages, those of their pictures included."""
        shown = pictures[: sum(message["content"].count("<image>") for message in messages)]
        encoded = self.processor(text=self.text(messages), images=shown or None, add_special_tokens=False)
        return len(encoded["input_ids"][0])


if __name__ == "__main__":
    main()
