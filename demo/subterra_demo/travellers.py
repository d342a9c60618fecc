"""The demo's customers: they say their lines, whatever the agent answers; then the agent's turns are replayed on the procedure."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.chat import Conversation

FILE = Path(__file__).resolve().parents[1] / "travellers.yaml"


@dataclass(frozen=True)
class Traveller:
    """A customer: facts, lines, and the path that the procedure prescribes for them."""

    name: str
    values: dict[str, str]
    path: tuple[str, ...]
    says: tuple[str, ...]
    opener: str | None = None


def load(file: Path = FILE) -> list[Traveller]:
    """All travellers of a file, in its order."""
    return [
        Traveller(item["name"], item["values"], tuple(item["path"]), tuple(item["says"]), item.get("opener"))
        for item in yaml.safe_load(file.read_text(encoding="utf-8"))
    ]


def converse(traveller: Traveller, conversation: Conversation) -> list[str]:
    """The agent's turns, in order."""
    first = conversation.greet() if traveller.opener is None else conversation.say(traveller.opener)
    return [first, *(conversation.say(line) for line in traveller.says)]


def load_procedure(file: Path) -> ProcedureSpec:
    """The procedure that the travellers are checked against."""
    return ProcedureSpec.model_validate(yaml.safe_load(file.read_text(encoding="utf-8"))["spec"])
