"""Jobs that do not run: suspended by the run, by a queue or by somebody, and pods that wait."""

from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.decided_conditions import condition, message
from subterra_testkit.cluster.run_decisions import decide, job, stage, started


def test_suspension_suspends_the_job_and_starts_none() -> None:
    run = make.run(started(), {"suspend": True})
    decision = decide(run, input=make.frozen(run), jobs=(job(run, "generate"),))
    [write] = decision.writes
    assert (write.verb, write.object["spec"]) == ("patch", {"suspend": True})
    assert condition(decision, "Succeeded") == ("Unknown", "Suspended")


def test_a_job_that_somebody_else_suspended_is_left_alone() -> None:
    run = make.run(started(), {"queueName": "gpus"})
    suspended = job(run, "generate")
    suspended["spec"]["suspend"] = True
    decision = decide(run, input=make.frozen(run), jobs=(suspended,))
    assert decision.writes == ()
    assert stage(decision, "generate")["message"].startswith("waiting for admission to queue gpus; it starts by itself")
    assert condition(decision, "Succeeded") == ("Unknown", "Queued")


def test_a_job_that_a_person_suspended_says_so_and_how_to_resume_it() -> None:
    run = make.run(started())
    suspended = job(run, "generate")
    suspended["spec"]["suspend"] = True
    decision = decide(run, input=make.frozen(run), jobs=(suspended,))
    told = message(decision, "Succeeded")
    assert told.startswith("generate: Job travel-12345678-generate-1 was suspended by someone else")
    assert "kubectl patch job travel-12345678-generate-1" in told
    assert condition(decision, "Reconciling") == ("True", "JobSuspended")


def test_a_pending_pod_is_not_called_running() -> None:
    run = make.run(started())
    generate = job(run, "generate")
    parts = {"input": make.frozen(run), "jobs": (generate,)}
    assert message(decide(run, **parts), "Succeeded") == "generate: pod pending"
    pod = make.pod_of(generate)
    unscheduled = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
    pod["status"] = {"phase": "Pending", "conditions": [unscheduled]}
    assert message(decide(run, pods=(pod,), **parts), "Succeeded") == (
        "generate: pod pending: unschedulable: 0/3 nodes are available"
    )
    running = make.pod_of(generate, running={})
    assert message(decide(run, pods=(running,), **parts), "Succeeded") == "generate: running"


def test_the_killed_pod_of_a_suspended_job_is_no_failure() -> None:
    run = make.run(started(), {"suspend": True})
    suspended = job(run, "generate", conditions=[{"type": "Suspended", "status": "True"}])
    pod = make.pod_of(suspended, terminated=make.ended(143))
    decision = decide(run, input=make.frozen(run), jobs=(suspended,), pods=(pod,))
    assert stage(decision, "generate")["state"] == "Running"
