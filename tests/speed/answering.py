"""Our batched generation against VLMEvalKit's own loop, in one process, on the twelve mini benchmarks.

    python tests/speed/answering.py [--rows N] [--repeats R] [--benchmarks mini-MME,...] [--model FOLDER]

Both use the same model and prompts with greedy decoding and the same limits. VLMEvalKit's side is its own
``infer_data`` (``infer_data`` of ``inference_mt`` for several turns) over its own dataset object, with a wrapper that
works like its wrappers of Hugging Face LLaVAs: open the pictures, the processor on one sample, ``generate``, decode.
Pictures are on disk and tables are read before the clock starts, on both sides.

Prints for each benchmark medians of interleaved repetitions, wall and processor time, and the share of equal answers;
then each row that differs, with the gap between the two best logits at the first token that differs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import types
from dataclasses import dataclass, field
from pathlib import Path

import torch

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent.parent), str(HERE)]

from side_by_side import Clock, header, with_empty_caches  # noqa: E402

from benchmarks.registry import get_benchmark  # noqa: E402
from benchmarks.retention import questions_batch  # noqa: E402
from benchmarks.retention_specs import MINI_PREFIX, SPECS  # noqa: E402
from benchmarks.vlmeval import adapter as vlmeval_adapter  # noqa: E402
from benchmarks.vlmeval.prompts import turn_text  # noqa: E402
from harness.config.settings import resolve  # noqa: E402
from harness.models.batched_generation import answer  # noqa: E402
from harness.models.llava import LlavaModel  # noqa: E402


def vlmeval_modules():
    """VLMEvalKit's two loops and its base class, without the modules that import everything."""
    kit = vlmeval_adapter.safe_kit()
    place = Path(sys.modules["vlmeval"].__path__[0])
    config, models = types.ModuleType("vlmeval.config"), types.ModuleType("vlmeval.vlm")
    config.supported_VLM, models.__path__ = {}, [str(place / "vlm")]
    sys.modules.update({"vlmeval.config": config, "vlmeval.vlm": models})
    sys.modules["vlmeval.dataset"].DATASET_TYPE = lambda *_, **__: ""
    from vlmeval import inference, inference_mt
    from vlmeval.vlm.base import BaseModel

    return kit, inference, inference_mt, BaseModel


def wrapper_class(base):
    """VLMEvalKit's interface to a Hugging Face LLaVA that is already loaded."""

    class Wrapped(base):
        INTERLEAVE = True

        def __init__(self, module, processor, tokens):
            super().__init__()
            self.module, self.processor, self.tokens = module, processor, tokens

        def generate_inner(self, message, dataset=None):
            return self.chat_inner([{"role": "user", "content": message}])

        def chat_inner(self, messages, dataset=None):
            inputs = self.inputs(messages)
            ids = self.module.generate(
                **inputs, do_sample=False, num_beams=1, max_new_tokens=self.tokens, pad_token_id=self.pad
            )
            return self.text(ids[0, inputs["input_ids"].shape[1] :])

        def inputs(self, messages):
            from PIL import Image

            turns, pictures = [], []
            for message in messages:
                if message["role"] == "assistant":
                    parts = message["content"]
                    turns.append({"role": "assistant", "content": "\n".join(part["value"] for part in parts)})
                    continue
                turns.append({"role": "user", "content": turn_text(message["content"])})
                for part in message["content"]:
                    if part["type"] == "image":
                        pictures.append(Image.open(part["value"]).convert("RGB"))
            prompt = self.processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
            # The template contains <s>.
            return self.processor(
                text=prompt, images=pictures or None, return_tensors="pt", add_special_tokens=False
            ).to(self.module.device)

        def text(self, ids):
            text = self.processor.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            return text.strip()

        @property
        def pad(self):
            return self.processor.tokenizer.pad_token_id

    return Wrapped


@dataclass
class Side:
    """Seconds of the repetitions, and the answers by question id (one text for each turn)."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    answers: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def note(self, clock):
        self.wall.append(clock.wall)
        self.cpu.append(clock.cpu)

    @property
    def medians(self):
        return statistics.median(self.wall), statistics.median(self.cpu)


def compare(opened, questions, model, wrapped, loops, kit, folder, args):
    """Both sides over one benchmark, one after the other, ``args.repeats`` times."""
    theirs, ours = Side(), Side()
    ids = {question.id for question in questions}
    multi = opened.spec.family == "mmdu"
    wrapped.tokens = opened.max_new_tokens
    for turn in range(args.repeats):
        dataset = vlmeval_adapter.build_dataset(kit, opened.spec, opened.data, folder / "lmu")
        dataset.data = dataset.data[dataset.data["index"].astype(str).isin(ids)]
        for row in range(len(dataset.data)):
            dataset.build_prompt(dataset.data.iloc[row])  # unpacks its pictures before the clock starts
        kept: dict = {}
        loop = loops[multi]
        loop.dump = lambda found, path, kept=kept: kept.update(found)  # writing every ten rows takes no time
        loop.tqdm = lambda rows, **_: rows
        with Clock() as clock:
            loop.infer_data(wrapped, "run", str(folder), dataset, str(folder / f"{opened.name}-{turn}.none"))
        theirs.note(clock)
        theirs.answers = {str(key): tuple(said) if multi else (said,) for key, said in kept.items()}
        fresh = with_empty_caches(model)
        with Clock() as clock:
            found = [one for batch in answer(fresh, questions, batch_size=args.batch_size) for one in batch]
        ours.note(clock)
        ours.answers = {one.question_id: one.texts for one in found}
        assert not any(one.error for one in found)
    return theirs, ours


@torch.inference_mode()
def gap(model, wrapped, question, theirs, ours):
    """The first turn that differs, and the gap between the two best logits at the first token that differs."""
    turn = next(i for i, pair in enumerate(zip(theirs, ours, strict=True)) if pair[0] != pair[1])
    texts = [text for pair in zip(question.turns, theirs, strict=False) for text in pair][: 2 * turn + 1]
    markers = sum(text.count("<image>") for text in texts[::2])
    batch = model.generation_batch([(texts, question.pictures[:markers])])
    said = model.module.generate(
        **batch,
        do_sample=False,
        max_new_tokens=question.max_new_tokens,
        pad_token_id=wrapped.pad,
        output_logits=True,
        return_dict_in_generate=True,
    )
    ids = said.sequences[0, batch["input_ids"].shape[1] :]
    alike = [a == b for a, b in zip(wrapped.text(ids), ours[turn], strict=False)]
    shared = alike.index(False) if False in alike else len(alike)
    place = next((i for i in range(len(ids)) if len(wrapped.text(ids[: i + 1])) > shared), len(ids) - 1)
    best = said.logits[place][0].float().topk(2).values
    return turn, float(best[0] - best[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="only so many questions of each benchmark (whole clusters)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--benchmarks", default=",".join(MINI_PREFIX + spec.name for spec in SPECS))
    parser.add_argument("--model", type=Path, default=resolve("mini").settings.model)
    parser.add_argument("--workspace", type=Path, help="folder for unpacked pictures, to be used again")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report(args, Path(folder))


def report(args, folder):
    opened = [get_benchmark(each).open(args.workspace or folder / "ours") for each in args.benchmarks.split(",")]
    questions_batch(opened)
    questions = {each.name: each.questions(args.rows) for each in opened}  # in another process, as in a run
    kit, single, several, base = vlmeval_modules()
    from transformers import AutoProcessor

    model = LlavaModel.load(args.model, torch.device("cpu"), torch.float32)
    processor = AutoProcessor.from_pretrained(args.model, local_files_only=True)
    wrapped = wrapper_class(base)(model.module, processor, 1)
    total, different = [Side(), Side()], []
    header("VLMEvalKit's loop against the answering engine")
    print(f"{'benchmark':>22} {'rows':>5} {'its s':>8} {'cpu':>8} {'ours s':>8} {'cpu':>8} {'ratio':>7} {'equal':>8}")
    for each in opened:
        loops = {False: single, True: several}
        sides = compare(each, questions[each.name], model, wrapped, loops, kit, folder, args)
        different += [(each, question, sides) for question in questions[each.name] if not same(question, sides)]
        show(each.name, sides)
        for whole, side in zip(total, sides, strict=True):
            whole.wall = [a + b for a, b in zip(whole.wall or [0.0] * args.repeats, side.wall, strict=True)]
            whole.cpu = [a + b for a, b in zip(whole.cpu or [0.0] * args.repeats, side.cpu, strict=True)]
            whole.answers |= {f"{each.name} {key}": said for key, said in side.answers.items()}
    show("all", total)
    for each, question, sides in different:
        theirs, ours = (side.answers[question.id] for side in sides)
        turn, difference = gap(model, wrapped, question, theirs, ours)
        print(f"{each.name} {question.id} turn {turn + 1}: logit gap {difference:.2e}")
        print(f"    its  {theirs[turn]!r}\n    ours {ours[turn]!r}")


def same(question, sides):
    return sides[0].answers[question.id] == sides[1].answers[question.id]


def show(name, sides):
    theirs, ours = sides
    equal = sum(theirs.answers[key] == said for key, said in ours.answers.items()) / len(ours.answers)
    (wall, cpu), (our_wall, our_cpu) = theirs.medians, ours.medians
    print(
        f"{name:>22} {len(ours.answers):>5} {wall:>8.2f} {cpu:>8.2f} {our_wall:>8.2f} {our_cpu:>8.2f} "
        f"{wall / our_wall:>6.1f}x {equal:>8.2%}",
        flush=True,
    )


if __name__ == "__main__":
    main()
