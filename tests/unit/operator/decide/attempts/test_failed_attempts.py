"""Attempts that failed: what is final and says what to do, what is tried again, and what a person asks for."""

import pytest

from subterra_api.job_contract.environment import BUDGET_VARIABLE
from subterra_api.job_contract.messages import ExitCode
from subterra_operator.decide.run.run import decide_run
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.snapshot import RunSnapshot
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.decided_conditions import condition
from subterra_testkit.cluster.run_decisions import SETTINGS, created, decide, job, stage, started

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


def test_an_attempt_whose_start_was_not_written_counts_as_one_of_the_three() -> None:
    run = make.run(started(state="Pending", retries=1, attempt=2, finishedAt="2026-11-20T11:00:00Z"))
    third = job(run, "generate", 3)
    pod = make.pod_of(third, terminated=make.ended(ExitCode.INFRASTRUCTURE, "no store"))
    told = stage(decide(run, input=make.frozen(run), jobs=(third,), pods=(pod,)), "generate")
    assert (told["state"], told["attempt"], told["retries"]) == ("Failed", 3, 2)
