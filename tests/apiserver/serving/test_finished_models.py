"""Agents that serve a finished model, on the real API server: what cannot be served is named with what can."""

from typing import Any

import pytest

from subterra_testkit.cluster.operator_namespace import ClusterNamespace, condition
from subterra_testkit.cluster.refused_agents import of_a_model

S3 = {"uri": "s3://models/abc", "digest": "sha256:" + "c" * 64}
INVALID = {
    "an argument that loads code": (of_a_model(args=["--trust-remote-code"]), ("--trust-remote-code", "--max-num-seqs")),
    "a store that pods cannot read": ({**of_a_model(), "spec": {"model": S3}}, ("s3:// cannot be served", "use pvc://PATH")),
}


@pytest.mark.parametrize(("bad", "words"), INVALID.values(), ids=INVALID)
async def test_what_cannot_be_served_is_named_with_its_cure_and_corrected_it_serves(
    world: ClusterNamespace, bad: Any, words: tuple[str, ...]
) -> None:
    await world.put(bad)
    found = await world.condition("CompiledAgent", "travel", "Stalled", "True", "InvalidSpec")
    message = condition(found, "Stalled")["message"]
    assert all(word in message for word in words), message
    assert await world.names("Deployment") == []
    good = of_a_model(args=None)
    await world.change(good)
    await world.up_to_date()
