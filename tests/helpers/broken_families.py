"""Model families that each break one thing, with the check that must name it."""

from __future__ import annotations

import dataclasses

import torch

from benchmarks.records import IMAGE
from harness.models.base import IGNORE_INDEX
from harness.models.processor_model import ProcessorModel


class WrongSide(ProcessorModel):
    """Pads prompts on the right."""

    def process(self, rows, *, left):
        return super().process(rows, left=False)


class TrainingOnTheLeft(ProcessorModel):
    """Pads prompts for calibration on the left."""

    def prompt_batch(self, conversations):
        firsts = [(sample.turns[0].text, sample.pictures) for sample in conversations]
        return self.generation_batch([([text], shown[: text.count(IMAGE)]) for text, shown in firsts])


class DroppedPicture(ProcessorModel):
    """Shows the first picture in the place of all others."""

    def process(self, rows, *, left):
        same = [dataclasses.replace(row, pictures=row.pictures[:1] * len(row.pictures)) for row in rows]
        return super().process(same, left=left)


class BlackPictures(ProcessorModel):
    """Gives the model no pixels."""

    def process(self, rows, *, left):
        batch = super().process(rows, left=left)
        return {name: value * 0 if name == "pixel_values" else value for name, value in batch.items()}


class WrongTargets(ProcessorModel):
    """Adapts the attention alone."""

    linear_targets = r".*language_model\.layers\.\d+\.self_attn\.[qkvo]_proj"


class TooManyTargets(ProcessorModel):
    """Adapts the head, too."""

    @property
    def linear_targets(self):
        return f"{super().linear_targets}|lm_head"


class WrongProjector(ProcessorModel):
    """Names a module that there is not."""

    projector = "connector"


class NoEnd(ProcessorModel):
    """Does not supervise the token that ends an answer."""

    def labels(self, row, ids):
        return [IGNORE_INDEX if label in self.stops else label for label in super().labels(row, ids)]


class QuestionsToo(ProcessorModel):
    """Supervises everything."""

    def labels(self, row, ids):
        return list(ids)


class ShiftedLabels(ProcessorModel):
    """Shifts the labels, as for a model that does not do it itself."""

    def labels(self, row, ids):
        return [*super().labels(row, ids)[1:], IGNORE_INDEX]


class NamelessRows(ProcessorModel):
    """Makes a plain dictionary of the batch."""

    def training_batch(self, conversations, cache=None):
        return {**super().training_batch(conversations, cache)}


class OtherPrompt(ProcessorModel):
    """Ends each question with a space."""

    def prompt_row(self, texts, pictures):
        return super().prompt_row([*texts[:-1], texts[-1] + " "], pictures)


class DecoderAlone(ProcessorModel):
    """Calls the decoder itself, as the fast engine does."""

    def supervised(self, batch):
        inner = self.inner
        inputs = {name: value for name, value in batch.items() if name not in ("labels", "pixel_values")}
        embeddings = inner.get_input_embeddings()(batch["input_ids"])
        hidden = self.decoder(inputs_embeds=embeddings, attention_mask=inputs["attention_mask"]).last_hidden_state
        targets = batch["labels"][:, 1:]
        chosen = targets != IGNORE_INDEX
        return inner.lm_head(hidden[:, :-1][chosen]).float(), targets[chosen]


class WithoutMask(ProcessorModel):
    """Lets real tokens attend to padding on the left."""

    def generate(self, batch, *arguments):
        return super().generate({**batch, "attention_mask": torch.ones_like(batch["attention_mask"])}, *arguments)


class OneLimit(ProcessorModel):
    """Gives each row the largest limit."""

    def generate(self, batch, limits, *arguments):
        return super().generate(batch, limits if isinstance(limits, int) else max(limits), *arguments)


class NeverCut(ProcessorModel):
    """Does not say that an answer was cut."""

    def generate(self, *arguments):
        return [(text, tokens, False) for text, tokens, _ in super().generate(*arguments)]


class OnePenalty(ProcessorModel):
    """Applies the first row's repetition penalty to all."""

    def generate(self, batch, limits, prefix=None, penalties=None):
        return super().generate(batch, limits, prefix, penalties and penalties[:1] * len(penalties))


class ForgottenDigest(ProcessorModel):
    """Takes the digest of the weights once."""

    def fingerprint(self):
        return self._config_digest


class ChangedBase(ProcessorModel):
    """Changes a weight whenever it answers."""

    def generate(self, *arguments):
        with torch.no_grad():
            next(self.inner.parameters()).add_(1e-3)
        return super().generate(*arguments)


class OwnCopy(ProcessorModel):
    """Computes with layers that it looked up once, so that an adapter changes nothing."""

    def supervised(self, batch):
        import copy

        own = vars(self).setdefault("_own", copy.deepcopy(self.inner))
        other = copy.copy(self)
        other.module = own
        return ProcessorModel.supervised(other, batch)


class MixedFeatures(ProcessorModel):
    """Averages the features of all pictures."""

    def picture_features(self, pictures):
        features = super().picture_features(pictures)
        return features + features.mean(0)


BROKEN = {
    WrongSide: ("check_generation_batch", "padded on the right|in a batch"),
    TrainingOnTheLeft: ("check_calibration", "padded on the left"),
    NamelessRows: ("check_rows_are_named", r"named \[\] instead of"),
    DroppedPicture: ("check_every_picture_counts", "does not see picture 2"),
    BlackPictures: ("check_every_picture_counts", "does not see picture 1"),
    WrongTargets: ("check_targets", "leave out .*mlp"),
    TooManyTargets: ("check_targets", "would change lm_head"),
    WrongProjector: ("check_projector", "no module is called connector"),
    NoEnd: ("check_supervised_tokens", "ends .* is not supervised"),
    QuestionsToo: ("check_supervised_tokens", "supervised is"),
    ShiftedLabels: ("check_supervised_tokens", "not the token at their place"),
    OtherPrompt: ("check_token_ids", "prompt, one picture"),
    DecoderAlone: ("check_logits", "logits differ"),
    WithoutMask: ("check_generation_batch", "in a batch"),
    OneLimit: ("check_limits", "at a limit of 1, expected 1"),
    NeverCut: ("check_limits", "reported as whole"),
    OnePenalty: ("check_repetition_penalty", "with its own penalty"),
    ForgottenDigest: ("check_fingerprint", "does not notice"),
    ChangedBase: ("check_fingerprint", "computing changes"),
    OwnCopy: ("check_adapter", "no gradient reaches|changes no logit"),
    MixedFeatures: ("check_picture_features", "depend on the others"),
}
"""By family: the check that names its fault, and what it says."""
