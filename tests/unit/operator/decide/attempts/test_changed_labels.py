"""Labels and annotations that somebody took away: nobody's decision ends in an exception, which no status would tell."""

import pytest

from subterra_operator.labels import (
    ARTIFACT_KEYS,
    ATTACH_LABEL,
    ATTEMPT_LABEL,
    PROCEDURE_DIGEST,
    RESTORED_AT,
    SERVING_SINCE,
    STAGE_LABEL,
    STARTED_AT,
)
from subterra_testkit.cluster import agent_decisions as agents
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.decided_conditions import condition, message
from subterra_testkit.cluster.run_decisions import created, decide, job, stage, started


@pytest.mark.parametrize("label", [ATTEMPT_LABEL, ATTACH_LABEL, STAGE_LABEL])
@pytest.mark.parametrize("value", [None, "other"])
def test_a_job_without_its_labels_is_still_the_attempt_that_its_name_says(label: str, value: str | None) -> None:
    run = make.run(started(attempt=2))
    generate = job(run, "generate", 2)
    labels = {name: text for name, text in generate["metadata"]["labels"].items() if name != label}
    generate["metadata"]["labels"] = labels | ({label: value} if value else {})
    decision = decide(run, input=make.frozen(run), jobs=(generate,))
    assert created(decision) == []
    assert (stage(decision, "generate")["state"], stage(decision, "generate")["attempt"]) == ("Running", 2)


@pytest.mark.parametrize("annotation", [ARTIFACT_KEYS, PROCEDURE_DIGEST])
def test_an_input_without_its_annotations_is_named_and_a_new_one_goes_on(annotation: str) -> None:
    run = make.run(started())
    frozen = make.frozen(run)
    changed = make.frozen(run)
    del changed["metadata"]["annotations"][annotation]
    decision = decide(run, input=changed, jobs=(job(run, "generate"),))
    assert (condition(decision, "Stalled"), decision.writes) == (("True", "NameTaken"), ())
    text = f"ConfigMap demo/travel-12345678-input was changed: its annotation {annotation} is missing; delete it"
    assert message(decision, "Stalled").startswith(text)
    again = decide({**run, "status": decision.status}, input=frozen, jobs=(job(run, "generate"),))
    assert (condition(again, "Stalled")[0], stage(again, "generate")["state"]) == ("False", "Running")


def test_times_that_nobody_can_read_keep_no_version_from_serving() -> None:
    agent = make.agent()
    run, older = agents.wanted_run(agent), agents.other_run(agent)
    new = agents.version(agent, run, **dict.fromkeys((STARTED_AT, RESTORED_AT), "yesterday"))
    serving = agents.traffic_to(agent, new)
    serving["metadata"]["annotations"] = dict.fromkeys((SERVING_SINCE, RESTORED_AT), "now")
    parts = {"runs": (run, older), "deployments": (new, agents.version(agent, older)), "service": serving}
    assert condition(agents.decide(agent, **parts), "Ready") == ("True", "Serving")


def test_a_run_without_its_agents_label_goes_on_serving() -> None:
    agent = make.agent()
    run = agents.wanted_run(agent)
    deployed = agents.version(agent, run)
    del run["metadata"]["labels"]["subterra.dev/agent"]
    decision = agents.decide(agent, runs=(run,), deployments=(deployed,), service=agents.traffic_to(agent, deployed))
    assert condition(decision, "UpToDate") == ("True", "UpToDate")
    assert "apply CompileRun" in agents.kinds(decision), "which brings the label back"
