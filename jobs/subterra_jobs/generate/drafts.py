"""Paid conversations on their way: one small file each in the store, so that no word is paid twice after a kill."""

import json
from collections.abc import Iterable
from pathlib import Path

from subterra_api.contract import work_path
from subterra_jobs.common.scripted import Utterance
from subterra_jobs.common.store import ArtifactStore
from subterra_jobs.generate.plan import Slot
from subterra_jobs.generate.writer import Conversation


class Drafts:
    """``work/<dataset key>/<slot id>.json``. Rewritten after every turn; `subterra gc` may remove it once the dataset exists."""

    def __init__(self, store: ArtifactStore, dataset_key: str) -> None:
        self._store, self._fs = store, store.fs
        self._path = work_path(dataset_key)
        self._folder = f"{store.root}/{self._path}"

    def load(self, slots: Iterable[Slot]) -> dict[str, Conversation]:
        """What was saved for these slots. A draft of another scenario, or one that cannot be read, is as good as none."""
        wanted = {slot.id: slot for slot in slots}
        found = [name for name in self._names() if Path(name).stem in wanted]
        contents = self._fs.cat(found, on_error="omit") if found else {}
        loaded = (_parse(wanted[Path(name).stem], content) for name, content in contents.items())
        return {conversation.slot.id: conversation for conversation in loaded if conversation is not None}

    def save(self, conversation: Conversation) -> None:
        """Keeps a conversation as far as it is, in one step."""
        slot = conversation.slot
        said = [[each.node, each.role, each.text, each.taken] for each in conversation.said]
        how_far = {"said": said, "dropped": conversation.dropped, "guesses": conversation.guesses}
        self._store.put(f"{self._path}/{slot.id}.json", json.dumps({"scenario": slot.scenario, **how_far}).encode())

    def _names(self) -> list[str]:
        self._fs.invalidate_cache(self._folder)
        return [str(name) for name in self._fs.glob(f"{self._folder}/*.json")]


def _parse(slot: Slot, content: bytes) -> Conversation | None:
    try:
        loaded = json.loads(content)
        said = tuple(Utterance(*each) for each in loaded["said"])
    except (ValueError, KeyError, TypeError):
        return None
    follows = tuple(each.node for each in said) == slot.path[: len(said)]
    if loaded.get("scenario") != slot.scenario or not follows:
        return None
    return Conversation(slot, said, loaded.get("dropped"), tuple(loaded.get("guesses", ()))[: len(slot.audited)])
