"""Pods that drains and spot nodes end, on the real API server with its Job controller: no attempt is counted as failed."""

import pytest

from subterra_operator.decide.run import disruption
from subterra_operator.resources import Object
from subterra_testkit.cluster.kubernetes_objects import TRAVEL, TRAVEL_AGENT
from subterra_testkit.cluster.operator_namespace import ClusterNamespace

TERMINATED = (143, "")
"""Exit code and message of a stage that SIGTERM ended without a word."""


async def test_a_training_that_is_drained_three_times_goes_on_and_is_served(
    monkeypatch: pytest.MonkeyPatch, world: ClusterNamespace
) -> None:
    monkeypatch.setattr(disruption, "FIRST_WAIT_SECONDS", 0.2)
    world.kubelet.exits = {"train": [TERMINATED] * 3}
    await world.put(TRAVEL)
    await world.put(TRAVEL_AGENT)

    async def trained() -> Object | None:
        stages = [stage for run in await world.all("CompileRun") for stage in run.get("status", {}).get("stages", [])]
        return next((stage for stage in stages if (stage["name"], stage["state"]) == ("train", "Succeeded")), None)

    train = await world.until(trained, "it is trained", 120)
    assert train["attempt"] == 4
    assert not train.get("retries"), "no failure is counted"
    await world.up_to_date()
