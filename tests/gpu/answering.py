"""Answers per second of batched generation against plain ``generate`` at batch 1, at full shape.

    python tests/gpu/answering.py [--questions 256] [--batch 32] [--new-tokens 16] [--per-picture 1]

Both use the same model, prompts and limit, greedily. A model with random weights rarely ends an answer, so each answer
has the largest length. The share of equal answers is by text; where they differ, two tokens were equally likely up to
rounding (both sides compute in the same type, but with other shapes). Peak memory does not include the model.
"""

from __future__ import annotations

import torch
from full_shape import build, measure, parser, questions, resolve_options, table, with_empty_caches

from harness.models.batched_generation import answer


def with_plain_generate(model, asked, _args):
    """One after the other, by the Hugging Face model's own ``generate``."""
    answers = []
    for question in asked:
        batch = model.generation_batch([(list(question.turns), question.pictures)])
        with torch.inference_mode():
            ids = model.module.generate(**batch, do_sample=False, num_beams=1, max_new_tokens=question.max_new_tokens)
        new = ids[0, batch["input_ids"].shape[1] :]
        text = model._tokenizer.decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        answers.append(text.strip())
    return answers


def with_our_engine(model, asked, args):
    """As in a run."""
    answers = {one.question_id: one for part in answer(model, asked, batch_size=args.batch) for one in part}
    failed = [one.error for one in answers.values() if one.error]
    if failed:
        raise SystemExit(f"{len(failed)} questions failed: {failed[0]}")
    return [answers[question.id].texts[0] for question in asked]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--questions", type=int)
    options.add_argument("--batch", type=int)
    options.add_argument("--new-tokens", type=int)
    options.add_argument("--per-picture", type=int, default=1, help="questions about each picture")
    args = resolve_options(options.parse_args())
    small = args.shape == "tiny"
    args.questions, args.batch = args.questions or (8 if small else 256), args.batch or (4 if small else 32)
    args.new_tokens = args.new_tokens or (4 if small else 16)
    model = build(args)
    asked = questions(args.questions, args.per_picture, args.new_tokens, args)
    rows, answers = [], {}
    sides = {"generate at batch 1": with_plain_generate, f"our engine, batch {args.batch}": with_our_engine}
    for name, run in sides.items():
        model = with_empty_caches(model, model.module)
        run(model, asked[:2], args)  # warms up
        model = with_empty_caches(model, model.module)
        with measure(args.device) as usage:
            answers[name] = run(model, asked, args)
        rows.append(
            {
                "side": name,
                "decoder layers": str(model.module.config.text_config.num_hidden_layers),
                "questions": str(len(asked)),
                "a picture": str(args.per_picture),
                "new tokens": str(args.new_tokens),
                "answers per second": f"{len(asked) / usage.seconds:.2f}",
                "peak GB beyond the model": f"{usage.peak:.2f}",
            }
        )
    first, second = answers.values()
    equal = sum(a == b for a, b in zip(first, second, strict=True)) / len(first)
    for row, share in zip(rows, ("", f"{equal:.2%}"), strict=True):
        row["equal answers"] = share
        row["this / first"] = f"{float(row['answers per second']) / float(rows[0]['answers per second']):.1f}x"
    table("Answering", args, rows)


if __name__ == "__main__":
    main()
