"""The agent that a person wants to talk to, as the cluster has it: what serves, or why nothing does."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.agents.watch_compile import stage_views
from subterra_cli.cluster import ClusterAccessError, ClusterTarget, get_condition
from subterra_cli.files.load_procedure import Reader, called_in_cluster
from subterra_core.procedure.calls.called import Unavailable, gather
from subterra_core.procedure.calls.expansion import expand

Resource = dict[str, Any]
DEFAULT_PORT = 8000


@dataclass(frozen=True)
class ServedAgent:
    """An agent with a version that replies. ``run`` made that version; `None` if it was compiled elsewhere or is gone."""

    agent: Resource
    run: Resource | None
    procedure: Resource | None
    called: Mapping[str, ProcedureSpec | Unavailable] = field(default_factory=dict)
    """The procedures that its procedure calls."""

    @property
    def name(self) -> str:
        return str(self.agent["metadata"]["name"])

    @property
    def serving(self) -> Mapping[str, str]:
        """The agent's ``status.serving``."""
        return dict(self.agent["status"]["serving"])

    @property
    def port(self) -> int:
        """The port of its Service."""
        return int(self.agent["spec"].get("serving", {}).get("port", DEFAULT_PORT))

    @property
    def api_key_secret(self) -> Mapping[str, str] | None:
        """The Secret with its API key, if it demands one."""
        found: Mapping[str, str] | None = self.agent["spec"].get("serving", {}).get("apiKeySecret")
        return found

    @property
    def tells_state(self) -> bool:
        """Whether it says which node a conversation has reached."""
        return self.agent["spec"].get("serving", {}).get("conversationState") is not None

    @cached_property
    def spec(self) -> ProcedureSpec | None:
        """The procedure with those that it calls; `None` if there is none that this version of the command line can read."""
        written = _spec(self.procedure)
        if written is None:
            return None
        expansion = expand(str(self.agent["spec"]["compile"]["procedureRef"]["name"]), written, self.called)
        return None if expansion.findings else expansion.spec

    @property
    def speaks_first(self) -> bool:
        """Whether the agent begins the conversation, as far as its procedure is known."""
        return self.spec is None or any(node.role == "agent" for node in self.spec.nodes if node.id == self.spec.start)

    @property
    def why_unchecked(self) -> str:
        """Why the facts cannot be compared with a procedure."""
        if "model" in self.agent["spec"]:
            return f"CompiledAgent {self.name} serves a model compiled elsewhere (spec.model)"
        name = self.agent["spec"]["compile"]["procedureRef"]["name"]
        if self.procedure is not None and _spec(self.procedure) is not None:
            return f"Procedure {name} has errors in its calls of others"
        return f"Procedure {name} {'has fields that this subterra does not know' if self.procedure else 'does not exist any more'}"


def find_served_agent(reader: Reader, name: str) -> ServedAgent:
    """The agent, if a version of it replies. Raises ClusterAccessError with what is going on instead."""
    agent = reader.get("compiledagents", name)
    if agent is None:
        raise ClusterAccessError(
            f"CompiledAgent {name} not found in namespace {reader.target.namespace}; "
            "`kubectl get compiledagents --all-namespaces` lists those that exist, -n chooses the namespace"
        )
    status = agent.get("status", {})
    serving = status.get("serving")
    if not serving or get_condition(agent, "Ready").get("status") != "True" or status.get("replicas") == 0:
        raise ClusterAccessError(_not_served(agent, _run(reader, status.get("currentRun")), reader.target))
    source = agent["spec"].get("compile")
    procedure = reader.get("procedures", source["procedureRef"]["name"]) if source else None
    written = _spec(procedure)
    called = gather(written, lambda each: called_in_cluster(reader, each)) if written else {}
    return ServedAgent(agent, _run(reader, serving.get("run")), procedure, called)


def _spec(procedure: Resource | None) -> ProcedureSpec | None:
    """The procedure as it was written, if this version of the command line can read it."""
    try:
        return ProcedureSpec.model_validate(procedure["spec"]) if procedure else None
    except ValidationError:
        return None


def _run(reader: Reader, name: str | None) -> Resource | None:
    return reader.get("compileruns", name) if name else None


def _not_served(agent: Resource, run: Resource | None, target: ClusterTarget) -> str:
    name, status = agent["metadata"]["name"], agent.get("status", {})
    doing = [f"phase {status.get('phase') or 'Pending'}"]
    doing += [f"run {status['currentRun']}"] if status.get("currentRun") else []
    doing += [f"stage {stage.line()}" for stage in stage_views(agent, run)[:4] if stage.state in ("Running", "Failed")]
    ready = get_condition(agent, "Ready")
    reason = [f"{ready['reason']}: {ready['message']}"] if ready.get("message") else []
    return "\n".join(
        [
            f"CompiledAgent {name} is not ready to talk: {', '.join(doing)}.",
            *reason,
            f"Follow it with: subterra watch {name} {shlex.join(target.flags())}",
        ]
    )
