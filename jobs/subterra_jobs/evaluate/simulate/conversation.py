"""A simulated conversation of one scenario's customer with one arm's agent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.vllm_client import Reply

LEFT_EARLY = "left before all wishes were said"
"""Fault of a customer who leaves early, and does so again when reminded."""

NOT_STORED = "not in the store"
"""Error of a conversation that an arm without a server has not had in an earlier evaluation."""


@dataclass(frozen=True)
class Conversation:
    """A finished or failed conversation. The field names are those of the stored records.

    `chat` has alternating turns, with their single `messages` where tools were called; `error` says why the conversation failed,
    `lost` whether the agent's server is to blame.
    """

    chat: tuple[dict[str, Any], ...]
    replies: tuple[Reply, ...]
    error: str | None = None
    lost: bool = False
    fault: str | None = None
    """Misbehavior of the simulated customer. Unless it left early, the conversation is scored like any other, in all arms."""


Simulation = tuple[Scenario, Conversation]
ArmSimulations = Mapping[str, Sequence[Simulation]]
"""Simulated scenarios of each arm, by its name."""
