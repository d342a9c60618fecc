"""Whole lives of an agent, in any order of events: what must hold after each of them."""

import random
from collections.abc import Callable

import pytest

from subterra_operator.decide.agent.reevaluation import KEPT
from subterra_operator.labels import labels_of
from subterra_testkit.cluster.agent_lifecycle import AgentLifecycle

EVENTS: dict[str, Callable[[AgentLifecycle], None]] = {
    "stage done": AgentLifecycle.stage,
    "run passes": AgentLifecycle.run,
    "run is rejected": lambda life: life.run(mean=2.0, failures=0.6),
    "stage fails for good": lambda life: life.stage(10, "bad input"),
    "stage fails in passing": AgentLifecycle.in_passing,
    "replicas ready": AgentLifecycle.ready,
    "replicas lost": lambda life: life.ready(0),
    "deadline passes": AgentLifecycle.deadline,
    "procedure edited": AgentLifecycle.edit,
    "procedure edited back": AgentLifecycle.edit_back,
    "procedure broken": AgentLifecycle.break_procedure,
    "agent suspended": AgentLifecycle.suspend,
    "agent resumed": lambda life: life.suspend(False),
    "pinned to the first": lambda life: life.pin(0),
    "pinned to the newest": lambda life: life.pin(-1),
    "pin removed": lambda life: life.promote(pin=None),
    "retry-at set": AgentLifecycle.retry,
    "Jobs deleted": AgentLifecycle.lose_jobs,
    "run deleted": AgentLifecycle.lose_run,
    "Deployments deleted": AgentLifecycle.lose_deployments,
    "Service deleted": AgentLifecycle.lose_service,
    "reevaluate-at set": AgentLifecycle.reevaluate,
    "half an hour passes": lambda life: life.world.wait(1800),
}
HISTORY = 2


@pytest.mark.parametrize("seed", [seed if seed < 5 else pytest.param(seed, marks=pytest.mark.exhaustive) for seed in range(20)])
def test_whatever_happens_nothing_is_paid_twice_and_what_serves_goes_on(seed: int) -> None:
    choice, life = random.Random(seed), AgentLifecycle()
    life.promote(historyLimit=HISTORY)
    told: list[str] = []
    for _ in range(40):
        name = choice.choice(sorted(EVENTS))
        told.append(name)
        had_traffic = list(life.world.selected)
        EVENTS[name](life)
        check(life, name, had_traffic, " → ".join(told))


def check(life: AgentLifecycle, event: str, had_traffic: list[str], story: str) -> None:
    world = life.world
    assert world.settle() == 0, f"decisions never come to rest: {story}"
    twice = [str(key) for (key, _), count in world.created.items() if key.kind == "Job" and count > 1]
    assert not twice, f"{twice} began twice: {story}"
    deployed = {labels_of(item)["subterra.dev/version"]: item for item in world.all("Deployment")}
    for version in world.selected[len(had_traffic) :]:
        ready = deployed[version]["status"]["availableReplicas"]
        assert ready or event == "replicas lost", f"traffic went to {version}, which was not ready: {story}"
    for service in world.all("Service"):
        active = deployed.get(service["spec"]["selector"]["subterra.dev/version"])
        forgotten = active is None and life.serving not in life.models()  # its Deployment and its run were both deleted
        assert forgotten or (active and active["spec"]["replicas"]), f"what serves was stopped: {story}"
    limit = 2 * HISTORY + 3  # the history, as many others, the wanted one, the pinned one, one that is warm
    compiling = [run for run in world.all("CompileRun") if "reevaluates" not in run["spec"]]
    assert len(compiling) <= limit, f"runs pile up: {story}"
    assert len(world.all("CompileRun")) - len(compiling) <= HISTORY * KEPT + 1, f"runs that evaluate again pile up: {story}"
