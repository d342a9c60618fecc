"""A Procedure that calls another, against the real API server: it follows what it calls, and so do its agents."""

import copy

import yaml

from subterra_operator.resources import Object
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, condition
from subterra_testkit.repository import ROOT

BANK, IDENTITY, AGENT = (
    yaml.safe_load((ROOT / "examples/bank" / name).read_text()) for name in ("procedure.yaml", "identity-check.yaml", "agent.yaml")
)


def edited() -> Object:
    """The called procedure with another prompt."""
    other: Object = copy.deepcopy(IDENTITY)
    other["spec"]["nodes"][0]["prompt"] = "Ask politely for the customer number, which you need to {{purpose}}."
    return other


async def test_a_caller_and_its_agent_follow_the_called_procedure(world: ClusterNamespace) -> None:
    await world.put(BANK)
    await world.put(AGENT)
    waiting = await world.condition("Procedure", "bank", "Accepted", "Unknown", "ProcedureNotFound")
    assert "node check: calls identity-check, which does not exist in this namespace" in condition(waiting, "Accepted")["message"]
    await world.put(IDENTITY)
    first = await world.condition("Procedure", "bank", "Accepted", "True")
    assert first["status"]["nodes"] == 19
    await world.condition("CompiledAgent", "bank", "UpToDate", "True")

    await world.put(edited())

    async def recompiled() -> bool:
        return len(await world.names("CompileRun")) == 2

    await world.until(recompiled, "the agent compiles the edit of the called procedure")
    await world.condition("CompiledAgent", "bank", "UpToDate", "True")
    with world.clock.ahead(61):
        await world.delete("Procedure", "identity-check")
        gone = await world.condition("Procedure", "bank", "Accepted", "False", "ProcedureNotFound")
        agent = await world.condition("CompiledAgent", "bank", "UpToDate", "Unknown", "InvalidProcedure")
    assert condition(gone, "Stalled")["status"] == "True"
    assert condition(agent, "Ready")["status"] == "True"
