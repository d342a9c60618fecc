"""A run, decided stage by stage: each test is one moment and what follows from it."""

from typing import Any

import pytest

from subterra_api.job_contract.messages import RunInput
from subterra_api.v1alpha1.compilerun import ExecutionSettings
from subterra_operator.decide.decision import Decision
from subterra_operator.decide.run.run import decide_run
from subterra_operator.resources import Object
from subterra_operator.snapshot import RunSnapshot
from subterra_operator.specs.run_input import artifact_keys_of
from subterra_operator.specs.stage_job import Attempt, stage_job
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.decided_conditions import condition, message
from subterra_testkit.cluster.run_decisions import DONE, SETTINGS, created, decide, finished, job, stage, started


def test_a_new_run_freezes_its_input_and_starts_to_generate() -> None:
    decision = decide(make.run())
    assert created(decision, "ConfigMap") == ["travel-12345678-input"]
    assert created(decision) == ["travel-12345678-generate-1"]
    assert [write.key.kind for write in decision.writes][-1] == "Job", "the Job comes last: it needs all the rest"


def test_an_edited_procedure_is_refused_before_anything_is_spent() -> None:
    decision = decide(make.run(), procedure=make.procedure(systemPrompt="Something else."))
    assert decision.writes == ()
    assert condition(decision, "Stalled") == ("True", "ProcedureChanged")


def test_an_edit_after_the_input_was_frozen_changes_nothing() -> None:
    run = make.run()
    decision = decide(run, procedure=make.procedure(systemPrompt="Something else."), input=make.frozen(run))
    assert created(decision) == ["travel-12345678-generate-1"]


def ended_run(**policy: Any) -> Object:
    """A run with a verdict whose input somebody has deleted since."""
    stages = [{"name": name, **DONE} for name in ("generate", "train", "evaluate")]
    run = make.run({"stages": stages, "scores": make.scores().dump()})
    judged = decide(run, input=make.frozen(run)).status
    return {**make.run(execution={"gate": policy}, generation=2 if policy else 1), "status": judged}


@pytest.mark.parametrize("procedure", [None, make.procedure(systemPrompt="Something else.")])
def test_a_run_that_has_ended_stays_so_without_its_input_and_its_procedure(procedure: Object | None) -> None:
    run = ended_run()
    assert decide(run, procedure=procedure).status == run["status"]
    stricter = decide(ended_run(minScore=4.9), procedure=procedure)
    assert condition(stricter, "Succeeded") == ("True", "Succeeded")
    assert condition(stricter, "Promotable") == ("False", "GateFailed")
    assert stage(stricter, "gate")["message"] in message(stricter, "Promotable")


def test_a_reason_that_a_later_release_recorded_keeps_nobody_from_going_back_to_this_one() -> None:
    run = make.run(started(state="Failed", reason="FromTheFuture", message="it is so"))
    decision = decide(run, input=make.frozen(run))
    assert condition(decision, "Stalled") == ("True", "Unknown")
    assert stage(decision, "generate")["reason"] == "FromTheFuture"


def test_a_run_that_lost_its_input_on_its_way_does_not_say_that_nothing_was_spent() -> None:
    said = message(decide(make.run(started("train")), procedure=make.procedure(systemPrompt="Something else.")), "Stalled")
    assert "ConfigMap travel-12345678-input was deleted; finished work is kept" in said
    assert "nothing was spent" not in said


def test_a_missing_procedure_is_named() -> None:
    decision = decide_run(RunSnapshot(make.run()), SETTINGS, make.NOW)
    assert condition(decision, "Succeeded") == ("False", "ProcedureNotFound")


def test_a_finished_stage_starts_the_next_at_once() -> None:
    run = make.run(started())
    frozen, generate = make.frozen(run), job(run, "generate")
    message = make.result("generate", artifact_keys_of(frozen).dataset)
    decision = decide(run, input=frozen, jobs=(generate,), pods=(make.pod_of(generate, terminated=make.ended(0, message)),))
    assert created(decision) == ["travel-12345678-train-1"]
    assert stage(decision, "generate")["state"] == "Succeeded"
    assert decision.status
    assert decision.status["artifacts"]["datasetPath"].startswith("datasets/")


def test_a_recorded_success_is_never_run_again_though_its_job_is_gone() -> None:
    run = make.run(started("train"))
    decision = decide(run, input=make.frozen(run), jobs=(job(run, "train"),))
    assert created(decision) == []
    assert stage(decision, "generate")["state"] == "Succeeded"


def test_a_job_that_was_created_before_the_status_was_written_is_taken_over() -> None:
    run = make.run()
    decision = decide(run, input=make.frozen(run), jobs=(job(run, "generate"),))
    assert created(decision) == []
    assert (stage(decision, "generate")["attempt"], stage(decision, "generate")["state"]) == (1, "Running")


def test_a_job_that_ended_before_its_start_was_written_reads_as_if_it_had_been() -> None:
    run = make.run()
    generate, frozen = job(run, "generate"), make.frozen(run)
    pod = make.pod_of(generate, terminated=make.ended(0, make.result("generate", artifact_keys_of(frozen).dataset)))
    told = stage(decide(run, input=frozen, jobs=(generate,), pods=(pod,)), "generate")
    assert (told["state"], told["attempt"], told["jobName"]) == ("Succeeded", 1, "travel-12345678-generate-1")
    assert told["startedAt"] == generate["metadata"]["creationTimestamp"]


COMPLETE = {"type": "Complete", "status": "True", "lastTransitionTime": "2026-11-20T12:00:00Z"}


def test_a_success_that_nobody_heard_is_read_back_for_free() -> None:
    run = make.run(started())
    parts = {"input": make.frozen(run), "jobs": (job(run, "generate", conditions=[COMPLETE]),)}
    assert created(decide(run, later=5, **parts)) == [], "the pod may still tell"
    assert created(decide(run, later=15, **parts)) == ["travel-12345678-generate-1-attach"]


def test_reading_back_never_reaches_a_provider() -> None:
    execution = ExecutionSettings.model_validate({"apiKeySecret": {"name": "key"}})
    attach = stage_job(make.paid_run(), execution, Attempt("generate", 1, attach=True), SETTINGS)
    paid = stage_job(make.paid_run(), execution, Attempt("generate", 1), SETTINGS)
    assert "ANTHROPIC_API_KEY" in str(paid)
    assert "ANTHROPIC_API_KEY" not in str(attach)


def frozen_text(run: Object) -> str:
    [frozen] = [write.object for write in decide(run).writes if write.key.kind == "ConfigMap"]
    return str(frozen["data"]["input.json"])


def test_the_frozen_input_knows_who_is_billed_and_no_cap() -> None:
    owner = {"apiVersion": "subterra.dev/v1alpha1", "kind": "CompiledAgent", "name": "travel", "uid": "a", "controller": True}
    text = frozen_text(make.run(execution={"maxUSD": "5"}, ownerReferences=[owner]))
    assert RunInput.model_validate_json(text).run.payer == "agent-travel"
    assert "maxUSD" not in text


def test_a_run_by_hand_pays_for_itself_whatever_its_label_says() -> None:
    run = make.run(labels={"subterra.dev/agent": "base"})
    assert RunInput.model_validate_json(frozen_text(run)).run.payer == f"run-{run['metadata']['uid']}"
    assert "subterra.dev/agent" not in job(run, "generate")["metadata"]["labels"]


def test_good_scores_pass_the_gate() -> None:
    decision = finished()
    assert condition(decision, "Succeeded") == ("True", "Succeeded")
    assert condition(decision, "Promotable") == ("True", "GatePassed")
    assert decision.writes == ()


def test_bad_scores_are_a_success_of_the_run_and_a_failure_of_the_candidate() -> None:
    decision = finished(2.0)
    assert condition(decision, "Succeeded") == ("True", "Succeeded")
    assert condition(decision, "Promotable") == ("False", "GateFailed")


def judged_before(verdict: str, *, generation: int = 1, statistics_format: int = 1) -> Decision:
    """A finished run whose status, of its first generation, has a verdict that today's rules would not give."""
    stages = [{"name": name, **DONE} for name in ("generate", "train", "evaluate")]
    scores = make.scores().dump()
    scores["statistics"]["format"] = statistics_format
    status = {"stages": stages, "scores": scores, "verdict": {"result": verdict, "reasons": ["once"]}, "observedGeneration": 1}
    run = make.run(status)
    run["metadata"]["generation"] = generation
    return decide(run, input=make.frozen(run))


def test_scores_of_an_earlier_release_keep_their_verdict_until_the_policy_changes() -> None:
    assert condition(judged_before("Fail"), "Promotable") == ("False", "GateFailed")
    assert condition(judged_before("Fail", generation=2), "Promotable") == ("True", "GatePassed")
    assert condition(judged_before("Fail", statistics_format=2), "Promotable") == ("True", "GatePassed")


def test_a_stricter_policy_judges_the_same_report_anew() -> None:
    assert condition(finished(4.6, {"minScore": 4.9}), "Promotable") == ("False", "GateFailed")


def test_the_same_moment_twice_gives_the_same_status() -> None:
    run = make.run(started())
    generate = job(run, "generate")
    parts = {"input": make.frozen(run), "jobs": (generate,), "pods": (make.pod_of(generate, running={}),)}
    once = decide(run, **parts)
    assert decide({**run, "status": once.status}, later=30, **parts).status == once.status
