"""What a decision sees: one resource with everything that belongs to it, at one moment. Frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from subterra_api.job_contract.messages import Progress
from subterra_api.v1alpha1.compiledagent import Price

Seen = Mapping[str, Any]
"""A trimmed copy of a Kubernetes object."""


@dataclass(frozen=True)
class ProcedureSnapshot:
    """A Procedure."""

    procedure: Seen


@dataclass(frozen=True)
class RunSnapshot:
    """A CompileRun, its procedure as it is now, and what the run owns. ``progress`` is by pod name."""

    run: Seen
    procedure: Seen | None = None
    input: Seen | None = None
    jobs: tuple[Seen, ...] = ()
    pods: tuple[Seen, ...] = ()
    progress: Mapping[str, Progress] = field(default_factory=dict)
    blocked: str = ""
    """Whose object has a name that is needed here; empty when nobody's has."""


@dataclass(frozen=True)
class AgentSnapshot:
    """A CompiledAgent, its procedure, and what the agent owns. ``prices`` are those of the pods with traffic."""

    agent: Seen
    procedure: Seen | None = None
    runs: tuple[Seen, ...] = ()
    deployments: tuple[Seen, ...] = ()
    service: Seen | None = None
    pods: tuple[Seen, ...] = ()
    prices: tuple[Price, ...] = ()
    blocked: str = ""

    def run(self, name: str | None) -> Seen | None:
        """The agent's run of that name."""
        return next((run for run in self.runs if run["metadata"]["name"] == name), None)
