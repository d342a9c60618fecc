"""A piece of work as it is traced."""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Attributes = Mapping[str, Any]


@dataclass
class Span:
    """A piece of work, kept as plain data until it has ended: nothing of it can fail or block."""

    name: str
    attributes: dict[str, Any]
    client: bool = False
    """Whether it is a call to another service."""
    began: int | None = field(default_factory=time.time_ns)
    ended: int = 0
    events: list[tuple[str, int, Attributes]] = field(default_factory=list)
    error: str | None = None
    """Why it failed; `None` otherwise."""
    id: int = field(default_factory=lambda: random.getrandbits(63) + 1)

    def begin(self) -> None:
        """Sets the time from which it counts; the first one stays."""
        self.began = self.began or time.time_ns()

    def add_event(self, name: str, attributes: Attributes) -> None:
        """Notes that something happened now."""
        self.events.append((name, time.time_ns(), attributes))
