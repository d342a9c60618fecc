"""What a candidate is compared with is settled when its run is made, and so is its attempt."""

from typing import Any

import pytest

from subterra_api.job_contract.messages import RunInput
from subterra_api.v1alpha1.compiledagent import CompiledAgentStatus
from subterra_operator.decide.agent.references import references
from subterra_operator.decide.agent.run_history import first_served
from subterra_operator.decide.decision import Decision
from subterra_operator.resources import Object
from subterra_operator.snapshot import AgentSnapshot
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster import run_decisions as runs
from subterra_testkit.cluster.agent_decisions import (
    MODEL,
    decide,
    other_run,
    traffic_to,
    version,
    wanted_run,
)
from subterra_testkit.cluster.decided_conditions import condition, message

OLDER = "sha256:" + "b" * 64
REFERENCE = {"role": "Serving", "run": "travel-0", "modelDigest": MODEL, "modelPath": "models/0", "maxLength": 1024}


def reseeded(**spec: Any) -> Object:
    """The agent after its author set another training seed."""
    return make.agent(compile={"procedureRef": {"name": "travel"}, "template": {"training": {"seed": 2}}}, **spec)


def begun(agent: Object, *others: Object) -> Decision:
    """An edited agent, beside what serves."""
    before = make.agent()
    served = wanted_run(before)
    deployed = version(before, served)
    agent["status"] = decide(before, runs=(served,), deployments=(deployed,), service=traffic_to(before, deployed)).status
    parts = {"runs": (served, *others), "deployments": (deployed,), "service": traffic_to(before, deployed)}
    return decide(agent, **parts)


def made(decision: Decision) -> Object:
    """The spec of the run that is made."""
    [spec] = [write.object["spec"] for write in decision.writes if write.key.kind == "CompileRun" and write.verb == "apply"]
    return dict(spec)


def test_a_first_run_is_compared_with_nothing_and_counts_as_the_first() -> None:
    assert {"references", "attempt"}.isdisjoint(made(decide(make.agent())))


def test_a_new_run_is_compared_with_what_serves_and_counts_from_one_after_a_promotion() -> None:
    spec = made(begun(reseeded()))
    [reference] = spec["references"]
    assert (reference["role"], reference["modelDigest"], reference["modelPath"]) == ("Serving", MODEL, "models/1")
    assert (reference["maxLength"], reference["baseModel"]) == (1024, {"uri": "scratch"})
    assert "attempt" not in spec


def evaluated(attempt: int = 1) -> Object:
    """A run that was evaluated after the promotion, and not promoted."""
    other = other_run(make.agent())
    other["spec"]["attempt"] = attempt
    return other


def test_a_run_that_was_evaluated_makes_another_seed_another_attempt() -> None:
    assert made(begun(reseeded(), evaluated()))["attempt"] == 2


def test_runs_of_another_procedure_do_not_count_as_attempts() -> None:
    other = evaluated(7)
    other["spec"]["inputs"]["procedureDigest"] = "sha256:" + "0" * 64
    assert "attempt" not in made(begun(reseeded(), other))


def test_runs_that_never_had_scores_do_not_count_as_attempts() -> None:
    superseded = evaluated(7)
    del superseded["status"]["scores"]
    assert "attempt" not in made(begun(reseeded(), superseded))


def test_runs_before_the_last_promotion_do_not_count_as_attempts() -> None:
    older = evaluated(7)
    older["metadata"] |= {"creationTimestamp": "2020-01-01T12:00:00Z"}
    assert "attempt" not in made(begun(reseeded(), older))


def test_attempts_go_on_from_the_highest() -> None:
    assert made(begun(reseeded(), evaluated(7)))["attempt"] == 8


def test_the_first_version_that_served_is_the_anchor_until_a_person_moves_it() -> None:
    agent = reseeded()
    begun(agent)
    assert agent["status"]["anchor"] == MODEL
    serving = {"version": "v", "modelDigest": MODEL, "modelPath": "models/1", "run": "travel-now"}
    before = CompiledAgentStatus.model_validate({"serving": serving, "anchor": OLDER})
    snapshot = AgentSnapshot(agent, runs=(other_run(make.agent()),))
    [anchor] = references(snapshot, None, None, first_served(before))
    assert (anchor.role, anchor.model_digest, anchor.stored) == ("Anchor", OLDER, True)
    [moved] = references(snapshot, None, OLDER, MODEL)
    assert (moved.model_digest, moved.stored) == (OLDER, False)


def test_an_agent_that_never_recorded_its_first_version_takes_the_oldest_of_its_history() -> None:
    versions = [
        {"version": str(number), "modelDigest": digest, "modelPath": "m", "run": "r"}
        for number, digest in enumerate((MODEL, OLDER))
    ]
    assert first_served(CompiledAgentStatus.model_validate({"history": versions})) == OLDER
    assert first_served(CompiledAgentStatus()) is None


def test_an_anchor_is_compared_with_beside_what_serves_and_once_if_it_is_the_same() -> None:
    both = made(begun(reseeded(promotion={"anchor": OLDER}), other_run(make.agent())))["references"]
    assert [(each["role"], each["modelDigest"]) for each in both] == [("Serving", MODEL), ("Anchor", OLDER)]
    [same] = made(begun(reseeded(promotion={"anchor": MODEL})))["references"]
    assert same["role"] == "Serving"


def test_an_anchor_that_nobody_made_begins_no_run_and_says_what_to_do() -> None:
    decision = begun(reseeded(promotion={"anchor": OLDER}))
    assert not [write for write in decision.writes if write.key.kind == "CompileRun"]
    assert condition(decision, "UpToDate") == ("False", "InvalidSpec")
    assert "correct the anchor or remove it" in message(decision, "UpToDate")


def test_the_run_of_the_anchor_is_never_surplus() -> None:
    agent = make.agent(promotion={"historyLimit": 1, "anchor": OLDER})
    runs_of = []
    for index, model in enumerate((OLDER, "sha256:" + "c" * 64, "sha256:" + "d" * 64)):
        run = wanted_run(agent, model=model)
        run["metadata"] |= {"name": f"travel-{index}", "uid": str(index), "creationTimestamp": f"2026-11-1{index}T12:00:00Z"}
        runs_of.append(run)
    gone = decide(agent, runs=(wanted_run(agent), *runs_of)).deletes
    assert [run["metadata"]["name"] for run in gone] == ["travel-1"]


def test_what_a_run_was_made_with_stays_although_something_else_serves_now() -> None:
    agent = make.agent()
    run = wanted_run(agent)
    run["spec"] |= {"references": [REFERENCE], "attempt": 3}
    spec = made(decide(agent, runs=(run,)))
    assert (spec["references"], spec["attempt"]) == (run["spec"]["references"], 3)


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param({"template": {"evaluation": {"trials": 1}, "generation": {"audit": "Enforce"}}}, id="defaults spelled out"),
        pytest.param({"procedureRef": {"name": "journey"}}, id="the same procedure by another name"),
    ],
)
def test_a_run_keeps_its_inputs_as_they_were_written_when_an_edit_wants_the_same_run(edit: Object) -> None:
    run = wanted_run(make.agent())
    agent = make.agent(compile={"procedureRef": {"name": "travel"}, **edit})
    spec = made(decide(agent, runs=(run,), procedure=make.procedure()))
    assert spec["inputs"] == run["spec"]["inputs"], "the API server refuses any change of them"


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [
        pytest.param({"gate": {"dryRun": True}}, {"execution": {}}, id="the last field was removed"),
        pytest.param({}, {"execution": {}}, id="it was removed before"),
        pytest.param({"gate": {}}, {"execution": {"gate": {}}}, id="there was none"),
    ],
)
def test_a_policy_that_is_empty_again_is_taken_away_because_the_api_server_would_make_null_of_it(
    stored: Object, wanted: Object
) -> None:
    run = wanted_run(make.agent())
    run["spec"]["execution"] = stored | {"suspend": False}
    spec = made(decide(make.agent(), runs=(run,)))
    assert spec.get("execution", {}) == wanted["execution"]
    stricter = made(decide(make.agent(promotion={"gate": {"minScore": 4.0}}), runs=(run,)))
    assert stricter["execution"] == {"gate": {"minScore": 4.0}}


def test_a_dry_run_tells_the_verdict_and_moves_no_traffic() -> None:
    agent = make.agent(promotion={"gate": {"dryRun": True}})
    decision = decide(agent, runs=(wanted_run(agent),))
    assert condition(decision, "UpToDate") == ("False", "AwaitingApproval")
    assert "passed the gate but is not served because spec.promotion.gate.dryRun is set" in message(decision, "UpToDate")
    assert not [write for write in decision.writes if write.key.kind == "Deployment"]
    pinned = make.agent(promotion={"gate": {"dryRun": True}, "pin": MODEL})
    assert [write for write in decide(pinned, runs=(wanted_run(pinned),)).writes if write.key.kind == "Deployment"]


def compared_run(**fields: Any) -> Object:
    run = make.run()
    run["spec"] |= {"references": [REFERENCE], **fields}
    return run


def test_references_are_frozen_and_part_of_the_reports_address_only() -> None:
    plain, compared = (
        RunInput.model_validate_json(write.object["data"]["input.json"])
        for run in (make.run(), compared_run())
        for write in runs.decide(run).writes
        if write.key.kind == "ConfigMap"
    )
    assert [each.model_digest for each in compared.references] == [MODEL]
    assert (plain.keys.dataset, plain.keys.model) == (compared.keys.dataset, compared.keys.model)
    assert plain.keys.report != compared.keys.report


@pytest.mark.parametrize("more", [[], [REFERENCE | {"role": "Anchor", "modelDigest": OLDER, "stored": True}]])
def test_the_evaluation_serves_every_reference_but_stored_ones(more: list[Object]) -> None:
    stages = [{"name": name, **runs.DONE} for name in ("generate", "train")]
    run = compared_run(references=[REFERENCE, *more])
    run["status"] = {"stages": stages}
    [job] = [write.object for write in runs.decide(run, input=make.frozen(run)).writes if write.key.kind == "Job"]
    names = [each["name"] for each in job["spec"]["template"]["spec"]["initContainers"]]
    assert names == ["vllm", "vllm-serving"]


def judged(status: Object, **fields: Any) -> Decision:
    """A run whose stages are done."""
    run = make.run({"stages": [{"name": name, **runs.DONE} for name in ("generate", "train", "evaluate")], **status})
    run["spec"] |= fields
    return runs.decide(run, input=make.frozen(run))


def test_a_later_attempt_needs_more_evidence() -> None:
    close = {"scores": make.scores(mean=3.62).dump()}
    assert condition(judged(close), "Promotable") == ("True", "GatePassed")
    assert condition(judged(close, attempt=5), "Promotable") == ("False", "GateInconclusive")


def test_scores_of_an_earlier_version_keep_the_verdict_that_they_got() -> None:
    scores = {key: value for key, value in make.scores(mean=2.0).dump().items() if key != "statistics"}
    verdict = {"result": "Pass", "reasons": ["all 7 checks passed"]}
    decision = judged({"scores": scores, "verdict": verdict})
    assert decision.status
    assert decision.status["verdict"] == verdict
    assert condition(judged({"scores": scores}), "Stalled")[0] == "True"


OWN = "http://judge.models.svc:8000/v1"


ANTHROPIC = {"name": "anthropic", "model": "m"}
ONE_KEY = {"apiKeySecret": {"name": "key"}}


@pytest.mark.parametrize(
    ("evaluation", "execution", "words"),
    [
        ({}, {}, "evaluation.judge: the scripted judge"),
        (
            {"judge": ANTHROPIC, "secondJudge": {"name": "openai", "model": "gpt-4.1"}},
            ONE_KEY,
            "evaluation.secondJudge: the provider openai needs an API key",
        ),
        (
            {"judge": ANTHROPIC, "secondJudge": {"name": "openai", "model": "q", "baseURL": OWN}},
            ONE_KEY,
            f"{OWN} would receive the API key but is not an allowed endpoint",
        ),
    ],
)
def test_an_evaluation_that_could_not_be_carried_out_is_refused_before_anything_is_paid(
    evaluation: Object, execution: Object, words: str
) -> None:
    run = make.run(execution=execution)
    run["spec"]["inputs"] |= {"generation": {"teacher": {"name": "anthropic", "model": "m"}}, "evaluation": evaluation}
    decision = runs.decide(run)
    assert decision.writes == ()
    assert condition(decision, "Succeeded") == ("False", "InvalidSpec")
    assert words in str(decision.status)
