"""The store: the newest copy of everything, and who must hear of it."""

import json

from subterra_api.v1alpha1.compilerun import ExecutionSettings
from subterra_operator.kube.cache import ObjectCache
from subterra_operator.resources import Key, Object, Version, key_of
from subterra_operator.settings import Settings
from subterra_operator.specs.stage_job import Attempt, stage_job
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster import run_decisions as runs


def version(obj: Object, number: int) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(number)}}


def test_an_older_copy_never_replaces_a_newer_one() -> None:
    cache, run = ObjectCache(), make.run()
    assert cache.upsert(version(run, 10))
    assert not cache.upsert(version(run, 9))
    found = cache.get(key_of(run))
    assert found
    assert found["metadata"]["resourceVersion"] == "10"


def test_a_late_event_does_not_bring_a_deleted_object_back() -> None:
    cache, run = ObjectCache(), make.run()
    cache.upsert(version(run, 10))
    assert cache.remove(version(run, 11))
    assert not cache.upsert(version(run, 10))
    assert cache.get(key_of(run)) is None


def test_an_object_that_gets_back_the_label_that_watches_select_by_is_known_again() -> None:
    cache, run = ObjectCache(), make.run()
    cache.upsert(version(run, 10))
    assert cache.remove(version(run, 11)), "a watch reports the lost label as a deletion"
    assert not cache.upsert(version(run, 11))
    assert cache.upsert(version(run, 12))
    assert cache.deleted_uids == set()


def test_the_deletion_of_a_predecessor_does_not_remove_the_successor() -> None:
    cache, run = ObjectCache(), make.run()
    successor = {**run, "metadata": {**run["metadata"], "uid": "second", "resourceVersion": "20"}}
    cache.upsert(version(run, 10))
    cache.upsert(successor)
    assert not cache.remove(version(run, 21))
    assert cache.get(key_of(run)) is not None


def test_versions_and_deletions_can_be_compared_with_a_list() -> None:
    cache = ObjectCache()
    here, there = make.run(name="here", uid="1"), make.run(name="there", uid="2")
    elsewhere = {**there, "metadata": {**there["metadata"], "namespace": "elsewhere"}}
    cache.upsert(version(here, 10))
    cache.upsert(version(elsewhere, 30))
    assert cache.versions("CompileRun", here["metadata"]["namespace"]) == {key_of(here): Version("1", 10)}
    assert cache.versions("CompileRun") == {key_of(here): Version("1", 10), key_of(elsewhere): Version("2", 30)}
    assert cache.deleted_uids == set()
    cache.remove(here)
    assert (cache.versions("CompileRun", "demo"), cache.deleted_uids) == ({}, {"1"})


def test_a_procedure_wakes_its_agents_and_its_runs() -> None:
    cache, procedure = ObjectCache(), make.procedure()
    cache.upsert(make.agent())
    cache.upsert(make.run())
    woken = set(cache.affected_keys(procedure))
    assert woken == {
        Key("Procedure", "demo", "travel"),
        Key("CompiledAgent", "demo", "travel"),
        Key("CompileRun", "demo", "travel-12345678"),
    }


def test_a_run_wakes_its_agent() -> None:
    assert Key("CompiledAgent", "demo", "travel") in set(ObjectCache().affected_keys(make.run()))


def test_a_child_of_a_run_of_the_same_name_that_was_deleted_is_not_taken_for_its_own() -> None:
    cache, run = ObjectCache(), make.run()
    before = make.run(uid="an earlier one")
    cache.upsert(run)
    cache.upsert(make.frozen(before))
    found = cache.run_snapshot(key_of(run))
    assert found
    assert found.input is None


def test_a_run_has_its_procedure_until_its_input_is_frozen() -> None:
    """Unpacking it at each decision would be a third of the work."""
    cache, run = ObjectCache(), make.run()
    for obj in (run, make.procedure()):
        cache.upsert(obj)
    found = cache.run_snapshot(key_of(run))
    assert found and found.procedure == cache.get(key_of(make.procedure()))
    cache.upsert(make.frozen(run))
    found = cache.run_snapshot(key_of(run))
    assert found and found.input and found.procedure is None


def test_copies_keep_no_more_than_decisions_read() -> None:
    cache, config = ObjectCache(), make.frozen(make.run())
    cache.upsert(config)
    found = cache.get(key_of(config))
    assert found
    assert "data" not in found


def test_a_procedure_wakes_whoever_names_it_now_and_nobody_who_did_before() -> None:
    cache = ObjectCache()
    cache.upsert(version(make.agent(), 10))
    other = make.agent(compile={"procedureRef": {"name": "other"}})
    cache.upsert(version(other, 11))
    assert set(cache.affected_keys(make.procedure())) == {Key("Procedure", "demo", "travel")}
    cache.remove(version(other, 12))
    renamed = make.procedure()
    renamed["metadata"]["name"] = "other"
    assert set(cache.affected_keys(renamed)) == {Key("Procedure", "demo", "other")}


def test_a_run_has_its_own_jobs_and_their_pods_and_no_others() -> None:
    cache, run, namesake = ObjectCache(), make.run(), make.run(uid="an earlier one")
    mine = make.stored(stage_job(run, ExecutionSettings(), Attempt("generate", 1), Settings()))
    earlier = make.stored(stage_job(namesake, ExecutionSettings(), Attempt("train", 1), Settings()))
    for obj in (run, mine, earlier, make.pod_of(mine), make.pod_of(earlier)):
        cache.upsert(obj)
    found = cache.run_snapshot(key_of(run))
    assert found
    assert [job["metadata"]["name"] for job in found.jobs] == ["travel-12345678-generate-1"]
    assert [pod["metadata"]["name"] for pod in found.pods] == ["travel-12345678-generate-1-abcde"]


def test_a_run_has_its_jobsets_with_their_jobs_and_pods() -> None:
    cache, run = ObjectCache(), make.run(execution={"train": {"nodes": 2}})
    execution = ExecutionSettings.model_validate(run["spec"]["execution"])
    job_set = make.stored(stage_job(run, execution, Attempt("train", 1), Settings()))
    template = job_set["spec"]["replicatedJobs"][0]["template"]
    owner = {"kind": "JobSet", "uid": job_set["metadata"]["uid"], "controller": True}
    metadata = {"name": "member", "namespace": make.NAMESPACE, "labels": template["metadata"]["labels"], "ownerReferences": [owner]}
    member = make.stored({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": template["spec"]})
    for obj in (run, job_set, member, make.pod_of(member)):
        cache.upsert(obj)
    found = cache.run_snapshot(key_of(run))
    assert found is not None and found.job_sets
    assert [job["kind"] for job in found.jobs] == ["JobSet"], "a member is no attempt"
    assert [job["metadata"]["name"] for job in found.members] == ["member"]
    assert len(found.pods) == 1
    for child in (job_set, member):
        assert list(cache.affected_keys(child)) == [key_of(run)]


def test_a_run_has_its_rayjobs_and_their_pods_by_its_uid_because_their_owners_are_kuberays() -> None:
    cache, namesake = ObjectCache(), make.run(execution={"generate": {"workers": 10}}, uid="an earlier one")
    run = make.run(execution={"generate": {"workers": 10}})
    execution = ExecutionSettings.model_validate(run["spec"]["execution"])
    mine, earlier = (
        make.stored(stage_job(each, execution, Attempt("generate", 1), Settings(), ray_jobs=True)) for each in (run, namesake)
    )
    for number, each in enumerate((mine, earlier)):
        made = make.pod_of(each)
        made["metadata"] |= {
            "name": f"pod-{number}",
            "uid": f"pod-{number}",
            "ownerReferences": [{"uid": "job", "controller": True}],
        }
        made["metadata"]["labels"] |= each["spec"]["submitterPodTemplate"]["metadata"]["labels"]
        cache.upsert(made)
    cache.upsert(run)
    cache.upsert(mine)
    found = cache.run_snapshot(key_of(run))
    assert found is not None and found.ray_jobs
    assert [job["kind"] for job in found.jobs] == ["RayJob"]
    assert [pod["metadata"]["name"] for pod in found.pods] == ["pod-0"]
    assert list(cache.affected_keys(mine)) == [key_of(run)]


def test_a_snapshot_is_nobody_elses_to_change() -> None:
    cache, run = ObjectCache(), make.run()
    cache.upsert(run)
    first = cache.get(key_of(run))
    assert first
    first["spec"].clear()
    assert cache.get(key_of(run)) != first


def test_objects_come_back_as_they_were_whatever_the_first_of_their_kind_was() -> None:
    cache = ObjectCache()
    strange = make.run(name="strange", annotations={"note": "\u00e4" * 50_000})
    runs = [strange, *(make.run(name=f"run-{number}", uid=str(number)) for number in range(3))]
    for run in runs:
        cache.upsert(run)
    assert [cache.get(key_of(run)) for run in runs] == runs


def test_a_thousand_objects_of_a_kind_take_little_room() -> None:
    """The operator makes them, so they are alike."""
    cache, [first, *others] = ObjectCache(), [make.run(name=f"run-{number}", uid=str(number)) for number in range(1000)]
    cache.upsert(first)
    for run in others:
        cache.upsert(run)
    assert max(len(cache._objects["CompileRun"][key_of(run)].packed) for run in others) < len(json.dumps(first)) / 4


def test_running_pods_are_known_without_being_unpacked() -> None:
    cache, run = ObjectCache(), make.run()
    job = make.stored(stage_job(run, ExecutionSettings(), Attempt("generate", 1), Settings()))
    pod = make.pod_of(job, running={})
    cache.upsert(pod)
    assert cache.running_pods() == [], "it has no address yet"
    cache.upsert(version({**pod, "status": {**pod["status"], "podIP": "10.0.0.1"}}, 10))
    [found] = cache.running_pods()
    assert (found.address, found.owner) == ("10.0.0.1", key_of(run))
    cache.upsert(version({**pod, "status": {"phase": "Succeeded", "podIP": "10.0.0.1"}}, 11))
    assert cache.running_pods() == []


def test_the_versions_of_an_agent_change_with_each_part_of_it() -> None:
    cache, agent = ObjectCache(), make.agent()
    key = key_of(agent)
    assert cache.agent_versions(key) == ()
    seen = {cache.agent_versions(key)}
    owner = {"kind": "CompiledAgent", "name": "travel", "uid": agent["metadata"]["uid"], "controller": True}
    service = make.resource("Service", "travel", {}, ownerReferences=[owner])
    deployment = make.resource("Deployment", "travel-1", {}, ownerReferences=[owner])
    run = make.run(ownerReferences=[owner])
    for number, obj in enumerate((agent, service, deployment, run, deployment, service)):
        cache.upsert(version(obj, 10 + number))
        seen.add(cache.agent_versions(key))
    assert len(seen) == 7


def test_the_versions_of_what_a_run_owns_change_with_each_object_down_to_the_pods() -> None:
    cache, run = ObjectCache(), make.run()
    key = key_of(run)
    assert cache.versions_of_owned(key) == ()
    job = runs.job(run, "generate")
    seen = {cache.versions_of_owned(key)}
    ray_job = {**job, "apiVersion": "ray.io/v1", "kind": "RayJob"}
    for number, obj in enumerate((run, make.frozen(run), job, make.pod_of(job), make.pod_of(job), job, ray_job)):
        cache.upsert(version(obj, 10 + number))
        seen.add(cache.versions_of_owned(key))
    assert len(seen) == 8
