"""The demo's customers. They say their lines whatever the agent replies; the agent's turns are then replayed on the procedure."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.chat.chat_session import ChatSession

FILE = Path(__file__).resolve().parents[1] / "customers.yaml"


@dataclass(frozen=True)
class DemoCustomer:
    """A customer: values, lines, and the path that the procedure prescribes for them."""

    name: str
    values: dict[str, str]
    path: tuple[str, ...]
    says: tuple[str, ...]
    opener: str | None = None


def load_customers(file: Path = FILE) -> list[DemoCustomer]:
    """The customers in a file, in its order."""
    return [
        DemoCustomer(item["name"], item["values"], tuple(item["path"]), tuple(item["says"]), item.get("opener"))
        for item in yaml.safe_load(file.read_text(encoding="utf-8"))
    ]


def converse(customer: DemoCustomer, session: ChatSession) -> list[str]:
    """Has the conversation, and returns the agent's turns in order."""
    first = session.greet() if customer.opener is None else session.say(customer.opener)
    return [first, *(session.say(line) for line in customer.says)]


def load_procedure(file: Path) -> ProcedureSpec:
    """The procedure that the conversations are checked against."""
    return ProcedureSpec.model_validate(yaml.safe_load(file.read_text(encoding="utf-8"))["spec"])
