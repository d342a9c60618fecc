"""A small client of the Kubernetes API: JSON in, JSON out, typed failures.

The generated client costs tens of megabytes and an object model; this operator speaks plain dicts. Credentials are those that kopf
finds (service account or kubeconfig), read anew every few minutes, because tokens rotate.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import kopf

from subterra_operator.labels import MANAGER
from subterra_operator.resources import KINDS, Key, Kind, Object, key_of

LOGIN_SECONDS = 300.0
TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=10)
STREAM_SECONDS = 240
"""The API server ends a watch after so long."""
SILENCE_SECONDS = 75.0
"""It sends a bookmark every minute; a watch that says nothing for longer is dead."""
OLD_SECONDS = STREAM_SECONDS + 30.0
"""A session with old credentials is closed when its last stream must have ended."""
LINE = 4 * 2**20
"""No event is longer."""
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

    async def list(self, kind: Kind, namespace: str | None = None, selector: str = "") -> tuple[list[Object], str]:
        """All objects of a kind that concern us, or those that ``selector`` chooses, and the list's resourceVersion."""
        found, version = [], ""
        async for page in self.pages(kind, namespace, selector):
            found += page.items
            version = page.version
        return found, version

    async def pages(self, kind: Kind, namespace: str | None = None, selector: str = "") -> AsyncIterator[Page]:
        """The same, a page at a time."""
        selector = selector or kind.selector
        query = {"limit": str(CHUNK)} | ({"labelSelector": selector} if selector else {})
        about = {"apiVersion": kind.api_version, "kind": kind.name}
        while True:
            page = await self._call("GET", kind.path(namespace), query=query)
            yield Page([{**about, **item} for item in page["items"]], page["metadata"]["resourceVersion"])
            if not (more := page["metadata"].get("continue")):
                return
            query["continue"] = more

    async def watch(self, kind: Kind, namespace: str | None, version: str) -> AsyncGenerator[Object, None]:
        """Events since ``version``, until the server ends the stream. Raises ApiError, also when it falls silent."""
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version, "timeoutSeconds": str(STREAM_SECONDS)}
        query |= {"labelSelector": kind.selector} if kind.selector else {}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT.sock_connect, sock_read=SILENCE_SECONDS)
        async with self._answered("GET", kind.path(namespace), params=query, timeout=timeout) as response:
            async for line in response.content:
                event: Object = json.loads(line)
                yield event

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
        data, headers = None if body is None else json.dumps(body).encode(), {"Content-Type": media}
        async with self._answered(method, path, params=query, data=data, headers=headers) as response:
            result: Object = await response.json()
        return result

    @asynccontextmanager
    async def _answered(self, method: str, path: str, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer that is no refusal. Raises ApiError, also for what goes wrong while it is read."""
        try:
            session = await self._connected()
            async with session.request(method, self._server + path, **options) as response:
                if response.status == 401:
                    self._until = 0.0  # the next call logs in again
                if response.status >= 400:
                    raise _failure(response.status, await response.text())
                yield response
        except kopf.LoginError as error:
            raise ApiError(401, "Unauthorized", str(error)) from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:  # ValueError: half an answer
            raise ApiError(0, "Unreachable", f"the API server does not answer: {type(error).__name__} {error}") from error

    async def _connected(self) -> aiohttp.ClientSession:
        async with self._login:
            if self._session is None or time.monotonic() >= self._until:
                old, self._session = self._session, self._connect()
                self._until = time.monotonic() + LOGIN_SECONDS
                if old is not None:
                    asyncio.get_running_loop().call_later(OLD_SECONDS, lambda: asyncio.ensure_future(old.close()))
        return self._session

    def _connect(self) -> aiohttp.ClientSession:
        info = credentials()
        self._server = str(info.server).rstrip("/")
        connector = aiohttp.TCPConnector(ssl=info.as_ssl_context() if self._server.startswith("https") else False, limit=0)
        return aiohttp.ClientSession(connector=connector, headers=info.as_http_headers(), timeout=TIMEOUT, read_bufsize=LINE)


def _failure(code: int, text: str) -> ApiError:
    try:
        status = json.loads(text)
    except ValueError:
        status = {}
    reason, message = status.get("reason", ""), status.get("message", text[:500])
    kind = {"AlreadyExists": ExistsError, "Conflict": ConflictError, "NotFound": MissingError}.get(reason, ApiError)
    return kind(code, reason, message)
