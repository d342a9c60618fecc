"""A sentence encoder without a model."""

import zlib
from collections.abc import Sequence

import numpy as np

from subterra_jobs.dialogue.similarity.sentence_encoder import Vectors


class WordCounts:
    """An encoder whose similarity is the share of common words."""

    name = "word counts"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See `Encoder`."""
        self.asked += texts
        rows = np.zeros((len(texts), 512), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.lower().replace(",", " ").replace("?", " ").replace(".", " ").replace("!", " ").split():
                row[zlib.crc32(word.encode()) % 512] += 1
        vectors: Vectors = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1)
        return vectors
