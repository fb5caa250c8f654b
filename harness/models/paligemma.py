"""PaliGemma, which reads pictures and prompt in both directions, and has no chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from benchmarks.errors import UserError
from benchmarks.records import IMAGE, Conversation, Picture
from harness.models.base import IGNORE_INDEX
from harness.models.processor_chat import ProcessorChat
from harness.models.processor_model import ProcessorModel, Row

LINES = (
    "{% for message in messages %}{% for part in message.content %}{% if part.type == 'image' %}<image>{% endif %}"
    "{% endfor %}{% endfor %}{% for message in messages %}{% if not loop.first %}{{ '\n' }}{% endif %}"
    "{% for part in message.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}"
)
"""All pictures, and each turn on a line of its own; the processor adds ``<bos>`` after the pictures and a line
break at the end."""


class PaliGemmaModel(ProcessorModel):
    """A ``PaliGemmaForConditionalGeneration`` with its processor; made by ``load``.

    Since a prompt is read in both directions, an answer must not be a part of it while it is learned: each answer of a
    conversation is a row, whose prompt is what comes before.
    """

    architecture: ClassVar[str] = "PaliGemmaForConditionalGeneration"
    own_template = LINES

    def open_chat(self, processor: Any, *, line_break: bool = False) -> ProcessorChat:
        """Pictures and texts, since the folder has no template."""
        return ProcessorChat(processor, sorted(self.stops), line_break=line_break, template=LINES)

    def prompt_row(self, texts: Sequence[str], pictures: Sequence[Picture]) -> Row:
        """The row of a dialogue that the model continues.

        Raises:
            UserError: There is no picture.
        """
        if not pictures:
            raise UserError("it answers questions about pictures alone", location="PaliGemma", hint="give a picture")
        return super().prompt_row(texts, pictures)

    def training_rows(self, sample: Conversation) -> list[Row]:
        """One row for each answer."""
        texts = [turn.text for turn in sample.turns]
        rows = []
        for turn in range(1, len(texts), 2):
            shown = sample.pictures[: sum(text.count(IMAGE) for text in texts[:turn:2])]
            prompt = self.prompt_row(texts[:turn], shown)
            rows.append(Row(prompt.text, prompt.pictures, suffix=self._chat.plain(texts[turn])))
        return rows

    def labels(self, row: Row, ids: list[int]) -> list[int]:
        """The labels of the suffix, which begins after the prompt's line break."""
        prompt = len(self.ids(Row(row.text, row.pictures)))
        return [IGNORE_INDEX] * prompt + ids[prompt:]
