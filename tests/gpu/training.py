"""Training LoRA and KORE in our loop against plain PEFT with the Hugging Face Trainer, at full shape.

    python tests/gpu/training.py [--batch 16] [--micro-batch 4] [--steps 8] [--sides trainer,lora,kore]

All see the same samples in the same number of steps, the same rows in a forward pass, bfloat16 on a GPU, no gradient
checkpointing. Every picture is seen once, so that nothing gains by remembering pictures. The Trainer's side gets its
batches from our encoder: what it says of speed is about the loop and the loss. The first steps warm up and are not
counted. Peak memory is what is taken beyond the model: adapters, their gradients and moments, activations.
"""

from __future__ import annotations

import tempfile
import time

import torch
from full_shape import afresh, build, parser, samples, settled, spending, table, wait

from harness.config.training import TrainingSettings
from harness.training.conversation_batches import ConversationBatches, InjectionLoss
from harness.training.loop import fit
from methods.components.lora_layers import target_layers
from methods.registry import registered


class Pace:
    """Samples per second once the first steps are over."""

    def __init__(self, asked):
        self._asked, self._done, self._seconds = asked, 0, [0.0, 0.0]

    def step(self, *_):
        """One step is done."""
        self._done += 1
        for place, at in enumerate((self._asked.warm, self._asked.warm + self._asked.steps)):
            if self._done == at:
                wait(self._asked.device)
                self._seconds[place] = time.perf_counter()

    @property
    def rate(self):
        before, after = self._seconds
        return self._asked.steps * self._asked.batch / (after - before)


def in_our_loop(name, model, conversations, asked, pace):
    """One of our methods; what it would prepare is drawn at random, for its values change nothing here."""
    method = registered()[name](registered()[name].Settings(rank=asked.ranks[name]))
    draw = torch.Generator().manual_seed(0)
    layers = target_layers(model).items()
    prepared = {f"{key}.A": torch.randn(asked.ranks[name], layer.in_features, generator=draw) for key, layer in layers}
    method.attach(model, prepared)
    settings = TrainingSettings(epochs=1, batch_size=asked.batch, micro_batch=asked.micro_batch)
    source = ConversationBatches(model, conversations, settings, 0)
    groups = list(method.parameter_groups(model))
    fit(source, InjectionLoss(model, method), groups, settings, device=asked.device, on_step=pace.step)
    trained = sum(weight.numel() for group in groups for weight in group["params"])
    method.detach(model)
    return trained


def with_the_trainer(model, conversations, asked, pace):
    """LoRA as PEFT and transformers have it."""
    from peft import LoraConfig, get_peft_model
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Paced(TrainerCallback):
        def on_step_end(self, *_, **__):
            pace.step()

    rank = asked.ranks["lora"]
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=model.linear_targets, modules_to_save=[model.projector]
    )
    peft_model = get_peft_model(model.module, config)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=1,
            per_device_train_batch_size=asked.micro_batch,
            gradient_accumulation_steps=asked.batch // asked.micro_batch,
            learning_rate=2e-4,
            bf16=asked.device.type == "cuda",
            use_cpu=asked.device.type == "cpu",
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
    made = parser(__doc__)
    made.add_argument("--batch", type=int)
    made.add_argument("--micro-batch", type=int)
    made.add_argument("--steps", type=int)
    made.add_argument("--warm", type=int, default=2, help="steps that are not counted")
    made.add_argument("--sides", default="trainer,lora,kore")
    asked = settled(made.parse_args())
    small = asked.shape == "tiny"
    asked.batch, asked.steps = asked.batch or (4 if small else 16), asked.steps or (2 if small else 8)
    asked.micro_batch = asked.micro_batch or (2 if small else 4)
    if asked.batch % asked.micro_batch:
        raise SystemExit("--batch must be a multiple of --micro-batch")
    conversations = samples(asked.batch * (asked.warm + asked.steps), asked)
    rows = []
    for side in asked.sides.split(","):
        model, pace = build(asked), Pace(asked)  # anew, for the Trainer's side leaves a copy of the projector
        with spending(asked.device) as spent:
            if side == "trainer":
                trained = with_the_trainer(model, conversations, asked, pace)
            else:
                trained = in_our_loop(side, model, conversations, asked, pace)
        mean = sum(len(afresh(model, model.module).encode(one)[0]) for one in conversations[:16]) / 16
        rows.append(
            {
                "side": "plain PEFT and Trainer, LoRA" if side == "trainer" else f"our loop, {side}",
                "decoder layers": str(model.module.config.text_config.num_hidden_layers),
                "trained parameters": f"{trained:,}",
                "rows at once": str(asked.micro_batch),
                "tokens a sample": f"{mean:.0f}",
                "samples per second": f"{pace.rate:.2f}",
                "peak GB beyond the model": f"{spent.peak:.2f}",
            }
        )
        del model
    first = float(rows[0]["samples per second"])
    for row in rows:
        row["this / first"] = f"{float(row['samples per second']) / first:.2f}x"
    table("Training", asked, rows)


if __name__ == "__main__":
    main()
