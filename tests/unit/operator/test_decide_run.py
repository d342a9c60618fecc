"""A run, decided stage by stage: each test is one moment and what follows from it."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from subterra_api.job_contract.environment import BUDGET_VARIABLE
from subterra_api.job_contract.messages import ExitCode, RunInput
from subterra_api.v1alpha1.compilerun import ExecutionSettings
from subterra_operator.decide.decision import Decision
from subterra_operator.decide.run.run import decide_run
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.snapshot import RunSnapshot
from subterra_operator.specs.run_input import artifact_keys_of
from subterra_operator.specs.stage_job import Attempt, stage_job
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.decided_conditions import condition, message

SETTINGS = Settings()
DONE = {"state": "Succeeded", "attempt": 1, "percent": 100}


def decide(run: Object, later: float = 0, **parts: Any) -> Decision:
    parts.setdefault("procedure", make.procedure())
    return decide_run(RunSnapshot(run, **parts), SETTINGS, make.NOW + timedelta(seconds=later))


def job(run: Object, stage: Any, number: int = 1, attach: bool = False, **status: Any) -> Object:
    execution = ExecutionSettings.model_validate(run["spec"]["execution"])
    return make.stored(stage_job(run, execution, Attempt(stage, number, attach), SETTINGS), **status)


def created(decision: Decision, kind: str = "Job") -> list[str]:
    return [write.object["metadata"]["name"] for write in decision.writes if write.key.kind == kind and write.verb == "create"]


def stage(decision: Decision, name: str) -> Mapping[str, Any]:
    assert decision.status
    return next(item for item in decision.status["stages"] if item["name"] == name)


def started(name: str = "generate", **about: Any) -> dict[str, Any]:
    """A status in which a stage runs and those before it are done."""
    names = ["generate", "train", "evaluate"]
    before = [{"name": other, **DONE} for other in names[: names.index(name)]]
    return {"stages": [*before, {"name": name, "state": "Running", "attempt": 1, **about}]}


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


def test_an_attempt_whose_start_was_not_written_counts_as_one_of_the_three() -> None:
    run = make.run(started(state="Pending", retries=1, attempt=2, finishedAt="2026-11-20T11:00:00Z"))
    third = job(run, "generate", 3)
    pod = make.pod_of(third, terminated=make.ended(ExitCode.INFRASTRUCTURE, "no store"))
    told = stage(decide(run, input=make.frozen(run), jobs=(third,), pods=(pod,)), "generate")
    assert (told["state"], told["attempt"], told["retries"]) == ("Failed", 3, 2)


FINAL = [
    (ExitCode.INTERNAL, "InternalError"),
    (ExitCode.INVALID_INPUT, "InvalidInput"),
    (ExitCode.BUDGET_EXCEEDED, "BudgetExceeded"),
    (ExitCode.PROVIDER_BLOCKED, "ProviderBlocked"),
]


@pytest.mark.parametrize(("code", "reason"), FINAL)
def test_these_exit_codes_are_final_and_say_what_to_do(code: ExitCode, reason: str) -> None:
    run = make.run(started())
    generate = job(run, "generate")
    pod = make.pod_of(generate, terminated=make.ended(code, "it is so"))
    decision = decide(run, input=make.frozen(run), jobs=(generate,), pods=(pod,))
    assert condition(decision, "Stalled") == ("True", reason)
    assert stage(decision, "generate")["message"].startswith("it is so; ")
    again = decide({**run, "status": decision.status}, later=99999, input=make.frozen(run), jobs=(generate,), pods=(pod,))
    assert created(again) == []


OWNED = [{"kind": "CompiledAgent", "name": "travel", "uid": "a", "controller": True}]
CAPPED = Settings.model_validate({"budgets": {"maxUSDPerRun": "50", "maxUSDPerNamespacePer30Days": "300"}})


@pytest.mark.parametrize(
    ("owners", "execution", "settings", "caps"),
    [
        (OWNED, {"maxUSD": "20"}, SETTINGS, "$20 per run (spec.budget.maxUSDPerRun of agent travel)"),
        ([], {"maxUSD": "20"}, SETTINGS, "$20 per run (spec.execution.maxUSD of run travel-12345678)"),
        (
            OWNED,
            {"maxUSDPer30Days": "90"},
            CAPPED,
            "$50 per run (budgets in the chart's values) or $90 per 30 days (spec.budget.maxUSDPer30Days of agent travel) "
            "or $300 per 30 days for namespace demo (budgets in the chart's values)",
        ),
        (OWNED, {}, SETTINGS, "one in spec.budget of agent travel, where none is set any more"),
    ],
    ids=["of an agent", "of a run of its own", "of the administrator too", "removed since"],
)
def test_a_cap_that_a_job_reached_without_a_word_is_named_with_its_value_and_field(
    owners: list[Object], execution: Object, settings: Settings, caps: str
) -> None:
    run = make.run(started(), execution, ownerReferences=owners)
    generate = job(run, "generate")
    pod = make.pod_of(generate, terminated=make.ended(ExitCode.BUDGET_EXCEEDED))
    snapshot = RunSnapshot(run, procedure=make.procedure(), input=make.frozen(run), jobs=(generate,), pods=(pod,))
    told = stage(decide_run(snapshot, settings, make.NOW), "generate")["message"]
    assert told.startswith(f"exit code 11: a cap was reached: {caps}; paid work is kept; raise that cap or wait, then set ")


@pytest.mark.parametrize("code", [ExitCode.PROVIDER_UNAVAILABLE, ExitCode.INFRASTRUCTURE, 137, 143])
def test_these_exit_codes_are_tried_again_after_a_while(code: int) -> None:
    run = make.run(started())
    generate = job(run, "generate")
    pod = make.pod_of(generate, terminated=make.ended(code))
    parts = {"input": make.frozen(run), "jobs": (generate,), "pods": (pod,)}
    decision = decide(run, **parts)
    assert condition(decision, "Stalled")[0] == "False"
    assert decision.recheck_after
    waiting = {**run, "status": decision.status}
    assert created(decide(waiting, later=decision.recheck_after - 1, **parts)) == []
    assert created(decide(waiting, later=decision.recheck_after, **parts)) == ["travel-12345678-generate-2"]


def test_the_third_failure_is_final() -> None:
    run = make.run(started(attempt=3, retries=2))
    generate = job(run, "generate", 3)
    pod = make.pod_of(generate, terminated=make.ended(14))
    decision = decide(run, input=make.frozen(run), jobs=(generate,), pods=(pod,))
    assert condition(decision, "Stalled") == ("True", "Infrastructure")


def test_running_out_of_memory_is_final_because_it_would_happen_again() -> None:
    run = make.run(started())
    generate = job(run, "generate")
    pod = make.pod_of(generate, terminated={**make.ended(137), "reason": "OOMKilled"})
    decision = decide(run, input=make.frozen(run), jobs=(generate,), pods=(pod,))
    assert "resources.limits.memory" in stage(decision, "generate")["message"]
    assert condition(decision, "Stalled") == ("True", "OutOfMemory")
    assert stage(decision, "generate")["state"] == "Failed"


def test_a_job_that_vanished_is_tried_again_as_another_attempt() -> None:
    run = make.run(started())
    decision = decide(run, input=make.frozen(run))
    later = decide({**run, "status": decision.status}, later=60, input=make.frozen(run))
    assert created(later) == ["travel-12345678-generate-2"]


def test_the_reason_survives_the_pod_in_the_jobs_condition() -> None:
    text = "Container main for pod demo/x failed with exit code 11 matching FailJob rule at index 2"
    failed = {"type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": text}
    run = make.run(started())
    decision = decide(run, input=make.frozen(run), jobs=(job(run, "generate", conditions=[failed]),))
    assert condition(decision, "Stalled") == ("True", "BudgetExceeded")


def test_a_deadline_that_passed_is_named() -> None:
    failed = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}
    run = make.run(started())
    decision = decide(run, input=make.frozen(run), jobs=(job(run, "generate", conditions=[failed]),))
    assert condition(decision, "Generated") == ("False", "DeadlineExceeded")


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


def test_asking_again_starts_one_more_attempt_and_is_remembered() -> None:
    failed = {"stages": [{"name": "generate", "state": "Failed", "attempt": 1, "reason": "InvalidInput"}]}
    run = make.run(failed, annotations={"subterra.dev/retry-at": "2026-11-20T12:00:00Z"})
    decision = decide(run, input=make.frozen(run), jobs=(job(run, "generate"),))
    assert created(decision) == ["travel-12345678-generate-2"]
    assert decision.status
    assert decision.status["retryAt"] == "2026-11-20T12:00:00Z"
    jobs = (job(run, "generate"), job(run, "generate", 2))
    assert created(decide({**run, "status": decision.status}, input=make.frozen(run), jobs=jobs)) == []


def test_a_raised_cap_reaches_the_next_attempt_though_the_input_is_frozen() -> None:
    before = make.run(execution={"maxUSD": "5"})
    failed = {"stages": [{"name": "generate", "state": "Failed", "attempt": 1, "reason": "BudgetExceeded"}]}
    run = make.run(failed, {"maxUSD": "7"}, annotations={"subterra.dev/retry-at": "2026-11-20T12:00:00Z"})
    decision = decide(run, input=make.frozen(before), jobs=(job(before, "generate"),))
    [write] = [write for write in decision.writes if write.key.kind == "Job"]
    main = write.object["spec"]["template"]["spec"]["containers"][0]
    assert write.object["metadata"]["name"] == "travel-12345678-generate-2"
    assert [item["value"] for item in main["env"] if item["name"] == BUDGET_VARIABLE] == ['{"maxUSD":"7"}']


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


def finished(mean: float = 4.6, gate: Mapping[str, Any] | None = None) -> Decision:
    """A run whose evaluation is recorded."""
    stages = [{"name": name, **DONE} for name in ("generate", "train", "evaluate")]
    status = {"stages": stages, "scores": make.scores(mean).dump()}
    run = make.run(status, {"gate": dict(gate or {})})
    return decide(run, input=make.frozen(run))


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
