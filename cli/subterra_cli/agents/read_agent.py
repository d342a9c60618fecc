"""Reads an agent and what belongs to it from the cluster."""

from typing import Any

from subterra_cli.agents.diagnosis import AgentObjects
from subterra_cli.cluster import ClusterAccessError, ResourceReader
from subterra_operator.labels import AGENT_LABEL


def read_agent(reader: ResourceReader, name: str) -> dict[str, Any]:
    """The CompiledAgent. Raises ClusterAccessError if it does not exist."""
    agent = reader.get("compiledagents", name)
    if agent is None:
        namespace = reader.target.namespace
        raise ClusterAccessError(
            f"CompiledAgent {name} not found in namespace {namespace}; list them with: subterra status --namespace {namespace}"
        )
    return agent


def read_objects(reader: ResourceReader, name: str) -> AgentObjects:
    """The agent with run, procedure, pods and Events. Raises ClusterAccessError."""
    agent = read_agent(reader, name)
    run = agent.get("status", {}).get("currentRun")
    procedure = agent["spec"].get("compile", {}).get("procedureRef", {}).get("name")
    return AgentObjects(
        agent,
        reader.get("compileruns", run) if run else None,
        reader.get("procedures", procedure) if procedure else None,
        reader.pods(f"{AGENT_LABEL}={name}"),
        reader.warnings(),
        reader.last_heartbeat(),
    )
