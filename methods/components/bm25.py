"""BM25: how well texts match a query by the words that they share."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

SATURATION, LENGTH = 1.2, 0.75
"""k1 and b, as in Lucene."""
WORD = re.compile(r"\w+")


class BM25:
    """An index of texts.

    A text scores sum over the query's words t of idf(t) f (k1 + 1) / (f + k1 (1 - b + b |text| / mean length)), where f
    is the number of times that t occurs in it, and idf(t) = ln(1 + (N - n + 1/2) / (n + 1/2)) for n of N texts with t.

    Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009; idf as in Lucene.

    Args:
        texts: To be found.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._counts = [Counter(_words(text)) for text in texts]
        lengths = [sum(counts.values()) for counts in self._counts]
        mean = sum(lengths) / len(lengths) if any(lengths) else 1.0
        self._norms = [SATURATION * (1 - LENGTH + LENGTH * length / mean) for length in lengths]
        self._containing = Counter(word for counts in self._counts for word in counts)

    def scores(self, query: str) -> list[float]:
        """One score for each text, at least 0; 0 if it shares no word with the query."""
        words = list(dict.fromkeys(_words(query)))
        weights = {word: self._idf(word) * (SATURATION + 1) for word in words}
        return [
            sum(weights[word] * counts[word] / (counts[word] + norm) for word in words if word in counts)
            for counts, norm in zip(self._counts, self._norms, strict=True)
        ]

    def _idf(self, word: str) -> float:
        containing = self._containing[word]
        return math.log(1 + (len(self._counts) - containing + 0.5) / (containing + 0.5))


def _words(text: str) -> list[str]:
    return WORD.findall(text.casefold())
