"""A Procedure with calls: its condition, its digest and its agents' runs follow the procedures that it calls."""

import json
from typing import Any

from subterra_api.digest import procedure_digest
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.calls.called import MAX_CALLED_BYTES
from subterra_operator.decide.procedure_check import checked
from subterra_operator.kube.cache import ObjectCache
from subterra_operator.resources import Key, Object
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.cluster_simulation import Simulation
from subterra_testkit.procedures import Json, agent, branch, end, procedure, user

BANK = Key("Procedure", make.NAMESPACE, "bank")
IDENTITY = Key("Procedure", make.NAMESPACE, "identity")
CALL: Json = {"id": "check", "role": "call", "procedure": "identity", "next": [{"to": "pay", "outcome": "success"}, {"to": "stop"}]}


def caller(name: str = "bank", *, calls: str = "identity") -> Object:
    nodes = [agent("hello", "check"), CALL | {"procedure": calls}, end("pay"), end("stop", outcome="abandonment")]
    return make.resource("Procedure", name, {"systemPrompt": "You help.", "start": "hello", "nodes": nodes})


def callee(prompt: str = "Ask for the code.", **more: Any) -> Object:
    nodes = [agent("ask", "answer", prompt=prompt), user("answer", branch("yes", "Here."), branch("no", "Never.")), end("yes")]
    nodes.append(end("no", outcome="abandonment"))
    return make.resource("Procedure", "identity", {"systemPrompt": "You check.", "start": "ask", "nodes": nodes, **more})


def world(*objects: Object) -> Simulation:
    made = Simulation()
    for obj in objects:
        made.put(obj)
    made.settle()
    return made


def agent_of_bank() -> Object:
    return make.agent(compile={"procedureRef": {"name": "bank"}, "settleSeconds": 0})


def condition(of: Simulation, kind: str = "Accepted") -> Object:
    return next(each for each in of.objects[BANK]["status"]["conditions"] if each["type"] == kind)


def runs(of: Simulation) -> list[str]:
    return [run["metadata"]["name"] for run in of.all("CompileRun")]


def test_a_caller_is_accepted_with_the_counts_of_the_flat_procedure() -> None:
    status = world(callee(), caller()).objects[BANK]["status"]
    assert (status["phase"], status["nodes"], status["paths"]) == ("Accepted", 7, "2")


def test_a_new_caller_waits_a_minute_for_a_procedure_that_it_calls() -> None:
    made = world(caller(), agent_of_bank())
    assert (condition(made)["status"], condition(made)["reason"]) == ("Unknown", "ProcedureNotFound")
    assert condition(made, "Stalled")["status"] == "False"
    assert made.decide(BANK).recheck_after == 60
    agents_recheck = made.decide(Key("CompiledAgent", make.NAMESPACE, "travel")).recheck_after
    assert agents_recheck is None or agents_recheck > 0
    made.put(callee())
    made.settle()
    assert condition(made)["status"] == "True"
    assert len(runs(made)) == 1


def test_after_a_minute_the_missing_procedure_is_an_error_that_names_the_node() -> None:
    made = world(caller())
    made.wait(61)
    assert (condition(made)["status"], condition(made, "Stalled")["status"]) == ("False", "True")
    assert condition(made)["message"] == (
        "node check: calls identity, which does not exist in this namespace; create it, or correct the name"
    )
    assert "digest" not in made.objects[BANK]["status"]


def test_a_change_of_a_called_procedure_starts_a_new_run_of_the_callers_agents() -> None:
    made = world(callee(), caller(), agent_of_bank())
    [first] = runs(made)
    made.put(callee("Ask for the code, politely."))
    made.settle()
    assert len(runs(made)) == 2
    assert made.objects[Key("CompileRun", make.NAMESPACE, first)]["spec"]["execution"]["suspend"]


def test_a_change_that_the_caller_does_not_use_starts_no_run() -> None:
    made = world(callee(), caller(), agent_of_bank())
    made.put(callee(openers=["Good morning."]))
    made.settle()
    assert len(runs(made)) == 1


def test_a_deleted_callee_leaves_the_agent_serving_what_it_has() -> None:
    made = world(callee(), caller(), agent_of_bank())
    made.wait(61)
    made.delete(IDENTITY)
    made.settle()
    assert condition(made)["status"] == "False"
    assert len(runs(made)) == 1


def test_errors_in_a_called_procedure_are_the_callers_too() -> None:
    made = world(callee("  "), caller())
    assert condition(made)["message"] == (
        "node check, in procedure identity: node ask (spec.nodes[0].prompt): has no prompt; describe what the agent should do here"
    )


def test_a_run_stores_the_flat_procedure_and_its_digest() -> None:
    made = world(callee(), caller(), agent_of_bank())
    [stored] = [json.loads(each["data"]["input.json"]) for each in made.all("ConfigMap")]
    spec = ProcedureSpec.model_validate(stored["procedure"])
    assert "check__ask" in {node.id for node in spec.nodes}
    assert not any(node.role == "call" for node in spec.nodes)
    assert stored["procedureDigest"] == procedure_digest(spec) == made.objects[BANK]["status"]["digest"]


def test_a_run_is_frozen_only_while_no_called_procedure_changes() -> None:
    made = world(callee(), caller())
    inputs = {"procedureRef": {"name": "bank"}, "procedureDigest": made.objects[BANK]["status"]["digest"]}
    run = make.resource("CompileRun", "by-hand", {"inputs": inputs})
    made.put(run)
    frozen = next(
        write for write in made.decide(Key("CompileRun", make.NAMESPACE, "by-hand")).writes if write.key.kind == "ConfigMap"
    )
    assert [guard["metadata"]["name"] for guard in frozen.more_guards] == ["identity"]


def test_a_run_for_another_version_of_the_callee_spends_nothing() -> None:
    made = world(callee(), caller())
    inputs = {"procedureRef": {"name": "bank"}, "procedureDigest": made.objects[BANK]["status"]["digest"]}
    made.put(callee("Ask for the code, politely."))
    made.put(make.resource("CompileRun", "by-hand", {"inputs": inputs}))
    made.settle()
    status = made.objects[Key("CompileRun", make.NAMESPACE, "by-hand")]["status"]
    assert status["conditions"][0]["reason"] == "ProcedureChanged"
    assert not made.all("Job")


def test_a_procedure_wakes_those_that_call_it_over_others_too_and_their_agents() -> None:
    cache = ObjectCache()
    for obj in (caller(), caller("outer", calls="bank"), agent_of_bank()):
        cache.upsert(obj)
    woken = set(cache.affected_keys(callee()))
    assert woken == {IDENTITY, BANK, Key("Procedure", make.NAMESPACE, "outer"), Key("CompiledAgent", make.NAMESPACE, "travel")}


def test_called_procedures_beyond_a_mebibyte_are_not_read() -> None:
    cache, long = ObjectCache(), make.resource("Procedure", "identity", {"systemPrompt": "x" * MAX_CALLED_BYTES, "nodes": []})
    cache.upsert(long)
    called = cache.called_procedures(caller())
    assert called["identity"]["spec"] is None
    check = checked(caller()["spec"], called, "bank")
    assert check.errors.startswith("node check: calls identity, which is not read, since the procedures called here have more than")


def test_procedures_that_call_each_other_wake_each_other_once() -> None:
    cache = ObjectCache()
    cache.upsert(caller("outer", calls="bank"))
    cache.upsert(caller(calls="outer"))
    assert list(cache.affected_keys(caller(calls="outer"))) == [BANK, Key("Procedure", make.NAMESPACE, "outer")]


def test_a_small_procedure_of_its_own_has_the_digest_that_it_always_had() -> None:
    spec = procedure(agent("hello", "bye"), end("bye"))
    made = world(make.resource("Procedure", "bank", spec.dump()))
    assert made.objects[BANK]["status"]["digest"] == procedure_digest(spec)
