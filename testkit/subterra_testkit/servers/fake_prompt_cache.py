"""The prompt cache of a fake provider."""

import json
from dataclasses import dataclass, field
from typing import Any

CACHE_MINIMUM = {
    "claude-sonnet-4-5": 1024,
    "claude-sonnet-4-6": 2048,
    "claude-haiku-4-5": 4096,
    "claude-opus-4-6": 4096,
    "claude-sonnet-5-5": 1024,
}
OPENAI_MINIMUM = 1024
CACHE_SECONDS, HOUR = 300.0, 3600.0
BYTES_PER_TOKEN = 4


@dataclass
class PromptCache:
    """The provider's cache of marked system prompts; parts below the model's minimum are never kept."""

    until: dict[tuple[str, str], float] = field(default_factory=dict)

    def count(self, body: dict[str, Any], now: float) -> tuple[int, int, int]:
        """Input tokens: plain, written to the cache, read from it."""
        system = body.get("system", [])
        whole = sum(len(block["text"].encode()) for block in system)
        whole += sum(len(message["content"].encode()) for message in body["messages"])
        whole += len(json.dumps(body["output_config"])) if "output_config" in body else 0
        marked = [index for index, block in enumerate(system) if "cache_control" in block]
        prefix = "".join(block["text"] for block in system[: marked[-1] + 1]) if marked else ""
        kept = len(prefix.encode()) // BYTES_PER_TOKEN
        if not marked or kept < CACHE_MINIMUM.get(body["model"], 1024):
            return whole // BYTES_PER_TOKEN, 0, 0
        known = self.until.get((body["model"], prefix), 0.0) > now
        self.until[body["model"], prefix] = now + (HOUR if self.is_for_an_hour(body) else CACHE_SECONDS)
        rest = whole // BYTES_PER_TOKEN - kept
        return (rest, 0, kept) if known else (rest, kept, 0)

    def is_for_an_hour(self, body: dict[str, Any]) -> bool:
        """Whether a marked part is to be kept for an hour."""
        marks = (block.get("cache_control") or {} for block in body.get("system", []))
        return any(mark.get("ttl") == "1h" for mark in marks)

    def automatic(self, body: dict[str, Any], now: float) -> tuple[int, int]:
        """Tokens that OpenAI writes to its cache and reads from it, without any marks."""
        prefix = "".join(message["content"] for message in body["messages"] if message["role"] == "system")
        kept = len(prefix.encode()) // BYTES_PER_TOKEN
        if kept < OPENAI_MINIMUM:
            return 0, 0
        known = self.until.get((body["model"], prefix), 0.0) > now
        self.until[body["model"], prefix] = now + CACHE_SECONDS
        return (0, kept) if known else (kept, 0)
