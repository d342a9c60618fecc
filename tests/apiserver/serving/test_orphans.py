"""An agent that was deleted without its objects and made again, on the real API server."""

from subterra_operator.resources import KINDS
from subterra_testkit.cluster.kubernetes_objects import TRAVEL, TRAVEL_AGENT
from subterra_testkit.cluster.operator_namespace import ClusterNamespace, condition


async def test_what_a_deleted_agent_left_behind_is_named_goes_on_serving_and_is_not_adopted(world: ClusterNamespace) -> None:
    await world.put(TRAVEL)
    await world.put(TRAVEL_AGENT)
    await world.up_to_date()
    [left] = await world.all("Deployment")
    body = {"propagationPolicy": "Orphan"}
    await world.api._call("DELETE", KINDS["CompiledAgent"].path(world.namespace, "travel"), body)

    async def orphaned() -> bool:
        children = [obj for kind in ("Deployment", "Service", "CompileRun") for obj in await world.all(kind)]
        gone = await world.get("CompiledAgent", "travel") is None
        return gone and not any(obj["metadata"].get("ownerReferences") for obj in children)

    await world.until(orphaned, "agent and ownership are gone", 120)
    await world.put(TRAVEL_AGENT)
    agent = await world.condition("CompiledAgent", "travel", "Stalled", "True", "NameTaken")
    message = condition(agent, "Stalled")["message"]
    assert "delete" in message, message
    [still] = await world.all("Deployment")
    assert still["metadata"]["uid"] == left["metadata"]["uid"]
    assert still["spec"] == left["spec"]
    await delete_leftovers(world)
    await world.up_to_date()


async def delete_leftovers(world: ClusterNamespace) -> None:
    """Deletes what has no owner, as the messages say."""
    for kind in ("CompileRun", "Deployment", "Service"):
        for obj in await world.all(kind):
            if not obj["metadata"].get("ownerReferences"):
                await world.delete(kind, obj["metadata"]["name"])
