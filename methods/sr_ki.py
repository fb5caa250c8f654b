"""SR-KI: facts as keys and values beside one layer's attention, which learns to find those of the item asked about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from benchmarks.records import Conversation, KnowledgeItem
from methods.base import (
    Batch,
    Coefficient,
    DecoderShapes,
    InjectableModel,
    InjectionMethod,
    LinearShapes,
    MemoryNeeds,
    Paper,
    Resources,
    Tensor,
    Tensors,
    Variant,
)
from methods.components.entry_settings import EntrySettings


class SRKI(InjectionMethod):
    """Attention + O V sum_i w_i v_i in one layer, w = softmax of (M h) k_i over entries i, and over nothing.

    Paper: Yu et al., "SR-KI: Scalable and Real-Time Knowledge Integration into LLMs via Supervised Attention", AAAI
        2026, arXiv 2511.06446, after Wang et al., "KBLaM: Knowledge Base augmented Language Model", ICLR 2025.
    Interpretation: ours, from SR-KI's abstract and KBLaM's code; SR-KI's code was not found. An entry is an item's
        picture, a field and its value; so are its name, and its text if it has no facts. The layer is where the
        untouched base finds the items of the training data best, by the loss that then supervises: -log of the weight
        of all entries of the right item, at each token that predicts an answer.
    Differences: the softmax is not joint with the tokens', whose sum no attention of transformers returns; a trained
        score of nothing takes their place. There is one head. A new query head and the adapter of keys, both linear,
        are one matrix M; V adapts values, and O is the layer's own projection. The base encodes the entries, once, and
        no sentence encoder. Each token has its own ``top_k``, so that other rows do not matter. KBLaM's questions
        without an answer are left out. Entries of a later stage are seen from its first step on. The projector is
        trained, as in every row.
    Cost: once, a forward pass for each entry. M and V have 2 d^2 parameters, 33,554,433 in all on LLaVA-1.5-7B. An
        entry is two vectors in float32, in memory and in the adapter, which ``plan`` leaves out, and in training a
        score at each token. It can be neither merged into the weights nor exported to PEFT.
    """

    name = "sr-ki"
    summary = "facts as keys and values beside one layer's attention, which learns to find them"
    paper = Paper("SR-KI: Knowledge Integration via Supervised Attention", "https://arxiv.org/abs/2511.06446")
    interpretation = (
        "ours, from the abstract and KBLaM's code: the base encodes the entries, the subject is the picture, "
        "their softmax is not the tokens', and the weight of all entries of the right item is supervised"
    )
    Settings = EntrySettings
    settings: EntrySettings
    coefficient = Coefficient("coefficient", (0.1, 1.0, 10.0))
    variants: ClassVar[Mapping[str, Variant]] = {
        "unsupervised": Variant({"coefficient": 0.0}, "the same without the retrieval loss, as KBLaM is trained"),
    }

    _data: Sequence[Conversation] = ()
    _own: Mapping[str, Sequence[int]]

    def validate_layers(self, layers: LinearShapes) -> None:
        """Refuse a layer that does not exist, or has no attention."""
        self.adapter_parameters(layers)

    def adapter_parameters(self, layers: LinearShapes) -> int:
        """M, V and the score of nothing."""
        from methods.components.entry_attention import widths

        width, output = widths(layers, self.settings.layer)
        return width * (width + output) + 1

    def memory_needs(self, shapes: DecoderShapes) -> MemoryNeeds:
        """What is trained; the number of entries is not known here."""
        projector = shapes.projector if self.settings.projector_learning_rate > 0 else 0
        return MemoryNeeds(self.adapter_parameters(shapes.linears) + projector, keeps_inputs=False)

    def training_data(self, knowledge: Sequence[KnowledgeItem], resources: Resources) -> list[Conversation]:
        """The data that the setting names; a conversation about no item has no retrieval loss."""
        self._data = data = super().training_data(knowledge, resources)
        return data

    def prepare(self, model: InjectableModel, resources: Resources) -> Tensors:
        """Choose the layer and encode the entries; from the second stage on, those that are new."""
        from methods.components.knowledge_entries import prepared_entries

        prepared, self._own = prepared_entries(model, resources, self.settings, self._data)
        return prepared

    def attach(self, model: InjectableModel, prepared: Tensors) -> None:
        """Put the entries beside the layer's attention; what is retrieved is 0 at first."""
        from methods.components.entry_attention import attach_prepared

        attach_prepared(model, prepared, self.settings).record = self.settings.coefficient > 0

    def load_previous_stage(self, model: InjectableModel, exported: Tensors) -> None:
        """Continue with the same M and V, and with all entries so far."""
        from methods.components.entry_attention import load_trained

        load_trained(model, exported)

    def penalty(self, model: InjectableModel, batch: Batch, logits: Tensor) -> Tensor | None:
        """The retrieval loss, a mean over the supervised tokens."""
        from methods.components.entry_attention import supervised_retrieval

        if not self.settings.coefficient:
            return None
        own = [self._own.get(sample, ()) for sample in batch.conversation_ids]
        loss = supervised_retrieval(model, batch["labels"], own)
        return None if loss is None else self.settings.coefficient * loss

    def export(self, model: InjectableModel) -> Tensors:
        """Entries, M, V, the score of nothing, and the projector."""
        from methods.components.entry_attention import export_entries

        return export_entries(model)

    def export_stage_state(self, model: InjectableModel) -> Tensors:
        """The entries so far, and their layer."""
        from methods.components.entry_attention import stage_entries

        return stage_entries(model)

    def detach(self, model: InjectableModel) -> None:
        """Remove the entries and the trained projector."""
        from methods.components.entry_attention import remove_entries

        remove_entries(model)

    def restore(self, model: InjectableModel, exported: Tensors) -> None:
        """Put the entries where they were."""
        from methods.components.entry_attention import restore_entries

        restore_entries(model, exported, self.settings)

    def scale_update(self, model: InjectableModel, exported: Tensors, factor: float) -> Tensors:
        """V times the factor, the projector on the line from the base."""
        from methods.components.entry_attention import scale_values

        return {**super().scale_update(model, exported, factor), **scale_values(exported, factor)}

    def diagnostics(self, prepared: Tensors) -> dict[str, float]:
        """The layer, the number of entries, and what the untouched base finds there."""
        from methods.components.knowledge_entries import describe

        return describe(prepared)
