"""`promotion.rollout: Recreate`, decision by decision."""

from typing import Any

from subterra_operator.decide.decision import Decision
from subterra_operator.labels import STARTED_AT, STOPPED_AT
from subterra_operator.resources import Object
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.agent_decisions import decide, other_run, traffic_to, version, wanted_run
from subterra_testkit.cluster.decided_conditions import condition, message

STOPPED = {STOPPED_AT: make.CREATED}
OPEN = {"version": "new", "since": make.CREATED}


class Pool:
    """An agent on a pool without a spare GPU: an old version with traffic, and the wanted one."""

    def __init__(self, **promotion: Any) -> None:
        self.agent = make.agent(promotion={"rollout": "Recreate", **promotion})
        self.run, self.older = wanted_run(self.agent), other_run(self.agent)

    def old(self, replicas: int = 1, ready: int = 1, **annotations: str) -> Object:
        return scaled(version(self.agent, self.older, ready, **annotations), replicas)

    def new(self, replicas: int = 1, ready: int = 0, **annotations: str) -> Object:
        return scaled(version(self.agent, self.run, ready, **annotations), replicas)

    def decide(self, *deployments: Object, later: float = 0, to: Object | None = None, **parts: Any) -> Decision:
        service = traffic_to(self.agent, to or self.old())
        return decide(self.agent, later, runs=(self.run, self.older), deployments=deployments, service=service, **parts)


def scaled(deployment: Object, replicas: int) -> Object:
    return {**deployment, "spec": {**deployment["spec"], "replicas": replicas}}


def pod(deployment: Object) -> Object:
    """A pod of a Deployment that still runs."""
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    metadata = {"name": f"{deployment['metadata']['name']}-x", "namespace": "demo", "uid": "p", "creationTimestamp": make.CREATED}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {**metadata, "labels": labels}, "status": {"phase": "Running"}}


def scales(decision: Decision) -> dict[str, int]:
    """Replicas by Deployment that a decision writes."""
    found = [write.object for write in decision.writes if write.key.kind == "Deployment" and "spec" in write.object]
    return {obj["metadata"]["name"]: obj["spec"]["replicas"] for obj in found}


def name(deployment: Object) -> str:
    return str(deployment["metadata"]["name"])


def test_the_new_deployment_is_made_before_anything_is_stopped() -> None:
    pool = Pool()
    decision = pool.decide(pool.old())
    assert scales(decision) == {name(pool.new()): 0}
    assert condition(decision, "Ready") == ("True", "Serving")


def test_the_old_version_is_stopped_and_the_new_one_waits_until_its_pods_are_gone() -> None:
    pool = Pool()
    stopping = pool.decide(pool.old(), pool.new(0))
    assert scales(stopping) == {name(pool.old()): 0}
    gone = pool.old(0, 0, **STOPPED)
    draining = pool.decide(gone, pool.new(0), later=20, pods=(pod(gone),))
    assert (scales(draining), draining.recheck_after) == ({}, 280)
    assert scales(pool.decide(gone, pool.new(0), later=40)) == {name(pool.new()): 1}
    assert scales(pool.decide(gone, pool.new(0), later=300, pods=(pod(gone),))) == {name(pool.new()): 1}, "a lost node's pod stays"


def test_while_nothing_serves_the_agent_says_why_and_since_when() -> None:
    pool = Pool()
    decision = pool.decide(pool.old(0, 0, **STOPPED), pool.new())
    assert (condition(decision, "Ready"), condition(decision, "UpToDate")) == (("False", "NotServing"), ("False", "Starting"))
    assert condition(decision, "Reconciling")[0] == "True"
    assert "because spec.promotion.rollout is Recreate" in message(decision, "Ready")
    assert decision.status
    assert decision.status["downtime"] == {"version": decision.status["candidate"]["version"], "since": make.CREATED}


def test_the_downtime_ends_when_the_new_version_has_traffic() -> None:
    pool = Pool()
    moving = pool.decide(pool.old(0, 0, **STOPPED), pool.new(ready=1), later=30)
    assert "Service" in [write.key.kind for write in moving.writes]
    assert moving.status
    pool.agent["status"] = moving.status
    done = pool.decide(pool.old(0, 0, **STOPPED), pool.new(ready=1), later=31, to=pool.new())
    assert done.status
    downtime = done.status["downtime"]
    assert (downtime["seconds"], downtime["rolledBack"], downtime["until"]) == (31, False, "2026-11-20T12:00:31Z")
    assert scales(done) == {}


def test_a_version_that_does_not_get_ready_makes_room_for_the_old_one() -> None:
    pool = Pool(progressDeadlineSeconds=60)
    pool.agent["status"] = {"downtime": OPEN}
    failed = pool.decide(pool.old(0, 0, **STOPPED), pool.new(**{STARTED_AT: make.CREATED}), later=60)
    assert scales(failed) == {name(pool.old()): 1, name(pool.new()): 0}
    back = pool.decide(pool.old(), pool.new(0, **{"subterra.dev/failed": "no"}), later=90)
    assert back.status
    assert (scales(back), back.status["downtime"]["rolledBack"], back.status["downtime"]["seconds"]) == ({}, True, 90)
    assert condition(back, "UpToDate") == ("False", "ServingFailed")


def test_a_candidate_that_is_no_longer_wanted_makes_room_at_once() -> None:
    pool = Pool()
    pool.agent["spec"]["promotion"]["gate"] = {"minScore": 4.9}
    decision = pool.decide(pool.old(0, 0, **STOPPED), pool.new())
    assert scales(decision) == {name(pool.old()): 1, name(pool.new()): 0}


def test_an_agent_scaled_to_zero_in_between_is_not_waiting_for_anything() -> None:
    pool = Pool()
    pool.agent["spec"]["serving"] = {"replicas": 0}
    [restored] = [w.object for w in pool.decide(pool.old(0, 0, **STOPPED)).writes if w.key.kind == "Deployment"]
    assert restored["metadata"]["annotations"] == {STOPPED_AT: None}


def test_the_first_version_starts_with_all_replicas() -> None:
    pool = Pool()
    decision = decide(pool.agent, runs=(pool.run,))
    assert scales(decision) == {name(pool.new()): 1}
