"""Gives freed memory back to the system while a model is trained on a CPU."""

import ctypes
import sys
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

STEPS = 4
"""Between two times that it is given back, which takes a small part of a second."""


class FreedMemoryCallback(TrainerCallback):  # type: ignore[misc]
    """Trims the heap now and then.

    Without padding no two steps ask for the same sizes, so glibc's heap falls to pieces and grows with every step, until the pod
    has no memory left. Elsewhere than on Linux with glibc it does nothing.
    """

    def __init__(self) -> None:
        found = ctypes.CDLL(None) if sys.platform == "linux" else None
        self._trim = getattr(found, "malloc_trim", None)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """After every `STEPS` steps."""
        if self._trim is not None and state.global_step % STEPS == 0:
            self._trim(0)
