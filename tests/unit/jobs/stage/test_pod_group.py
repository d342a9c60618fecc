"""Pods that work on one stage together: which one a pod is, and how it waits for the first."""

import socket
from contextlib import closing
from pathlib import Path

import pytest

from subterra_api.job_contract.artifacts import artifact_path, lease_path
from subterra_api.job_contract.messages import RunInput
from subterra_jobs.errors import InfrastructureError, InvalidInputError
from subterra_jobs.stage.environment import StageEnvironment
from subterra_jobs.stage.pod_group import ALONE, PodGroup
from subterra_jobs.stage.runner import StageContext, execute_part
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_testkit.runs.generation_inputs import run_input

VARIABLES = {"SUBTERRA_NODES": "2", "SUBTERRA_NODE_RANK": "1", "SUBTERRA_RENDEZVOUS": "a-node-0-0.a:29500"}


def test_the_variables_of_a_jobsets_pod_say_which_one_it_is() -> None:
    assert PodGroup.parse(VARIABLES) == PodGroup(2, 1, "a-node-0-0.a", 29500)
    assert StageEnvironment.parse(VARIABLES).group.rank == 1
    assert PodGroup.parse({}) == ALONE and ALONE.alone


@pytest.mark.parametrize(
    "wrong", [{"SUBTERRA_NODES": "two"}, {"SUBTERRA_NODE_RANK": "2"}, {"SUBTERRA_NODE_RANK": ""}, {"SUBTERRA_RENDEZVOUS": "a"}]
)
def test_variables_that_do_not_fit_are_named_with_their_values(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidInputError, match=r"SUBTERRA_NODES is .*SUBTERRA_RENDEZVOUS .*HOST:PORT"):
        PodGroup.parse(VARIABLES | wrong)


def test_a_pod_waits_until_the_first_one_listens_however_often_it_has_to_ask() -> None:
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        asked = []

        def sleep(seconds: float) -> None:
            asked.append(seconds)
            if len(asked) == 3:
                server.listen()

        assert PodGroup(2, 1, "127.0.0.1", server.getsockname()[1]).wait_for_first(lambda: False, sleep)
        assert len(asked) == 3


def test_there_is_nothing_to_wait_for_once_the_artifact_exists() -> None:
    assert not PodGroup(2, 1, "127.0.0.1", 1).wait_for_first(lambda: True)


def test_all_pods_but_the_first_work_without_the_stage_lease_and_publish_nothing(tmp_path: Path) -> None:
    run: RunInput = run_input(tmp_path)
    store, key = ArtifactStore(run.store), run.keys.of("train")
    seen: list[StageContext] = []
    with socket.create_server(("127.0.0.1", 0)) as first:
        environment = StageEnvironment(group=PodGroup(2, 1, "127.0.0.1", first.getsockname()[1]))
        message = execute_part("train", seen.append, run, environment)
    assert message == "node 1 of 2 has done its part; node 0 reports the result"
    assert store.sizes(lease_path(key)) == {} and store.manifest(artifact_path("train", key)) is None
    store.put(f"{lease_path(key)}/000001.json", b"{}")
    with pytest.raises(InfrastructureError):
        seen[0].lease.check()
