"""Answers per second of our engine against plain ``generate`` at batch 1, at full shape.

    python tests/gpu/answering.py [--questions 256] [--batch 32] [--new-tokens 16] [--per-picture 1]

Both ask the same model the same prompts, greedily, with the same limit. Random weights rarely end an answer, so each
takes the limit. Equal answers are counted by their text; where they differ, two tokens were as likely as each other up
to rounding (both sides compute in the same type, but in other shapes). Peak memory is what is taken beyond the model.
"""

from __future__ import annotations

import torch
from full_shape import afresh, build, parser, questions, settled, spending, table

from harness.models.batched_generation import answer


def plainly(model, asked_questions, _asked):
    """One after the other, by the Hugging Face model's own ``generate``."""
    said = []
    for question in asked_questions:
        batch = model.generation_batch([(list(question.turns), question.pictures)])
        with torch.inference_mode():
            ids = model.module.generate(**batch, do_sample=False, num_beams=1, max_new_tokens=question.max_new_tokens)
        new = ids[0, batch["input_ids"].shape[1] :]
        text = model._tokenizer.decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        said.append(text.strip())
    return said


def by_our_engine(model, asked_questions, asked):
    """As a run answers them."""
    found = {one.question_id: one for part in answer(model, asked_questions, batch_size=asked.batch) for one in part}
    failed = [one.error for one in found.values() if one.error]
    if failed:
        raise SystemExit(f"{len(failed)} questions failed: {failed[0]}")
    return [found[question.id].texts[0] for question in asked_questions]


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--questions", type=int)
    made.add_argument("--batch", type=int)
    made.add_argument("--new-tokens", type=int)
    made.add_argument("--per-picture", type=int, default=1, help="questions about each picture")
    asked = settled(made.parse_args())
    small = asked.shape == "tiny"
    asked.questions, asked.batch = asked.questions or (8 if small else 256), asked.batch or (4 if small else 32)
    asked.new_tokens = asked.new_tokens or (4 if small else 16)
    model = build(asked)
    wanted = questions(asked.questions, asked.per_picture, asked.new_tokens, asked)
    rows, said = [], {}
    for name, run in (("generate at batch 1", plainly), (f"our engine, batch {asked.batch}", by_our_engine)):
        model = afresh(model, model.module)
        run(model, wanted[:2], asked)  # warms up
        model = afresh(model, model.module)
        with spending(asked.device) as spent:
            said[name] = run(model, wanted, asked)
        rows.append(
            {
                "side": name,
                "decoder layers": str(model.module.config.text_config.num_hidden_layers),
                "questions": str(len(wanted)),
                "a picture": str(asked.per_picture),
                "new tokens": str(asked.new_tokens),
                "answers per second": f"{len(wanted) / spent.seconds:.2f}",
                "peak GB beyond the model": f"{spent.peak:.2f}",
            }
        )
    first, second = said.values()
    equal = sum(a == b for a, b in zip(first, second, strict=True)) / len(first)
    for row, share in zip(rows, ("", f"{equal:.2%}"), strict=True):
        row["equal answers"] = share
        row["this / first"] = f"{float(row['answers per second']) / float(rows[0]['answers per second']):.1f}x"
    table("Answering", asked, rows)


if __name__ == "__main__":
    main()
