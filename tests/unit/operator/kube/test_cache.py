"""The store: the newest copy of everything, and who must hear of it."""

from subterra_api.v1alpha1.compilerun import ExecutionSettings
from subterra_operator.kube.cache import ObjectCache
from subterra_operator.resources import Key, Object, Version, key_of
from subterra_operator.settings import Settings
from subterra_operator.specs.stage_job import Attempt, stage_job
from subterra_testkit.cluster import kubernetes_objects as make


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


def test_a_snapshot_is_nobody_elses_to_change() -> None:
    cache, run = ObjectCache(), make.run()
    cache.upsert(run)
    first = cache.get(key_of(run))
    assert first
    first["spec"].clear()
    assert cache.get(key_of(run)) != first
