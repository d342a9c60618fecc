"""Finished conversations, stored under everything that determines them: a restart loses none, and no run simulates one again."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from subterra_api.digest import canonical, sha256, short
from subterra_jobs.errors import InfrastructureError
from subterra_jobs.evaluate.simulate.conversation import Conversation
from subterra_jobs.evaluate.simulate.vllm_client import Reply
from subterra_jobs.llm.response_cache import cache_key
from subterra_jobs.store.append_log import AppendLog, GroupCommit
from subterra_jobs.store.artifact_store import ArtifactStore

SIMULATION_VERSION = 1
"""Incremented when the same customer and agent would have a different conversation."""
_LATER_FIELDS = ("cache_read", "route")
"""Fields of replies that versions before them do not know: stored next to the conversation, where those pass over them."""


class ConversationCache:
    """Conversations of one arm in `dialogues/<digest>/`, read once, at the first lookup."""

    def __init__(self, store: ArtifactStore, arm: str, simulator: str) -> None:
        """`arm` and `simulator` are fingerprints."""
        self._store, self._folder = store, f"dialogues/{cache_key(SIMULATION_VERSION, arm, simulator)}"
        self._commit = GroupCommit[bytes](AppendLog(store, self._folder).append)
        self._known: dict[str, Conversation] | None = None
        self._added: dict[str, Conversation] = {}

    def get(self, scenario: str) -> Conversation | None:
        """The finished conversation of this scenario, also a failed one that was added by this process, or `None`."""
        if scenario in self._added:
            return self._added[scenario]
        if self._known is None:
            try:
                contents = self._store.read_all(self._folder).values()
            except OSError as error:
                raise InfrastructureError(f"cannot read finished conversations: {error}; check the artifact store") from None
            self._known = dict(record for content in contents for record in _records(content))
        return self._known.get(scenario)

    async def add(self, scenario: str, conversation: Conversation) -> None:
        """Returns once it is on disk. A failed conversation is not stored: the next attempt may succeed."""
        self._added[scenario] = conversation
        if conversation.error is not None:
            return
        dialogue = asdict(conversation)
        more = [{name: reply.pop(name) for name in _LATER_FIELDS} for reply in dialogue["replies"]]
        for reply in dialogue["replies"]:
            del reply["messages"]  # those of turns with tool calls are in the chat
        row = {"scenario": scenario, "dialogue": dialogue} | ({"more": more} if any(any(each.values()) for each in more) else {})
        try:
            await self._commit.add([canonical(row | {"check": _checksum(row)})])
        except OSError as error:
            raise InfrastructureError(f"cannot store a conversation: {error}; check the artifact store") from None


def _records(content: bytes) -> Iterator[tuple[str, Conversation]]:
    """Intact records; others are simulated again."""
    for line in content.splitlines():
        try:
            row = json.loads(line)
            if row.pop("check") == _checksum(row):
                yield row["scenario"], _conversation(row["dialogue"], row.get("more"))
        except (ValueError, KeyError, TypeError):
            continue


def _conversation(row: dict[str, Any], more: Sequence[dict[str, Any]] | None) -> Conversation:
    replies = tuple(
        Reply(**each, cache_read=later.get("cache_read", 0), route=tuple((hub, to) for hub, to in later.get("route", ())))
        for each, later in zip(row["replies"], more or [{}] * len(row["replies"]), strict=True)
    )
    return Conversation(**row | {"chat": tuple(row["chat"]), "replies": replies})


def _checksum(row: dict[str, Any]) -> str:
    return short(sha256(row), 16)
