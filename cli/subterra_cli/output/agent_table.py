"""Agents as a table and as data."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from subterra_cli.cluster import get_condition

COLUMNS = ("AGENT", "READY", "UP TO DATE", "SERVES", "PHASE", "ACTIVITY", "$/CONVERSATION", "$ WITH IDLE TIME")


def agent_data(agent: dict[str, Any]) -> dict[str, Any]:
    """What `subterra status` shows, for scripts."""
    status = agent.get("status", {})
    price = status.get("price", {})
    return {
        "name": agent["metadata"]["name"],
        "ready": get_condition(agent, "Ready").get("status", "Unknown"),
        "upToDate": get_condition(agent, "UpToDate").get("status", "Unknown"),
        "serving": status.get("serving", {}).get("version"),
        "phase": status.get("phase"),
        "reason": status.get("reason"),
        "stage": status.get("stage"),
        "reevaluated": get_condition(agent, "Reevaluated").get("message"),
        "usdPerConversation": price.get("usdPerConversation"),
        "usdPerConversationWithIdle": price.get("usdPerConversationWithIdle"),
    }


def agent_table(agents: Sequence[dict[str, Any]]) -> Table:
    """A row for each agent."""
    table = Table(*COLUMNS, box=None, pad_edge=False)
    for data in map(agent_data, agents):
        phase = data["phase"] or "Pending"
        reason = f"{phase} ({data['reason']})" if data["reason"] and data["reason"] != phase else phase
        cells = (data["name"], data["ready"], data["upToDate"], data["serving"], reason, data["stage"])
        prices = (data["usdPerConversation"], data["usdPerConversationWithIdle"])
        table.add_row(*(Text(str(cell or "-")) for cell in (*cells, *prices)))
    return table
