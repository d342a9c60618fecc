"""A pod whose stage has ended and whose other containers have not: whatever injected them, the pod goes in the end."""

from datetime import timedelta
from typing import Any

import pytest

from subterra_api.job_contract.messages import ExitCode
from subterra_operator.decide.decision import Decision
from subterra_operator.decide.run.leftover_pods import GRACE_SECONDS, Leftovers, leftovers
from subterra_operator.resources import Object
from subterra_operator.specs.run_input import artifact_keys_of
from subterra_operator.specs.stage_env.job_set import only_job_of
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster import run_decisions as runs
from subterra_testkit.cluster.decided_conditions import condition

MESH: Object = {"name": "istio-proxy", "state": {"running": {}}}
STOPPED = {"spec": {"activeDeadlineSeconds": 1}}


class Ended:
    """A run whose first stage has ended in a pod that still runs, because of a container that the mesh added."""

    def __init__(self, code: int = 0, **status: Any) -> None:
        self.run = make.run(runs.started())
        self.frozen, self.job = make.frozen(self.run), runs.job(self.run, "generate", **status)
        message = make.result("generate", artifact_keys_of(self.frozen).dataset) if code == 0 else "no"
        self.pod = make.pod_of(self.job, terminated=make.ended(code, message))
        self.pod["status"]["containerStatuses"].append(MESH)
        self.jobs = [self.job]

    def decide(self, later: float) -> Decision:
        """The next decision, with the Jobs and the status that the earlier ones made."""
        decision = runs.decide(self.run, later, input=self.frozen, jobs=tuple(self.jobs), pods=(self.pod,))
        self.run["status"] = decision.status
        self.jobs += [make.stored(write.object) for write in decision.writes if write.verb == "create" and write.key.kind == "Job"]
        return decision

    def stopped(self, later: float) -> list[str]:
        """The Jobs that the next decision ends."""
        patches = (write.object for write in self.decide(later).writes if write.verb == "patch")
        return [obj["metadata"]["name"] for obj in patches if STOPPED.items() <= obj.items()]


@pytest.mark.parametrize("code", [0, ExitCode.INFRASTRUCTURE, ExitCode.INVALID_INPUT, 143])
def test_a_pod_that_outlives_its_stage_is_ended_once_the_outcome_is_recorded(code: int) -> None:
    run = Ended(code)
    assert run.stopped(0) == [], "the outcome is recorded first: without the pod nobody could read it"
    first = run.job["metadata"]["name"]
    assert run.stopped(GRACE_SECONDS - 1) == []
    assert run.stopped(GRACE_SECONDS) == [first]
    ended = next(stage for stage in run.run["status"]["stages"] if stage["name"] == "generate")
    assert ended["state"] == {0: "Succeeded", ExitCode.INVALID_INPUT: "Failed"}.get(code, "Running")


def test_the_next_stage_does_not_wait_for_it_and_the_run_is_looked_at_again() -> None:
    run = Ended()
    assert runs.created(run.decide(0)) == ["travel-12345678-train-1"]
    assert leftovers([run.job], [run.pod], make.NOW + timedelta(seconds=10)).recheck_after == GRACE_SECONDS - 10


def test_a_job_set_is_deleted_once_all_of_its_pods_have_done_their_work() -> None:
    job_set = {**runs.job(make.run(), "train"), "apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet"}
    owner = {"metadata": {**job_set["metadata"], "name": only_job_of(job_set["metadata"]["name"])}}
    done, working = make.pod_of(owner, terminated=make.ended()), make.pod_of(owner, running={})
    later = make.NOW + timedelta(seconds=GRACE_SECONDS)
    assert leftovers([job_set], [done, working], later) == Leftovers()
    assert leftovers([job_set], [done, done], later) == Leftovers(deletes=(job_set,))


@pytest.mark.parametrize("status", [{"phase": "Succeeded"}, {"containerStatuses": [{"name": "main", "state": {"running": {}}}]}])
def test_a_pod_that_has_ended_or_still_works_is_left_alone(status: Object) -> None:
    run = Ended()
    run.decide(0)
    run.pod["status"] |= status
    assert run.stopped(2 * GRACE_SECONDS) == []


def test_a_job_is_ended_once_and_its_end_is_not_the_stages() -> None:
    late = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}
    run = Ended()
    run.decide(0)
    run.jobs[0] = {**run.job, "status": {"conditions": [late]}}
    assert run.stopped(2 * GRACE_SECONDS) == []
    assert condition(run.decide(2 * GRACE_SECONDS), "Generated") == ("True", "Succeeded")
