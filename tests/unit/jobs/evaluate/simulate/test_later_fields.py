"""Fields that replies got later: stored where versions before them pass over them, and read back."""

import asyncio
import json
from dataclasses import fields
from pathlib import Path

from subterra_jobs.evaluate.simulate.conversation import Conversation
from subterra_jobs.evaluate.simulate.conversation_cache import ConversationCache
from subterra_jobs.evaluate.simulate.vllm_client import Reply
from subterra_jobs.llm.response_cache import CachedResponse, CallUsage, ResponseCache
from subterra_jobs.store.artifact_store import ArtifactStore

BEFORE = {"text", "seconds", "prompt_tokens", "completion_tokens", "finish_reason", "usd", "calls"}
"""Fields of a stored reply that every version knows."""
CHAT = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"})


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for file in sorted(folder.rglob("*.jsonl")) for line in file.read_text().splitlines()]


def test_cache_reads_and_routes_come_back_and_older_versions_find_only_what_they_know(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path.as_uri())
    plain = Conversation(CHAT, (Reply("Hello", 1.0, 10, 2, "stop"),))
    rich = Conversation(CHAT, (Reply("Hello", 1.0, 10, 2, "stop", cache_read=8, route=(("hub", "left"),)),))
    cache = ConversationCache(store, "arm", "simulator")
    asyncio.run(cache.add("one", plain))
    asyncio.run(cache.add("two", rich))
    again = ConversationCache(store, "arm", "simulator")
    assert (again.get("one"), again.get("two")) == (plain, rich)
    for row in lines(tmp_path / "dialogues"):
        assert {name for reply in row["dialogue"]["replies"] for name in reply} == BEFORE  # type: ignore[index]
        assert ("more" in row) == (row["scenario"] == "two")
    assert {field.name for field in fields(Reply)} == BEFORE | {"messages", "cache_read", "route"}


def test_a_response_keeps_its_cache_reads_next_to_what_older_versions_read(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path.as_uri())
    usage = CallUsage(1.0, 4000, 20, "0.01", cache_read=3500)
    asyncio.run(ResponseCache(store, "answers").put("key", CachedResponse("Hello", None, usage)))
    asyncio.run(ResponseCache(store, "answers").put("plain", CachedResponse("Hello", None, CallUsage(1.0, 40, 2, "0"))))
    found = ResponseCache(store, "answers")
    assert [getattr(found.get(key), "usage", None) for key in ("key", "plain")] == [usage, CallUsage(1.0, 40, 2, "0")]
    for row in lines(tmp_path / "answers"):
        assert set(row["took"]) == {"seconds", "input", "output", "usd"}  # type: ignore[call-overload]
        assert row.get("cacheRead") == (3500 if row["key"] == "key" else None)
