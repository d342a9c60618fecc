"""Finished conversations, in the store under everything that determines them: a kill loses none, and no run plays one again."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from subterra_api.digest import canonical, sha256, short
from subterra_jobs.errors import InfrastructureError
from subterra_jobs.evaluate.simulate.simulation import Dialogue
from subterra_jobs.evaluate.simulate.vllm_client import Reply
from subterra_jobs.llm.response_cache import key_of
from subterra_jobs.store.append_log import GroupCommit, SegmentWriter
from subterra_jobs.store.artifacts import ArtifactStore

PLAY_VERSION = 1
"""Raised when the same customer and the same agent come to have another conversation."""


class DialogueStore:
    """Conversations with one condition's customers, ``dialogues/<digest>/``. Read once, when the first is looked for."""

    def __init__(self, store: ArtifactStore, condition: str, simulator: str) -> None:
        """Both are fingerprints."""
        self._store, self._folder = store, f"dialogues/{key_of(PLAY_VERSION, condition, simulator)}"
        self._commit = GroupCommit[bytes](SegmentWriter(store, self._folder).append)
        self._known: dict[str, Dialogue] | None = None

    def get(self, scenario: str) -> Dialogue | None:
        """The conversation with this scenario's customer, if there was one."""
        if self._known is None:
            try:
                contents = self._store.read_all(self._folder).values()
            except OSError as error:
                raise InfrastructureError(f"conversations cannot be read ({error}); see to the artifact store") from None
            self._known = dict(record for content in contents for record in _records(content))
        return self._known.get(scenario)

    async def keep(self, scenario: str, dialogue: Dialogue) -> None:
        """Returns once it is on disk. One that broke off is not kept: the next attempt may fare better."""
        if dialogue.error is not None:
            return
        row = {"scenario": scenario, "dialogue": asdict(dialogue)}
        try:
            await self._commit.add([canonical(row | {"check": _check(row)})])
        except OSError as error:
            raise InfrastructureError(f"a conversation could not be kept ({error}); see to the artifact store") from None


def _records(content: bytes) -> Iterator[tuple[str, Dialogue]]:
    """Those that are what was written; others are played again."""
    for line in content.splitlines():
        try:
            row = json.loads(line)
            if row.pop("check") == _check(row):
                yield row["scenario"], _dialogue(row["dialogue"])
        except (ValueError, KeyError, TypeError):
            continue


def _dialogue(row: dict[str, Any]) -> Dialogue:
    return Dialogue(**row | {"chat": tuple(row["chat"]), "replies": tuple(Reply(**each) for each in row["replies"])})


def _check(row: dict[str, Any]) -> str:
    return short(sha256(row), 16)
