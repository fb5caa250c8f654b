"""Training LoRA and KORE in our loop against plain PEFT with the Hugging Face Trainer, at full shape.

    python tests/gpu/training.py [--batch 16] [--micro-batch 4] [--steps 8] [--sides trainer,lora,kore]

All use the same samples in the same number of steps, the same rows in a forward pass, bfloat16 on a GPU, no gradient
checkpointing. Every picture occurs once, so that no side gains from a cache of pictures. The Trainer gets its batches
from our encoder, so its speed is that of the loop and the loss. The first steps are a warm-up and not measured. Peak
memory does not include the model: it consists of adapters, their gradients and moments, and activations.
"""

from __future__ import annotations

import tempfile
import time

import torch
from full_shape import build, measure, parser, resolve_options, samples, table, wait, with_empty_caches

from harness.config.schema import TrainingSettings
from harness.training.conversation_batches import ConversationBatches
from harness.training.injection_loss import InjectionLoss
from harness.training.loop import fit
from methods.components.lora_layers import target_layers
from methods.registry import registered


class Pace:
    """Samples per second after the first steps."""

    def __init__(self, args):
        self._args, self._done, self._seconds = args, 0, [0.0, 0.0]

    def step(self, *_):
        """Count a step."""
        self._done += 1
        for place, at in enumerate((self._args.warm, self._args.warm + self._args.steps)):
            if self._done == at:
                wait(self._args.device)
                self._seconds[place] = time.perf_counter()

    @property
    def rate(self):
        before, after = self._seconds
        return self._args.steps * self._args.batch / (after - before)


def in_our_loop(name, model, conversations, args, pace):
    """One of our methods; its statistics are random, since their values do not affect the speed."""
    method = registered()[name](registered()[name].Settings(rank=args.ranks[name]))
    draw = torch.Generator().manual_seed(0)
    layers = target_layers(model).items()
    prepared = {f"{key}.A": torch.randn(args.ranks[name], layer.in_features, generator=draw) for key, layer in layers}
    method.attach(model, prepared)
    settings = TrainingSettings(epochs=1, batch_size=args.batch, micro_batch=args.micro_batch)
    source = ConversationBatches(model, conversations, settings, 0)
    groups = list(method.parameter_groups(model))
    fit(source, InjectionLoss(model, method), groups, settings, device=args.device, on_step=pace.step)
    trained = sum(weight.numel() for group in groups for weight in group["params"])
    method.detach(model)
    return trained


def with_the_trainer(model, conversations, args, pace):
    """LoRA by PEFT and the Trainer of transformers."""
    from peft import LoraConfig, get_peft_model
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Paced(TrainerCallback):
        def on_step_end(self, *_, **__):
            pace.step()

    rank = args.ranks["lora"]
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=model.linear_targets, modules_to_save=[model.projector]
    )
    peft_model = get_peft_model(model.module, config)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=1,
            per_device_train_batch_size=args.micro_batch,
            gradient_accumulation_steps=args.batch // args.micro_batch,
            learning_rate=2e-4,
            bf16=args.device.type == "cuda",
            use_cpu=args.device.type == "cpu",
            remove_unused_columns=False,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
            dataloader_pin_memory=False,  # the batches are on the device already
        )
        Trainer(
            peft_model, arguments, data_collator=model.training_batch, train_dataset=conversations, callbacks=[Paced()]
        ).train()
    trained = sum(weight.numel() for weight in peft_model.parameters() if weight.requires_grad)
    peft_model.unload()
    return trained


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--batch", type=int)
    options.add_argument("--micro-batch", type=int)
    options.add_argument("--steps", type=int)
    options.add_argument("--warm", type=int, default=2, help="steps that are not measured")
    options.add_argument("--sides", default="trainer,lora,kore")
    args = resolve_options(options.parse_args())
    small = args.shape == "tiny"
    args.batch, args.steps = args.batch or (4 if small else 16), args.steps or (2 if small else 8)
    args.micro_batch = args.micro_batch or (2 if small else 4)
    if args.batch % args.micro_batch:
        raise SystemExit("--batch must be a multiple of --micro-batch")
    conversations = samples(args.batch * (args.warm + args.steps), args)
    rows = []
    for side in args.sides.split(","):
        model, pace = build(args), Pace(args)  # a new one, because the Trainer leaves a copy of the projector
        with measure(args.device) as usage:
            if side == "trainer":
                trained = with_the_trainer(model, conversations, args, pace)
            else:
                trained = in_our_loop(side, model, conversations, args, pace)
        mean = sum(len(with_empty_caches(model, model.module).encode(one)[0]) for one in conversations[:16]) / 16
        rows.append(
            {
                "side": "plain PEFT and Trainer, LoRA" if side == "trainer" else f"our loop, {side}",
                "decoder layers": str(model.module.config.text_config.num_hidden_layers),
                "trained parameters": f"{trained:,}",
                "rows at once": str(args.micro_batch),
                "tokens a sample": f"{mean:.0f}",
                "samples per second": f"{pace.rate:.2f}",
                "peak GB beyond the model": f"{usage.peak:.2f}",
            }
        )
        del model
    first = float(rows[0]["samples per second"])
    for row in rows:
        row["this / first"] = f"{float(row['samples per second']) / first:.2f}x"
    table("Training", args, rows)


if __name__ == "__main__":
    main()
