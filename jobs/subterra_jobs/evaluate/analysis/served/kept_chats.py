"""Stored samples of served conversations, limited by age and size.

`Redacted` keeps steps and findings alone: nothing that anybody has said, and no value. `Full` keeps the words too.
"""

import json
from dataclasses import asdict
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal

from subterra_jobs.evaluate.analysis.served.chat_check import Finding
from subterra_jobs.evaluate.analysis.served.recorded_chat import Chat

Policy = Literal["None", "Redacted", "Full"]
FOLDER = "kept"
MAX_BYTES = 64 * 1024 * 1024


class KeptChats:
    """A file a day in the folder `kept`, a line for each record."""

    def __init__(self, folder: Path, policy: Policy, days: int) -> None:
        self._folder, self._policy, self._days = folder / FOLDER, policy, days

    def keep(self, chat: Chat, finding: Finding, today: date) -> None:
        """Adds what the policy allows, unless there is no room."""
        if self._policy == "None" or sum(file.stat().st_size for file in self._folder.glob("*.jsonl")) >= MAX_BYTES:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"{today.isoformat()}.jsonl").open("a") as file:
            file.write(json.dumps(self._row(chat, finding), ensure_ascii=False) + "\n")

    def forget(self, today: date) -> None:
        """Deletes what is older than the policy allows: everything, if nothing may be kept."""
        oldest = "9999" if self._policy == "None" else (today - timedelta(days=self._days - 1)).isoformat()
        for file in self._folder.glob("*.jsonl"):
            if file.stem < oldest:
                file.unlink()

    def _row(self, chat: Chat, finding: Finding) -> dict[str, Any]:
        found = asdict(finding)
        return found | ({"context": chat.context, "turns": [dict(turn) for turn in chat.turns]} if self._policy == "Full" else {})
