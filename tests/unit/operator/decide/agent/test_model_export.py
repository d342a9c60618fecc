"""An agent's models in a registry: pushed once each by a Job, told in status, condition and Events; and served from there."""

import json
from typing import Any

import pytest

from subterra_api.job_contract.model_transfer import EXPORT_VARIABLE, PULL_VARIABLE, ExportRequest, ExportResult, PullRequest
from subterra_api.v1alpha1.compiledagent import CompiledAgentStatus
from subterra_operator.decide.decision import Decision
from subterra_operator.decide.events.agent_events import agent_events
from subterra_operator.kube.cache import ObjectCache
from subterra_operator.resources import Key, Object
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.agent_decisions import MODEL, decide, traffic_to, version, wanted_run

TO = "oci://registry.example/agents/travel"
URI = f"{TO}@sha256:{'d' * 64}"
EXPORT: Object = {"to": TO, "registrySecret": {"name": "registry"}, "signingSecret": {"name": "promoter"}}
FINISHED: Object = {"uri": URI, "digest": MODEL, "registrySecret": {"name": "registry"}}


class Staging:
    """An agent whose compiled model has the traffic."""

    def __init__(self, verdict: str = "Pass", **export: Any) -> None:
        self.agent = make.agent(promotion={"export": {**EXPORT, **export}})
        self.run = wanted_run(self.agent, verdict, procedureDigest=make.TRAVEL_DIGEST)
        made = {"dataset": "sha256:" + "e" * 64, "report": "sha256:" + "f" * 64, "datasetPath": "datasets/1"}
        self.run["status"]["artifacts"] |= made

    def decided(self, later: float = 0, **parts: Any) -> Decision:
        deployed = version(self.agent, self.run)
        return decide(
            self.agent, later, runs=(self.run,), deployments=(deployed,), service=traffic_to(self.agent, deployed), **parts
        )

    def job(self) -> Object:
        [made] = [write.object for write in self.decided().writes if write.key.kind == "Job"]
        return made

    def ended(self, *ends: Object, job: Object | None = None, later: float = 60) -> Decision:
        """The decision once pods of the Job have ended so."""
        stored = make.stored(self.job(), **(job or {"active": 1}))
        pods = tuple(make.pod_of(stored, terminated=end) for end in ends)
        return self.decided(later, exports=(stored,), export_pods=pods)


def variable(container: Object, name: str) -> str:
    return next(str(each["value"]) for each in container["env"] if each["name"] == name)


def exported(decision: Decision) -> Object:
    assert decision.status
    return next(each for each in decision.status["conditions"] if each["type"] == "Exported")


def test_the_model_with_traffic_is_pushed_by_a_job_next_to_the_store() -> None:
    staging = Staging()
    job = staging.job()
    pod = job["spec"]["template"]["spec"]
    [main] = pod["containers"]
    request = ExportRequest.model_validate(json.loads(variable(main, EXPORT_VARIABLE)))
    assert request.to == f"{TO}:{staging.run['metadata']['name']}"
    assert (request.model_path, request.dataset_path, request.sign) == ("models/1", "datasets/1", True)
    said = request.provenance
    assert (said.model, said.procedure, said.procedure_digest, said.verdict.result) == (MODEL, "travel", make.TRAVEL_DIGEST, "Pass")
    store, registry, signing = main["volumeMounts"][0], main["volumeMounts"][-2], main["volumeMounts"][-1]
    assert (store["mountPath"], store["readOnly"]) == ("/store", True)
    assert {registry["mountPath"], signing["mountPath"]} == {"/etc/subterra/registry", "/etc/subterra/signing"}
    assert job["metadata"]["ownerReferences"][0]["kind"] == "CompiledAgent"
    assert job["spec"]["template"]["metadata"]["labels"]["subterra.dev/registry"] == "true"


def test_an_export_runs_where_what_serves_does_because_the_store_may_be_on_that_node_alone() -> None:
    staging, taint = Staging(), {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    staging.agent["spec"]["serving"] = {"nodeSelector": {"pool": "gpus"}, "tolerations": [taint]}
    pod = staging.job()["spec"]["template"]["spec"]
    assert (pod["nodeSelector"], pod["tolerations"]) == ({"pool": "gpus"}, [taint])


def test_a_pod_that_outlives_its_export_is_ended_once_the_artifact_is_recorded() -> None:
    staging = Staging()
    result = ExportResult(uri=URI, signed=True).model_dump_json(by_alias=True)
    first = staging.ended(make.ended(0, result))
    assert not [write for write in first.writes if write.key.kind == "Job"]
    job = staging.job()
    staging.agent["status"] = first.status
    stored = make.stored(job, active=1)
    later = staging.decided(3600, exports=(stored,), export_pods=(make.pod_of(stored, terminated=make.ended(0, result)),))
    [end] = [write for write in later.writes if write.key.kind == "Job"]
    assert (end.verb, end.object["spec"]) == ("patch", {"activeDeadlineSeconds": 1})


def test_a_tag_of_ones_own_moves_with_each_model() -> None:
    staging = Staging(to=f"{TO}:staging")
    [main] = staging.job()["spec"]["template"]["spec"]["containers"]
    assert f'"to":"{TO}:staging"' in variable(main, EXPORT_VARIABLE)


def test_status_condition_and_event_name_the_artifact_and_nothing_is_pushed_twice() -> None:
    staging = Staging()
    decision = staging.ended(make.ended(0, ExportResult(uri=URI, signed=True).model_dump_json(by_alias=True)))
    run = staging.run["metadata"]["name"]
    assert decision.status
    assert decision.status["exported"] == {"uri": URI, "modelDigest": MODEL, "run": run, "to": TO, "signedWith": "promoter"}
    assert exported(decision)["message"] == f"the model of run {run} is {URI}"
    [event] = [
        each
        for each in agent_events(CompiledAgentStatus(), CompiledAgentStatus.model_validate(decision.status))
        if each.reason == "Exported"
    ]
    assert (event.type, event.action) == ("Normal", "Export")
    staging.agent["status"] = decision.status
    again = staging.decided(90000)
    assert not [write for write in again.writes if write.key.kind == "Job"], "not even once the Job is gone"
    assert exported(again)["status"] == "True"


@pytest.mark.parametrize("change", [{"to": f"{TO}-2"}, {"signingSecret": {"name": "other"}}])
def test_another_place_or_key_pushes_it_again(change: Object) -> None:
    staging = Staging()
    staging.agent["status"] = staging.ended(make.ended(0, ExportResult(uri=URI, signed=True).model_dump_json(by_alias=True))).status
    staging.agent["spec"]["promotion"]["export"] |= change
    assert staging.job()["metadata"]["name"].startswith("travel-export-")
    decision = staging.decided()
    assert exported(decision)["status"] == "Unknown"
    assert decision.status and decision.status["exported"]["uri"] == URI, "what is there stays told"


WORDS = "registry registry.example asks for a password (401 Unauthorized); correct the password in the Secret of …"


def test_a_failed_attempt_is_told_while_others_are_made_and_the_last_one_with_the_fix() -> None:
    staging = Staging()
    waiting = exported(staging.ended(make.ended(10, f"log\n{WORDS}\n")))
    assert (waiting["status"], waiting["reason"]) == ("Unknown", "Exporting")
    assert f"attempt 1 failed: {WORDS}" in waiting["message"]
    failed = {"conditions": [{"type": "Failed", "status": "True", "lastTransitionTime": make.CREATED}]}
    gone = staging.ended(make.ended(10, WORDS), job=failed)
    assert exported(gone)["reason"] == "ExportFailed"
    name = staging.job()["metadata"]["name"]
    assert f"{WORDS}; correct that, then run kubectl delete job {name}" in exported(gone)["message"]
    assert gone.status and gone.status["phase"] == "Serving", "what serves is not touched"


def test_a_result_that_nobody_saw_is_said_and_not_taken_for_success() -> None:
    done = {"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": make.CREATED}]}
    staging = Staging()
    early = staging.ended(job=done, later=4)
    assert (exported(early)["reason"], early.recheck_after) == ("Exporting", 6)
    assert "no pod says how" in exported(staging.ended(job=done))["message"]


def test_nothing_is_pushed_before_a_compiled_model_has_traffic() -> None:
    staging = Staging()
    decision = decide(staging.agent, runs=(staging.run,))
    assert not [write for write in decision.writes if write.key.kind == "Job"]
    assert exported(decision)["reason"] == "NothingToExport"
    staging.agent["spec"] |= {"compile": None, "model": FINISHED}
    assert "set promotion.export where it is compiled" in exported(decide(staging.agent))["message"]
    assert not [each for each in decide(make.agent()).status["conditions"] if each["type"] == "Exported"]  # type: ignore[index]


def test_an_export_wakes_its_agent_and_is_seen_with_its_pods() -> None:
    staging, cache = Staging(), ObjectCache()
    job = make.stored(staging.job())
    job["metadata"]["ownerReferences"][0]["uid"] = staging.agent["metadata"]["uid"]
    pod = make.pod_of(job, running={})
    for each in (staging.agent, job, pod):
        cache.upsert(each)
        assert Key("CompiledAgent", "demo", "travel") in cache.affected_keys(each)
    snapshot = cache.agent_snapshot(Key("CompiledAgent", "demo", "travel"))
    assert snapshot
    assert [each["metadata"]["name"] for each in (*snapshot.exports, *snapshot.export_pods)] == [
        job["metadata"]["name"],
        pod["metadata"]["name"],
    ]
    assert snapshot.pods == (), "it serves nothing"


def served(**model: Any) -> Decision:
    agent = make.agent()
    agent["spec"] = {"model": {**FINISHED, **model}}
    return decide(agent, procedure=None)


def test_a_model_from_a_registry_is_pulled_into_the_pod_and_needs_no_store() -> None:
    decision = served(requireAttestation={"publicKey": "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n"})
    assert [write.key.kind for write in decision.writes if write.key.kind != "NetworkPolicy"] == ["Deployment"], "and no claim"
    [deployed] = [write.object for write in decision.writes if write.key.kind == "Deployment"]
    template = deployed["spec"]["template"]
    pull, exporter = template["spec"]["initContainers"]
    request = PullRequest.model_validate(json.loads(variable(pull, PULL_VARIABLE)))
    assert (request.uri, request.digest) == (URI, MODEL)
    assert request.public_key and request.public_key.startswith("-----BEGIN PUBLIC KEY-----")
    [vllm] = template["spec"]["containers"]
    assert f"/store/{request.path}" in vllm["command"]
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    assert volumes["store"] == {"name": "store", "emptyDir": {}}
    assert volumes["registry"]["secret"] == {"secretName": "registry"}
    assert {"name": "store", "mountPath": "/store"} in pull["volumeMounts"], "only this container may write there"
    assert {"name": "store", "mountPath": "/store", "readOnly": True} in vllm["volumeMounts"]
    assert "registry" not in {mount["name"] for each in (vllm, exporter) for mount in each["volumeMounts"]}
    assert template["metadata"]["labels"]["subterra.dev/registry"] == "true"


def test_the_way_to_the_registry_may_be_a_proxy() -> None:
    agent, proxy = make.agent(), {"name": "HTTPS_PROXY", "value": "http://proxy:3128"}
    agent["spec"] = {"model": FINISHED, "serving": {"podTemplate": {"env": [proxy]}}}
    [deployed] = [write.object for write in decide(agent, procedure=None).writes if write.key.kind == "Deployment"]
    pull, exporter = deployed["spec"]["template"]["spec"]["initContainers"]
    assert (proxy in pull["env"], proxy in exporter["env"]) == (True, False)


def test_another_artifact_secret_or_policy_is_another_version() -> None:
    policy = {"requireAttestation": {"publicKey": "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n"}}
    changes: list[Object] = [{}, {"uri": URI.replace("d", "c")}, {"registrySecret": {"name": "other"}}, policy]
    writes = [write.key for each in changes for write in served(**each).writes]
    assert len({key.name for key in writes if key.kind == "Deployment"}) == len(changes)


REFUSED: dict[str, tuple[Object, str]] = {
    "a tag": ({"uri": f"{TO}:v1"}, f"{TO}:v1 does not name one artifact for good; write {TO}@sha256:… with the artifact's digest"),
    "no digest": ({"uri": TO}, f"write {TO}@sha256:…"),
    "a cut digest": ({"uri": f"{TO}@sha256:12"}, f"write {TO}@sha256:…"),
    "a statement about a volume": (
        {"uri": "pvc://m", "registrySecret": None, "requireAttestation": {"publicKey": "-----BEGIN PUBLIC KEY-----\n"}},
        "spec.model.requireAttestation: pvc://m comes from no registry; export the model (spec.promotion.export) and use oci://",
    ),
    "a password for a volume": ({"uri": "pvc://m"}, "spec.model.registrySecret: pvc://m comes from no registry"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_name_one_artifact_is_refused_with_the_form_that_does(case: str) -> None:
    model, words = REFUSED[case]
    decision = served(**model)
    assert decision.status
    assert not [write for write in decision.writes if write.key.kind == "Deployment"]
    [stalled] = [each for each in decision.status["conditions"] if each["type"] == "Stalled"]
    assert stalled["reason"] == "InvalidSpec"
    assert words in stalled["message"]
