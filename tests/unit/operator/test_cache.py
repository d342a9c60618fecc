"""The store: the newest copy of everything, and who must hear of it."""

from subterra_api.v1alpha1.compilerun import ExecutionSettings
from subterra_operator.kube.cache import Store
from subterra_operator.resources import Key, Object, key_of
from subterra_operator.settings import Settings
from subterra_operator.specs.stage_job import Attempt, stage_job
from subterra_testkit import kubernetes_objects as make


def version(obj: Object, number: int) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(number)}}


def test_an_older_copy_never_replaces_a_newer_one() -> None:
    store, run = Store(), make.run()
    assert store.seen(version(run, 10))
    assert not store.seen(version(run, 9))
    found = store.get(key_of(run))
    assert found
    assert found["metadata"]["resourceVersion"] == "10"


def test_a_late_event_does_not_bring_a_deleted_object_back() -> None:
    store, run = Store(), make.run()
    store.seen(version(run, 10))
    assert store.seen(version(run, 11), deleted=True)
    assert not store.seen(version(run, 10))
    assert store.get(key_of(run)) is None


def test_the_deletion_of_a_predecessor_does_not_remove_the_successor() -> None:
    store, run = Store(), make.run()
    successor = {**run, "metadata": {**run["metadata"], "uid": "second", "resourceVersion": "20"}}
    store.seen(version(run, 10))
    store.seen(successor)
    assert not store.seen(version(run, 21), deleted=True)
    assert store.get(key_of(run)) is not None


def test_a_list_removes_what_it_does_not_have_but_nothing_newer_than_itself() -> None:
    store = Store()
    old, new = make.run(name="old", uid="1"), make.run(name="new", uid="2")
    store.seen(version(old, 10))
    store.seen(version(new, 30))
    assert store.listed("CompileRun", [], "20", None) == {key_of(old)}
    assert store.get(key_of(new)) is not None


def test_a_procedure_wakes_its_agents_and_its_runs() -> None:
    store, procedure = Store(), make.procedure()
    store.seen(make.agent())
    store.seen(make.run())
    woken = set(store.keys_for(procedure))
    assert woken == {
        Key("Procedure", "demo", "travel"), Key("CompiledAgent", "demo", "travel"), Key("CompileRun", "demo", "travel-12345678"),
    }  # fmt: skip


def test_a_run_wakes_its_agent() -> None:
    assert Key("CompiledAgent", "demo", "travel") in set(Store().keys_for(make.run()))


def test_a_child_of_a_run_of_the_same_name_that_was_deleted_is_not_taken_for_its_own() -> None:
    store, run = Store(), make.run()
    before = make.run(uid="an earlier one")
    store.seen(run)
    store.seen(make.frozen(before))
    found = store.run(key_of(run))
    assert found
    assert found.input is None


def test_copies_keep_no_more_than_decisions_read() -> None:
    store, config = Store(), make.frozen(make.run())
    store.seen(config)
    found = store.get(key_of(config))
    assert found
    assert "data" not in found


def test_a_procedure_wakes_whoever_names_it_now_and_nobody_who_did_before() -> None:
    store = Store()
    store.seen(version(make.agent(), 10))
    other = make.agent(compile={"procedureRef": {"name": "other"}})
    store.seen(version(other, 11))
    assert set(store.keys_for(make.procedure())) == {Key("Procedure", "demo", "travel")}
    store.seen(version(other, 12), deleted=True)
    renamed = make.procedure()
    renamed["metadata"]["name"] = "other"
    assert set(store.keys_for(renamed)) == {Key("Procedure", "demo", "other")}


def test_a_run_has_its_own_jobs_and_their_pods_and_no_others() -> None:
    store, run, namesake = Store(), make.run(), make.run(uid="an earlier one")
    mine = make.stored(stage_job(run, ExecutionSettings(), Attempt("generate", 1), Settings()))
    earlier = make.stored(stage_job(namesake, ExecutionSettings(), Attempt("train", 1), Settings()))
    for obj in (run, mine, earlier, make.pod_of(mine), make.pod_of(earlier)):
        store.seen(obj)
    found = store.run(key_of(run))
    assert found
    assert [job["metadata"]["name"] for job in found.jobs] == ["travel-12345678-generate-1"]
    assert [pod["metadata"]["name"] for pod in found.pods] == ["travel-12345678-generate-1-abcde"]


def test_a_snapshot_is_nobody_elses_to_change() -> None:
    store, run = Store(), make.run()
    store.seen(run)
    first = store.get(key_of(run))
    assert first
    first["spec"].clear()
    assert store.get(key_of(run)) != first
