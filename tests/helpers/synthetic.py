"""Small tables in the format of each of the twelve, with predictions that exercise the rules."""

from __future__ import annotations

import base64
import csv
import io
from pathlib import Path

from PIL import Image


def png(shade: int) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (24, 24), (shade % 256, (7 * shade) % 256, (31 * shade) % 256)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _mme():
    rows, predictions = [], {}
    answers = ["Yes", "No."] * 3 + ["Yes", "Yes", "maybe", "no"]
    for i, answer in enumerate(answers):
        category = ["color", "count", "existence", "code_reasoning", "color"][i // 2]
        rows.append(
            {
                "index": i,
                "image": png(i // 2),
                "image_path": f"{category}/{i // 2}.png",
                "category": category,
                "question": f"Is thing {i} red? Please answer yes or no.",
                "answer": ["Yes", "No"][i % 2],
            }
        )
        predictions[str(i)] = answer
    return rows, predictions


def _mmbench():
    rows, predictions = [], {}
    names = ["cat", "dog", "None", "NA"]
    for i in range(3):
        for turn in range(4):
            index = i + turn * 1_000_000
            options = names[turn:] + names[:turn]
            right = "ABCD"[options.index(names[i])]
            rows.append(
                {
                    "index": index,
                    "image": png(10 + i) if turn == 0 else str(i),
                    "question": "What is it?",
                    "answer": right,
                }
                | dict(zip("ABCD", options, strict=True))
                | {"hint": "", "category": f"kind{i % 2}", "split": "dev"}
                | {"l2-category": "coarse_perception"}
            )
            predictions[str(index)] = right if i == 0 else (f"{right}. " if turn or i == 1 else "the dog")
    return rows, predictions


def _choices(split=""):
    rows, predictions = [], {}
    replies = ["A", "It is B.", "the red one", "no idea", "c", "D: blue", ""]
    for i, reply in enumerate(replies):
        row = {"index": i, "image": png(20 + i), "question": f"Which colour has {i}?", "answer": "ABCD"[i % 4]}
        row |= {"A": "red", "B": "green", "C": "7", "D": "blue", "category": ["chart", "map"][i % 2]}
        rows.append(row | ({"split": split} if split else {}))
        predictions[str(i)] = reply
    return rows, predictions


def _mmmu():
    rows, predictions = _choices("validation")
    rows[0] |= {"question": "Compare <image 1> with <image 2> now.", "image": repr([png(90), png(91)])}
    rows[1] |= {"A": "", "B": "", "C": "", "D": "", "answer": "seventeen"}
    predictions["1"] = "It is seventeen"
    return rows, predictions


def _ocrvqa():
    golds = ["['Jane Doe', 'J. Doe']", "1984", "007", "['None']", "NA", "1.50"]
    replies = ["jane doe ", "1984", "7", "none", "NA", "1.50"]
    rows = [{"index": i, "image": png(30 + i), "question": "Who?", "answer": gold} for i, gold in enumerate(golds)]
    return rows, {str(i): reply for i, reply in enumerate(replies)}


def _mia():
    parts = [
        ['mention "the cat"', "end with a full stop"],
        ['mention "the dog\'s hat"'],
        ["write only in capital letters", "end with a full stop", "use exactly 3 words"],
    ]
    weights = [[4, 6], [10], [3, 3, 4]]
    replies = ["The cat sits", "It is the dog's hat. The response is: 'no'.", "THE DOG."]
    rows = [
        {
            "index": i,
            "image": png(40 + i),
            "question": "Describe the picture. It's fun.",
            "components": repr(part),
            "component_weight": repr(weight),
            "component_type": repr([f"kind{j}" for j in range(len(part))]),
            "num_of_component": len(part),
            "type": "easy",
        }
        for i, (part, weight) in enumerate(zip(parts, weights, strict=True))
    ]
    return rows, {str(i): reply for i, reply in enumerate(replies)}


def _mmdu():
    rows = [
        {
            "index": i,
            "image": repr([png(50 + 2 * i), png(51 + 2 * i)]),
            "question": repr(["What is in <ImageHere>?", "And what is in <ImageHere>? Compare them."]),
            "answer": repr(["A cat.", "A dog; it is bigger."]),
        }
        for i in range(2)
    ]
    return rows, {"0": ["a cat", "it's a 'dog'\n"], "1": ["", "None"]}


def _mathvista():
    kinds = [
        ("free_form", "integer", "", "", "42", "There are 42 of them"),
        ("free_form", "float", "", "", "0.6", "0.6"),
        ("multi_choice", "text", "['red', 'green']", "B", "green", "(B)"),
        ("multi_choice", "text", "['red', 'green']", "A", "red", "A"),
        ("free_form", "list", "", "", "[1, 2]", "[1, 2]"),
        ("free_form", "integer", "", "", "0", "0"),
        ("free_form", "integer", "", "", "12", "many"),
    ]
    rows, predictions = [], {}
    for i, (question_type, answer_type, choices, option, answer, reply) in enumerate(kinds):
        question = "How many?" if answer_type == "integer" else "Which? Choices:\n(A) red\n(B) green"
        if answer_type == "list":
            question = "Hint: Please answer the question requiring a Python list as an answer. Which years?"
        rows.append(
            {"index": i, "image": png(60 + i), "question": question, "answer": answer, "question_type": question_type}
            | {
                "answer_type": answer_type,
                "choices": choices,
                "answer_option": option,
                "task": "counting",
                "skills": "['count']",
            }
        )
        predictions[str(i)] = reply
    return rows, predictions


def _mathvision():
    kinds = [
        ("[]", "42", "42.0"),
        ("[]", "7", "A"),
        ("[]", r"\frac{1}{2}", "0.5"),
        ("['1', '2', '3']", "B", "B"),
        ("['1', '2', '3']", "C", "the answer is (A)"),
        ("[]", "3", "I count 3 apples"),
        ("[]", "9", "open('stolen','w').write('x')"),
    ]
    rows, predictions = [], {}
    for i, (choices, answer, reply) in enumerate(kinds):
        question = "Solve it. Choices: (A) 1 (B) 2 (C) 3" if choices != "[]" else "Solve it."
        row = {"index": i, "image": png(70 + i), "question": question, "choices": choices, "answer": answer}
        rows.append(row | {"category": ["algebra", "counting"][i % 2], "level": 1})
        predictions[str(i)] = reply
    return rows, predictions


def _pope():
    rows, predictions = [], {}
    for i, reply in enumerate(["Yes", "yes, there is", "No", "no", "Unknown", "Yes and no", "No", "yes"]):
        row = {"index": i, "image": png(80 + i), "question": "Is there a cat?", "answer": ["Yes", "No"][i % 2]}
        rows.append(row | {"category": ["random", "random,popular", "popular", "adversarial"][i % 4]})
        predictions[str(i)] = reply
    return rows, predictions


def _hallusion():
    rows, predictions = [], {}
    replies = iter(["Yes", "No", "Yes", "yes", "perhaps", "No", "Yes", "No"])
    for group in range(2):
        for figure in range(2):
            for question in range(2):
                index = f"VD_figure_{group}_{figure}_{question}_0"
                rows.append(
                    {"index": index, "image": png(100 + 2 * group + figure), "question": "Is it so?"}
                    | {"answer": ["Yes", "No"][question], "category": "VD"}
                    | {"l2-category": ["figure", "map"][group]}
                )
                predictions[index] = next(replies)
    return rows, predictions


TABLES = {
    "MME": _mme,
    "MMBench": _mmbench,
    "SEEDBench2_Plus": _choices,
    "OCRVQA": _ocrvqa,
    "ScienceQA": _choices,
    "MMMU": _mmmu,
    "MIA-Bench": _mia,
    "MMDU": _mmdu,
    "MathVista": _mathvista,
    "MathVision": _mathvision,
    "POPE": _pope,
    "HallusionBench": _hallusion,
}


def write(rows: list[dict[str, object]], path: Path) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t", quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
    return path
