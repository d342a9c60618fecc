"""A small client of the Kubernetes API: JSON in, JSON out, typed failures.

The generated client costs tens of megabytes and an object model; this operator speaks plain dicts. Credentials are those that kopf
finds (service account or kubeconfig), read anew every few minutes, because tokens rotate.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import kopf

from subterra_operator.kinds import KINDS, MANAGER, Key, Kind, Object, key_of

LOGIN_SECONDS = 300.0
TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=10)
CHUNK = 100
"""Objects in a page of a list. Memory that one page needed stays with the process: with 500 a thousand agents take 90 MiB more."""


class ApiError(Exception):
    """The API server refused or could not be reached. ``code`` is the HTTP status, 0 for no answer."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}" if code else message)
        self.code, self.reason = code, reason


class ConflictError(ApiError):
    """The object is not as it was seen."""


class ExistsError(ApiError):
    """There is an object of that name already."""


class MissingError(ApiError):
    """There is no such object."""


class Page(NamedTuple):
    """A part of a list, and the resourceVersion of the whole of it."""

    items: list[Object]
    version: str


def credentials() -> kopf.ConnectionInfo:
    """Service account in a cluster, else kubeconfig. Raises kopf.LoginError."""
    settings = kopf.OperatorSettings()
    found = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
    if found is None:
        raise kopf.LoginError("no credentials: set KUBECONFIG, or run in a pod with a ServiceAccount")
    return found


class Api:
    """One API server."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._server = ""
        self._until = 0.0
        self._login = asyncio.Lock()

    async def close(self) -> None:
        """Ends all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, key: Key) -> Object:
        """One object. Raises MissingError."""
        return await self._call("GET", KINDS[key.kind].path(key.namespace, key.name))

    async def list(self, kind: Kind, namespace: str | None = None) -> tuple[list[Object], str]:
        """All objects of a kind that concern us, and the list's resourceVersion."""
        found, version = [], ""
        async for page in self.pages(kind, namespace):
            found += page.items
            version = page.version
        return found, version

    async def pages(self, kind: Kind, namespace: str | None = None) -> AsyncIterator[Page]:
        """The same, a page at a time."""
        query = {"limit": str(CHUNK)} | ({"labelSelector": kind.selector} if kind.selector else {})
        about = {"apiVersion": kind.api_version, "kind": kind.name}
        while True:
            page = await self._call("GET", kind.path(namespace), query=query)
            yield Page([{**about, **item} for item in page["items"]], page["metadata"]["resourceVersion"])
            if not (more := page["metadata"].get("continue")):
                return
            query["continue"] = more

    async def create(self, obj: Object) -> Object:
        """Creates an object. Raises ExistsError."""
        key = key_of(obj)
        return await self._call("POST", KINDS[key.kind].path(key.namespace), obj, query={"fieldManager": MANAGER})

    async def apply(self, obj: Object) -> Object:
        """Server-side apply: we own what ``obj`` says and nothing else."""
        key = key_of(obj)
        query = {"fieldManager": MANAGER, "force": "true"}
        return await self._call(
            "PATCH", KINDS[key.kind].path(key.namespace, key.name), obj, query=query, media="application/apply-patch+yaml"
        )

    async def patch(self, obj: Object, subresource: str = "") -> Object:
        """Merge patch; with a resourceVersion in it raises ConflictError when the object has another."""
        key = key_of(obj)
        path = KINDS[key.kind].path(key.namespace, key.name) + (f"/{subresource}" if subresource else "")
        return await self._call("PATCH", path, obj, query={"fieldManager": MANAGER}, media="application/merge-patch+json")

    async def delete(self, obj: Mapping[str, Any]) -> None:
        """Deletes the very object that was seen, children in the background. Raises ConflictError when it is another by now."""
        key = key_of(obj)
        preconditions = {name: obj["metadata"][name] for name in ("uid", "resourceVersion")}
        body = {"propagationPolicy": "Background", "preconditions": preconditions}
        await self._call("DELETE", KINDS[key.kind].path(key.namespace, key.name), body)

    async def _call(
        self, method: str, path: str, body: Object | None = None, *, query: Mapping[str, str] | None = None,
        media: str = "application/json",
    ) -> Object:  # fmt: skip
        data = None if body is None else json.dumps(body).encode()
        async with self._connected() as session:
            try:
                url = self._server + path
                async with session.request(method, url, params=query, data=data, headers={"Content-Type": media}) as response:
                    text = await response.text()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise ApiError(0, "Unreachable", f"the API server does not answer: {type(error).__name__} {error}") from error
        if response.status == 401:
            self._until = 0.0  # the next call logs in again
        if response.status >= 400:
            raise _failure(response.status, text)
        result: Object = json.loads(text)
        return result

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[aiohttp.ClientSession]:
        async with self._login:
            if self._session is None or time.monotonic() >= self._until:
                old, self._session = self._session, self._connect()
                self._until = time.monotonic() + LOGIN_SECONDS
                if old is not None:
                    asyncio.get_running_loop().call_later(TIMEOUT.total or 30, lambda: asyncio.ensure_future(old.close()))
        yield self._session

    def _connect(self) -> aiohttp.ClientSession:
        info = credentials()
        self._server = str(info.server).rstrip("/")
        connector = aiohttp.TCPConnector(ssl=info.as_ssl_context() if self._server.startswith("https") else False, limit=20)
        return aiohttp.ClientSession(connector=connector, headers=info.as_http_headers(), timeout=TIMEOUT)


def _failure(code: int, text: str) -> ApiError:
    try:
        status = json.loads(text)
    except ValueError:
        status = {}
    reason, message = status.get("reason", ""), status.get("message", text[:500])
    kind = {"AlreadyExists": ExistsError, "Conflict": ConflictError, "NotFound": MissingError}.get(reason, ApiError)
    return kind(code, reason, message)
