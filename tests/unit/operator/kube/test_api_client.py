"""The client of the API server: typed errors, and a fence in front of every write."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from subterra_operator.kube.api_client import (
    METADATA_ONLY,
    AlreadyExistsError,
    ApiError,
    ConflictError,
    KubernetesApi,
    NotFoundError,
    NotLeaderError,
)
from subterra_operator.resources import KINDS, Key, Object, Version

POD: Object = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "travel", "namespace": "agents", "uid": "1", "resourceVersion": "7"},
}
WRITES: dict[str, Callable[[KubernetesApi], Awaitable[object]]] = {
    "create": lambda api: api.create(POD),
    "apply": lambda api: api.apply(POD),
    "patch": lambda api: api.patch(POD),
    "status": lambda api: api.patch(POD, "status"),
    "replace": lambda api: api.replace(POD),
    "delete": lambda api: api.delete(POD),
}


class Server:
    """An API server that answers each request with the next planned answer, and remembers the requests."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, object]] = []
        self.requests: list[tuple[str, str, dict[str, str], str, object, str]] = []

    async def handle(self, request: web.Request) -> web.Response:
        text = await request.text()
        body = json.loads(text) if text else None
        self.requests.append(
            (
                request.method,
                request.path,
                dict(request.query),
                request.headers.get("Content-Type", ""),
                body,
                request.headers["Accept"],
            )
        )
        code, content = self.answers.pop(0) if self.answers else (200, POD)
        text = content if isinstance(content, str) else json.dumps(content)
        return web.Response(status=code, text=text, content_type="application/json")


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    """A server on a free port, and the kubeconfig that leads there."""
    found, app = Server(), web.Application()
    app.router.add_route("*", "/{path:.*}", found.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}}],
        "users": [{"name": "test", "user": {}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(path))
    yield found
    await runner.cleanup()


@pytest.fixture
async def api(server: Server) -> AsyncIterator[KubernetesApi]:
    client = KubernetesApi()
    yield client
    await client.close()


@pytest.mark.parametrize("write", WRITES)
async def test_a_fence_that_is_down_refuses_every_write_before_anything_is_sent(write: str, server: Server) -> None:
    leads = False
    api = KubernetesApi(fence=lambda: leads)
    with pytest.raises(NotLeaderError):
        await WRITES[write](api)
    assert (await api.get(Key("Pod", "agents", "travel")))["kind"] == "Pod", "reads need no leader"
    assert [request[0] for request in server.requests] == ["GET"]
    leads = True
    await WRITES[write](api)
    assert len(server.requests) == 2
    await api.close()


@pytest.mark.parametrize(
    ("code", "reason", "error"),
    [
        (404, "NotFound", NotFoundError),
        (409, "AlreadyExists", AlreadyExistsError),
        (409, "Conflict", ConflictError),
        (403, "Forbidden", ApiError),
        (500, "InternalError", ApiError),
    ],
)
async def test_refusals_are_typed(code: int, reason: str, error: type[ApiError], server: Server, api: KubernetesApi) -> None:
    server.answers = [(code, {"kind": "Status", "reason": reason, "message": "no"})]
    with pytest.raises(error) as caught:
        await api.create(POD)
    assert (type(caught.value), caught.value.code, caught.value.reason) == (error, code, reason)


@pytest.mark.parametrize("text", ["", "{", "no JSON"], ids=["empty", "truncated", "text"])
async def test_a_reply_that_breaks_off_is_no_answer(text: str, server: Server, api: KubernetesApi) -> None:
    server.answers = [(200, text)]
    with pytest.raises(ApiError, match="does not answer") as caught:
        await api.get(Key("Pod", "agents", "travel"))
    assert caught.value.code == 0


async def test_a_list_is_read_page_by_page_with_the_kinds_own_selector(server: Server, api: KubernetesApi) -> None:
    token = "a+b/c=="
    server.answers = [
        (200, {"items": [{"metadata": {"name": "a"}}], "metadata": {"resourceVersion": "5", "continue": token}}),
        (200, {"items": [{"metadata": {"name": "b"}}], "metadata": {"resourceVersion": "5"}}),
    ]
    objects, version = await api.list(KINDS["Pod"], "agents")
    assert ([obj["metadata"]["name"] for obj in objects], version) == (["a", "b"], "5")
    assert {(obj["apiVersion"], obj["kind"]) for obj in objects} == {("v1", "Pod")}
    first, second = server.requests
    assert first[1:3] == ("/api/v1/namespaces/agents/pods", {"limit": "100", "labelSelector": KINDS["Pod"].selector})
    assert second[2]["continue"] == token


async def test_writes_name_their_manager_and_media_type(server: Server, api: KubernetesApi) -> None:
    for write in WRITES.values():
        await write(api)
    found = [(method, path.removeprefix("/api/v1/namespaces/agents/"), media) for method, path, _, media, *_ in server.requests]
    assert found == [
        ("POST", "pods", "application/json"),
        ("PATCH", "pods/travel", "application/apply-patch+yaml"),
        ("PATCH", "pods/travel", "application/merge-patch+json"),
        ("PATCH", "pods/travel/status", "application/merge-patch+json"),
        ("PUT", "pods/travel", "application/json"),
        ("DELETE", "pods/travel", "application/json"),
    ]
    assert all(query.get("fieldManager") == "subterra" for _, _, query, *_ in server.requests[:-1])
    assert server.requests[-1][4] == {"propagationPolicy": "Background", "preconditions": {"uid": "1", "resourceVersion": "7"}}


async def test_a_patch_carries_the_nulls_that_remove_fields(server: Server, api: KubernetesApi) -> None:
    await api.patch({**POD, "status": {"message": None, "phases": [], "text": "é"}}, "status")
    assert server.requests[0][4] == {**POD, "status": {"message": None, "phases": [], "text": "é"}}


async def test_after_a_401_the_next_call_reads_the_credentials_again(server: Server, api: KubernetesApi, tmp_path: Path) -> None:
    server.answers = [(401, {"reason": "Unauthorized", "message": "expired"})]
    with pytest.raises(ApiError, match="401"):
        await api.get(Key("Pod", "agents", "travel"))
    (tmp_path / "kubeconfig").unlink()
    with pytest.raises(ApiError, match="KUBECONFIG") as caught:
        await api.get(Key("Pod", "agents", "travel"))
    assert caught.value.code == 401


async def test_versions_are_read_from_metadata_alone(server: Server, api: KubernetesApi) -> None:
    metadata = {"name": "a", "namespace": "agents", "uid": "u", "resourceVersion": "4"}
    server.answers = [
        (200, {"items": [{"metadata": metadata}], "metadata": {"resourceVersion": "5", "continue": "more"}}),
        (200, {"items": None, "metadata": {"resourceVersion": "5"}}),
    ]
    assert await api.versions(KINDS["Pod"]) == ({Key("Pod", "agents", "a"): Version("u", 4)}, 5)
    assert {accept for *_, accept in server.requests} == {METADATA_ONLY}
