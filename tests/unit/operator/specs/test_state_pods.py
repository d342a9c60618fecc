"""What `serving.conversationState` adds to a serving pod, and that nothing changes without it."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec, ServingSettings
from subterra_jobs.evaluate.analysis.served.state import state_route
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.specs.deployment import ServingTarget, deployment, version_of
from subterra_operator.specs.pod import CONTAINER_SECURITY
from subterra_operator.specs.traffic.state_pods import ROUTE_MODULE
from subterra_operator.specs.vllm_container import Model
from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.servers.local_server import free_port
from subterra_testkit.servers.serving.stand_in_vllm import make_package

TARGET = ServingTarget(Model("models/abc", "travel"), "sha256:" + "a" * 64, "travel-1", 6.5, "reports/abc")


def pod(serving: Any = None, **others: Any) -> Object:
    agent = make.agent(**({} if serving is None else {"serving": serving}), **others)
    built = deployment(agent, CompiledAgentSpec.model_validate(agent["spec"]), TARGET, Settings(), make.NOW)
    template: Object = built["spec"]["template"]["spec"]
    return template


def named(of: Object, name: str) -> Object:
    return next(each for each in (*of["initContainers"], *of["containers"]) if each["name"] == name)


def test_without_the_field_a_pod_has_nothing_of_it() -> None:
    """What it adds, taken away, leaves the very pod that agents without the field have."""
    asked, plain = pod({"conversationState": {}}), pod()
    assert "state" not in json.dumps(plain).replace("stateless", "")
    asked["initContainers"] = [each for each in asked["initContainers"] if each["name"] not in ("state", "state-route")]
    asked["volumes"] = [each for each in asked["volumes"] if each["name"] not in ("state", "recorder")]
    vllm = named(asked, "vllm")
    vllm["volumeMounts"] = [mount for mount in vllm["volumeMounts"] if mount["name"] not in ("state", "recorder")]
    vllm["env"] = [each for each in vllm["env"] if each["name"] != state_route.SOCKET_VARIABLE]
    vllm["command"] = [*vllm["command"][:3], *vllm["command"][5:]]
    del vllm["workingDir"]
    assert asked == plain


def test_it_makes_a_new_version_and_its_absence_the_one_that_was() -> None:
    settings = [{}, {"conversationState": {}}, {"conversationState": {"resources": {"limits": {"memory": "2Gi"}}}}]
    versions = [version_of(TARGET, ServingSettings.model_validate(each)) for each in settings]
    assert len(set(versions)) == 3
    assert versions[0] == version_of(TARGET, ServingSettings())


def test_the_names_of_route_and_operator_agree() -> None:
    """The route cannot import them, since it is alone in its image."""
    assert f"{ROUTE_MODULE}.{state_route.StateRoute.__name__}" == f"{state_route.MODULE}.StateRoute"


def test_the_route_is_behind_what_drains_and_what_guards() -> None:
    """vLLM's last middleware is the outermost."""
    vllm = named(pod({"conversationState": {}, "apiKeySecret": {"name": "key"}}, monitoring={}), "vllm")
    found = [word for before, word in zip(vllm["command"], vllm["command"][1:], strict=False) if before == "--middleware"]
    assert found == ["subterra_state.StateRoute", "__main__.Drainable", "subterra_recorder.Recorder", "subterra_key_guard.Guard"]


def test_the_reader_may_only_read_and_nothing_waits_for_it() -> None:
    asked = pod({"conversationState": {}}, monitoring={})
    assert [each["name"] for each in asked["initContainers"]][-2:] == ["state-route", "state"]
    reader = named(asked, "state")
    assert reader["restartPolicy"] == "Always"
    assert not {"startupProbe", "readinessProbe", "livenessProbe"} & reader.keys()
    assert next(mount for mount in reader["volumeMounts"] if mount["name"] == "store")["readOnly"]
    assert {each["name"]: each["value"] for each in reader["env"]}["SUBTERRA_MODEL_PATH"] == "models/abc"
    assert all(each["securityContext"] == CONTAINER_SECURITY for each in (*asked["initContainers"], *asked["containers"]))
    volumes = [volume["name"] for volume in asked["volumes"]]
    assert len(volumes) == len(set(volumes))
    assert {mount["name"] for each in asked["initContainers"] for mount in each["volumeMounts"]} <= {*volumes}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """URL of vLLM's HTTP server, without a model, by the pod's own command; nothing answers at the socket."""
    package, port = make_package(tmp_path), free_port()
    (package / f"{state_route.MODULE}.py").write_text(Path(state_route.__file__).read_text())
    line = [*named(pod({"conversationState": {}}), "vllm")["command"][1:], "--port", str(port)]
    variables = {state_route.SOCKET_VARIABLE: str(tmp_path / "state.sock")}
    process = subprocess.Popen([sys.executable, *line], cwd=package, env=variables)
    try:
        asyncio.run(_until_up(f"http://127.0.0.1:{port}"))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(10)


async def _until_up(url: str) -> None:
    async with httpx.AsyncClient() as client, asyncio.timeout(60):
        while True:
            try:
                (await client.get(f"{url}/health")).raise_for_status()
            except httpx.HTTPError:
                await asyncio.sleep(0.05)
            else:
                return


def test_the_pods_command_serves_chats_and_states_and_ends_the_connections_of_both(server: str) -> None:
    chat = httpx.post(f"{server}/v1/chat/completions", json={"messages": []})
    state = httpx.post(f"{server}/v1/conversation/state", json={"messages": []})
    assert chat.json()["choices"][0]["message"]["content"]
    assert state.json()["reason"] == "NotReady", "the reader is away, and that fails nothing"
    assert chat.headers["connection"] == state.headers["connection"] == "close"
