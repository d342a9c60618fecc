"""What serves, evaluated again on demand: what it begins, what it leaves alone, what it tells."""

import copy
from typing import Any

import pytest

from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec, ReevaluationRequest
from subterra_operator.labels import labels_of
from subterra_operator.resources import Key, Object, key_of
from subterra_operator.specs.compile_run import reevaluation_run
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.agent_lifecycle import AGENT, AgentLifecycle

BAD = {"mean": 2.0, "failures": 0.6}


def served() -> AgentLifecycle:
    """An agent whose first version has served for a minute."""
    life = AgentLifecycle()
    life.serve()
    life.world.wait(60)
    return life


def status(life: AgentLifecycle) -> Object:
    found: Object = life.world.objects[AGENT]["status"]
    return found


def told(life: AgentLifecycle) -> tuple[str, str, str]:
    """Status, reason and message of the condition; empty words without it."""
    found = next((each for each in status(life)["conditions"] if each["type"] == "Reevaluated"), {})
    return found.get("status", ""), found.get("reason", ""), found.get("message", "")


def again(life: AgentLifecycle) -> list[Object]:
    """The runs that evaluate again, oldest first."""
    return [run for run in life.world.all("CompileRun") if "reevaluates" in run["spec"]]


def results(life: AgentLifecycle) -> list[Object]:
    """What is known of the version that served first, latest first."""
    found: list[Object] = status(life)["history"][-1].get("reevaluations", [])
    return found


def events(life: AgentLifecycle, reason: str) -> list[tuple[str, str]]:
    """Type and note of the agent's Events of a reason."""
    return [(event.type, event.note) for key, event in life.world.events if key == AGENT and event.reason == reason]


def forget(life: AgentLifecycle) -> None:
    """Removes the annotation."""
    known = life.world.objects[AGENT]
    life.world.put({**known, "metadata": {**known["metadata"], "annotations": {}}})
    life.world.settle()


def settings(life: AgentLifecycle, **evaluation: Any) -> None:
    spec = copy.deepcopy(life.world.objects[AGENT]["spec"])
    spec["compile"]["template"] = {"evaluation": evaluation}
    life.change(spec)


def test_what_serves_is_evaluated_again_by_a_run_that_only_evaluates_with_other_scenarios() -> None:
    life = served()
    before = copy.deepcopy([key for key in life.world.objects if key.kind in ("Deployment", "Service")])
    life.reevaluate()
    [run] = again(life)
    assert run["spec"]["reevaluates"] == life.first
    [job] = life.world.working()
    assert labels_of(job)["subterra.dev/stage"] == "evaluate"
    first = Key("Job", make.NAMESPACE, f"{life.first}-evaluate-1")
    pods = [each["spec"]["template"]["spec"] for each in (life.world.objects[first], job)]
    assert pods[0]["initContainers"] == pods[1]["initContainers"], "the same model is served in the same way"
    keys = [make.keys_of_pod(pod, life.world.objects[Key("ConfigMap", make.NAMESPACE, f"{life.first}-input")]) for pod in pods]
    assert (keys[0].model, keys[0].dataset) == (keys[1].model, keys[1].dataset)
    assert keys[0].report != keys[1].report, "the first verdict's report is not overwritten"
    assert [key for key in life.world.objects if key.kind in ("Deployment", "Service")] == before
    assert (told(life)[:2], status(life)["stage"]) == (("Unknown", "Reevaluating"), "serving, reevaluating")


def test_it_plays_alone_with_a_seed_that_neither_dataset_nor_verdict_had() -> None:
    origin, spec = make.run(), CompiledAgentSpec.model_validate(make.agent()["spec"])
    baseline = {"kind": "InContext", "provider": {"name": "openai", "model": "local", "baseURL": "http://vllm.example/v1"}}
    origin["spec"] |= {
        "references": [{"role": "Serving", "run": "older", "modelDigest": "sha256:" + "b" * 64, "modelPath": "models/2"}]
    }
    request = ReevaluationRequest(at="2026-11-20T12:00:00Z", run="travel-2", version="1", reevaluates="travel-12345678")
    assert spec.compile
    seeds = set[int]()
    for _ in range(3):
        origin["spec"]["inputs"] |= {
            "generation": {"seeds": sorted(seeds) or [42]},
            "evaluation": {"scenarios": 200, "seed": max(seeds, default=7), "baselines": [baseline]},
        }
        run = reevaluation_run(make.agent(), spec, spec.compile, request, origin)
        evaluation = run["spec"]["inputs"]["evaluation"]
        assert set(evaluation) == {"scenarios", "seed"}
        assert evaluation["seed"] not in seeds
        assert "references" not in run["spec"]
        seeds.add(evaluation["seed"])


def test_the_result_is_in_the_history_of_its_version_and_a_condition() -> None:
    life = served()
    life.reevaluate("2026-11-20T13:01:30+01:00")
    life.stage()
    [result] = results(life)
    assert (result["at"], result["verdict"], result["scenarios"]) == ("2026-11-20T12:01:30Z", "Pass", 200)
    assert (result["conformance"]["mean"], result["usd"]) == (0.97, "0")
    assert result["report"] == again(life)[0]["status"]["artifacts"]["reportPath"]
    state, reason, text = told(life)
    assert (state, reason) == ("True", "VerdictConfirmed")
    assert "evaluated again: Pass in 200 other scenarios, conformance 97% (95% to 99%), failures 2% (1% to 3%), $0" in text
    assert events(life, "Reevaluated") == [("Normal", text)]
    assert "reevaluations" not in status(life)["serving"]
    life.world.wait(3600)
    assert (len(again(life)), told(life)[2], events(life, "Reevaluated")) == (1, text, [("Normal", text)])


def test_a_worse_verdict_is_a_warning_with_the_fix_and_moves_no_traffic() -> None:
    life = served()
    traffic, phase = list(life.world.selected), life.world.phase("CompiledAgent")
    life.reevaluate()
    life.stage(**BAD)
    state, reason, text = told(life)
    assert (state, reason) == ("True", "VerdictWorsened")
    assert "then go back with `subterra rollback travel`, or set spec.promotion.pin" in text
    assert events(life, "Reevaluated") == [("Warning", text)]
    assert (life.world.selected, life.world.phase("CompiledAgent")) == (traffic, phase)
    assert life.world.objects[Key("CompileRun", make.NAMESPACE, life.first)]["status"]["verdict"]["result"] == "Pass"


def test_too_little_evidence_is_no_worse_verdict_and_asks_for_no_rollback() -> None:
    life = served()
    life.reevaluate()
    life.stage(scenarios=50)
    state, reason, text = told(life)
    assert (state, reason, results(life)[0]["verdict"]) == ("True", "VerdictUncertain", "Inconclusive")
    assert "remove what makes it inconclusive, and ask again with `subterra reevaluate travel`" in text
    assert "rollback" not in text
    assert events(life, "Reevaluated") == [("Warning", text)]


def test_the_same_time_runs_once_however_it_is_written() -> None:
    life = served()
    life.reevaluate("2026-11-20T12:01:30Z")
    life.stage()
    for text in ("2026-11-20T12:01:30Z", "2026-11-20T12:01:30.000+00:00", "2026-11-20T07:01:30-05:00"):
        life.reevaluate(text)
    assert (len(again(life)), len(results(life)), life.world.working()) == (1, 1, [])


def test_an_evaluation_in_progress_stops_paying_when_spec_model_is_set() -> None:
    life = served()
    life.reevaluate()
    pinned_model(life)
    [run] = again(life)
    assert run["spec"]["execution"]["suspend"] is True
    assert told(life)[1] == "ReevaluationRefused"
    assert "spec.model is set now" in told(life)[2]


def test_an_operator_that_dies_before_it_wrote_the_status_goes_on_with_the_same_run() -> None:
    life = served()
    life.reevaluate()
    lost = copy.deepcopy(status(life))
    del lost["reevaluation"]
    life.world._change(AGENT, {"status": lost})
    life.world.settle()
    life.stage()
    assert [count for (key, _), count in life.world.created.items() if key == key_of(again(life)[0])] == [1]
    assert len(results(life)) == 1


def test_the_latest_five_results_are_kept_with_their_runs() -> None:
    life = served()
    for _ in range(7):
        life.world.wait(60)
        life.reevaluate()
        life.stage()
    assert [past["run"] for past in results(life)] == [run["metadata"]["name"] for run in again(life)[::-1]]
    assert len(results(life)) == 5
    assert len({run["spec"]["inputs"]["evaluation"]["seed"] for run in again(life)}) == 5


def test_a_later_time_waits_for_the_run_in_progress_and_says_so() -> None:
    life = served()
    life.reevaluate("2026-11-20T12:01:30Z")
    life.reevaluate("2026-11-20T12:01:40Z")
    assert "subterra.dev/reevaluate-at 2026-11-20T12:01:40Z is looked at afterwards" in told(life)[2]
    assert len(again(life)) == 1
    life.stage()
    assert len(again(life)) == 2
    life.stage()
    assert [past["at"] for past in results(life)] == ["2026-11-20T12:01:40Z", "2026-11-20T12:01:30Z"]


def test_a_time_to_come_is_waited_for() -> None:
    life = served()
    life.reevaluate("2026-11-20T13:00:00Z")
    assert (told(life), again(life)) == (("Unknown", "Pending", "what serves at 2026-11-20T13:00:00Z is evaluated again then"), [])
    life.world.wait(3600)
    assert len(again(life)) == 1


def pinned_model(life: AgentLifecycle) -> None:
    serving = status(life)["serving"]
    spec = {key: value for key, value in life.world.objects[AGENT]["spec"].items() if key != "compile"}
    life.change({**spec, "model": {"uri": f"pvc://{serving['modelPath']}", "digest": serving["modelDigest"]}})
    life.ready()


@pytest.mark.parametrize(
    ("prepare", "asked", "cause", "fix"),
    [
        (None, "tomorrow", "tomorrow is not a time", "such as 2026-11-20T12:02:01Z"),
        (None, "2026-11-20", "2026-11-20 is not a time", "set the annotation subterra.dev/reevaluate-at to the current time"),
        (None, "2026-11-31T12:00:00Z", "is not a time", "to the current time"),
        (
            None,
            "2026-11-20T12:01:00Z",
            "serves since 2026-11-20T12:01:01Z, after 2026-11-20T12:01:00Z",
            "to evaluate it again, set",
        ),
        (AgentLifecycle.suspend, None, "spec.compile.suspend is set", "clear it"),
        (pinned_model, None, "serves spec.model", "on the agent that compiled it"),
    ],
    ids=["words", "a date", "no such day", "before it served", "suspended", "spec.model"],
)
def test_a_refusal_names_cause_and_fix(prepare: Any, asked: str | None, cause: str, fix: str) -> None:
    life = served()
    if prepare:
        prepare(life)
    life.reevaluate(asked)
    state, reason, text = told(life)
    assert (state, reason, again(life)) == ("False", "ReevaluationRefused", [])
    assert cause in text
    assert fix in text
    assert events(life, "ReevaluationRefused") == [("Warning", text)]


def test_without_a_version_that_serves_there_is_nothing_to_evaluate() -> None:
    life = AgentLifecycle()
    life.reevaluate()
    assert told(life)[:2] == ("False", "ReevaluationRefused")
    assert "no version serves" in told(life)[2]
    life.world.wait(60)
    life.serve()
    assert "serves since" in told(life)[2], "what serves later was not meant"
    assert again(life) == []


def test_an_earlier_time_than_the_last_is_refused() -> None:
    life = served()
    life.reevaluate("2026-11-20T12:01:40Z")
    life.stage()
    life.reevaluate("2026-11-20T12:01:30Z")
    assert "is not later than the last re-evaluation, of 2026-11-20T12:01:40Z" in told(life)[2]
    life.reevaluate("2026-11-20T12:01:40Z")
    assert told(life)[1] == "VerdictConfirmed"


def test_a_deleted_run_takes_its_input_along_and_the_message_says_so() -> None:
    life = served()
    life.edit()
    life.serve()
    life.pin(0)
    life.world.wait(60)
    life.world.delete(Key("CompileRun", make.NAMESPACE, life.first))
    life.world.settle()
    life.reevaluate()
    assert (told(life)[:2], again(life)) == (("False", "RunNotFound"), [])
    assert f"run {life.first}, which made it, was deleted with its input" in told(life)[2]
    assert len(events(life, "RunNotFound")) == 1


def test_a_result_outlives_the_run_whose_model_was_evaluated() -> None:
    life = served()
    life.reevaluate()
    life.stage()
    life.edit()
    life.serve()
    life.world.delete(Key("CompileRun", make.NAMESPACE, life.first))
    life.world.settle()
    assert again(life)[0]["status"]["phase"] == "Succeeded"
    assert len(results(life)) == 1


def test_a_cap_that_is_used_up_is_named_and_a_raised_one_goes_on_with_a_retry() -> None:
    life = served()
    life.change({**life.world.objects[AGENT]["spec"], "budget": {"maxUSDPerRun": "1.00"}})
    life.reevaluate()
    assert again(life)[0]["spec"]["execution"]["maxUSD"] == "1.00"
    life.stage(11, "the cap of $1.00 would be exceeded")
    assert told(life)[:2] == ("False", "BudgetExceeded")
    assert "the cap of $1.00 would be exceeded; paid work is kept; raise that cap or wait, then set" in told(life)[2]
    assert [kind for kind, _ in events(life, "BudgetExceeded")] == ["Warning"]
    life.change({**life.world.objects[AGENT]["spec"], "budget": {"maxUSDPerRun": "5.00"}})
    life.retry()
    assert again(life)[0]["spec"]["execution"]["maxUSD"] == "5.00"
    life.stage()
    assert told(life)[:2] == ("True", "VerdictConfirmed")


def test_one_that_failed_gives_way_to_a_later_one() -> None:
    life = served()
    life.reevaluate()
    [failed] = again(life)
    life.stage(10, "bad input")
    life.world.wait(60)
    life.reevaluate()
    assert [run["metadata"]["name"] for run in again(life)] != [failed["metadata"]["name"]]
    assert len(again(life)) == 1


def test_removing_the_annotation_stops_it_and_says_so() -> None:
    life = served()
    life.reevaluate()
    forget(life)
    assert (again(life), told(life)) == ([], ("", "", ""))
    assert [kind for kind, _ in events(life, "ReevaluationStopped")] == ["Normal"]


def test_suspending_the_agent_suspends_it() -> None:
    life = served()
    life.reevaluate()
    life.suspend()
    assert told(life)[:2] == ("Unknown", "Suspended")
    life.suspend(False)
    life.stage()
    assert told(life)[:2] == ("True", "VerdictConfirmed")


def test_an_edit_meanwhile_neither_stops_it_nor_changes_what_it_plays() -> None:
    life = served()
    life.reevaluate()
    life.edit()
    jobs = {labels_of(job)["subterra.dev/stage"]: job for job in life.world.working()}
    assert set(jobs) == {"evaluate", "generate"}
    assert make.input_of_pod(jobs["evaluate"]["spec"]["template"]["spec"]) == f"{life.first}-input"


def test_what_was_found_about_a_version_stays_with_it_when_another_one_serves() -> None:
    life = served()
    life.reevaluate()
    evaluating, *_ = life.world.working()
    life.edit()
    for _ in range(3):
        [job] = [job for job in life.world.working() if job["metadata"]["name"] != evaluating["metadata"]["name"]]
        life.world.end(job)
        life.world.settle()
    life.ready()
    assert told(life)[0] == "Unknown"
    life.world.end(evaluating)
    life.world.settle()
    assert told(life)[0] == ""
    assert [len(version.get("reevaluations", [])) for version in status(life)["history"]] == [0, 1]
    life.pin(0)
    life.ready()
    assert told(life)[:2] == ("True", "VerdictConfirmed")


def test_it_is_no_attempt_at_the_procedure() -> None:
    life = served()
    for _ in range(2):
        life.world.wait(60)
        life.reevaluate()
        life.stage(**BAD)
    settings(life, scenarios=200)
    newest = next(run for run in life.world.all("CompileRun") if run["metadata"]["name"] == status(life)["currentRun"])
    assert "attempt" not in newest["spec"]


def test_a_run_made_by_hand_names_what_it_does_not_find() -> None:
    world = AgentLifecycle().world
    run = make.run()
    run["spec"]["reevaluates"] = "nobody"
    world.put(run)
    world.settle()
    found = world.objects[key_of(run)]["status"]
    [succeeded] = [each for each in found["conditions"] if each["type"] == "Succeeded"]
    assert (succeeded["status"], succeeded["reason"], found["phase"]) == ("False", "RunNotFound", "Failed")
    assert "run nobody, whose model this run evaluates, or its ConfigMap nobody-input does not exist" in succeeded["message"]


def test_a_run_that_evaluates_again_tells_its_two_stages() -> None:
    life = served()
    life.reevaluate()
    [run] = again(life)
    assert [stage["name"] for stage in run["status"]["stages"]] == ["evaluate", "gate"]
    notes = [event.note for key, event in life.world.events if key == key_of(run)]
    assert notes[0].endswith("again, in the stages evaluate and gate")
