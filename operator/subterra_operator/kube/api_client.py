"""A small client of the Kubernetes API: JSON in, JSON out, typed errors.

The generated client costs tens of megabytes and an object model; this operator uses plain dicts. Credentials are those that kopf
finds (service account or kubeconfig), read again every few minutes, because tokens rotate.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import kopf

from subterra_operator.labels import MANAGER
from subterra_operator.resources import KINDS, Key, Kind, Object, key_of

LOGIN_SECONDS = 300.0
TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=10)
STREAM_SECONDS = 240
"""How long the API server keeps a watch open."""
SILENCE_SECONDS = 75.0
"""Bookmarks arrive every minute; a watch that is silent for longer than this is dead."""
OLD_SESSION_SECONDS = STREAM_SECONDS + 30.0
"""When a session with old credentials is closed: its last stream has ended by then."""
EVENT_BYTES_LIMIT = 4 * 2**20
"""Upper bound for the size of an event."""
PAGE_SIZE = 100
"""Objects per page of a list. The process keeps the memory of its largest page; 500 take 90 MiB more for a thousand agents."""


class ApiError(Exception):
    """The API server refused or could not be reached. ``code`` is the HTTP status, 0 for no answer."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(f"{code} {reason}: {message}" if code else message)
        self.code, self.reason, self.message = code, reason, message


class ConflictError(ApiError):
    """The object has changed since it was observed."""


class AlreadyExistsError(ApiError):
    """An object of that name already exists."""


class NotFoundError(ApiError):
    """The object does not exist."""


class Page(NamedTuple):
    """Part of a list, and the resourceVersion of the whole list."""

    items: list[Object]
    version: str


def credentials() -> kopf.ConnectionInfo:
    """Service account in a cluster, else kubeconfig. Raises kopf.LoginError."""
    settings = kopf.OperatorSettings()
    info = kopf.login_with_service_account(settings=settings) or kopf.login_with_kubeconfig(settings=settings)
    if info is None:
        raise kopf.LoginError("no credentials: set KUBECONFIG, or run in a pod with a ServiceAccount")
    return info


class KubernetesApi:
    """Client of one API server."""

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
        """Objects of a kind that match ``selector``, by default the kind's own, and the list's resourceVersion."""
        objects, version = [], ""
        async for page in self.pages(kind, namespace, selector):
            objects += page.items
            version = page.version
        return objects, version

    async def pages(self, kind: Kind, namespace: str | None = None, selector: str = "") -> AsyncIterator[Page]:
        """The same list, page by page."""
        selector = selector or kind.selector
        query = {"limit": str(PAGE_SIZE)} | ({"labelSelector": selector} if selector else {})
        type_meta = {"apiVersion": kind.api_version, "kind": kind.name}
        while True:
            page = await self._call("GET", kind.path(namespace), query=query)
            yield Page([{**type_meta, **item} for item in page["items"]], page["metadata"]["resourceVersion"])
            if not (more := page["metadata"].get("continue")):
                return
            query["continue"] = more

    async def warnings(self, about: Key) -> Sequence[Object]:
        """Events of type Warning about an object, in no order. The API server keeps Events for an hour."""
        fields = f"type=Warning,involvedObject.kind={about.kind},involvedObject.name={about.name}"
        query = {"fieldSelector": fields, "limit": str(PAGE_SIZE)}
        found = await self._call("GET", f"/api/v1/namespaces/{about.namespace}/events", query=query)
        items: Sequence[Object] = found["items"]
        return items

    async def watch(self, kind: Kind, namespace: str | None, version: str) -> AsyncGenerator[Object, None]:
        """Events since ``version``, until the server ends the stream. Raises ApiError, also for a silent stream."""
        query = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version, "timeoutSeconds": str(STREAM_SECONDS)}
        query |= {"labelSelector": kind.selector} if kind.selector else {}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT.sock_connect, sock_read=SILENCE_SECONDS)
        async with self._request("GET", kind.path(namespace), params=query, timeout=timeout) as response:
            async for line in response.content:
                event: Object = json.loads(line)
                yield event

    async def create(self, obj: Object) -> Object:
        """Creates an object. Raises ExistsError."""
        key = key_of(obj)
        return await self._call("POST", KINDS[key.kind].path(key.namespace), obj, query={"fieldManager": MANAGER})

    async def apply(self, obj: Object) -> Object:
        """Server-side apply: the operator owns the fields in ``obj`` and no others."""
        key = key_of(obj)
        query = {"fieldManager": MANAGER, "force": "true"}
        return await self._call(
            "PATCH", KINDS[key.kind].path(key.namespace, key.name), obj, query=query, media="application/apply-patch+yaml"
        )

    async def patch(self, obj: Object, subresource: str = "") -> Object:
        """Merge patch. Raises ConflictError if it names a resourceVersion and the object has another."""
        key = key_of(obj)
        path = KINDS[key.kind].path(key.namespace, key.name) + (f"/{subresource}" if subresource else "")
        return await self._call("PATCH", path, obj, query={"fieldManager": MANAGER}, media="application/merge-patch+json")

    async def delete(self, obj: Mapping[str, Any]) -> None:
        """Deletes the observed object, and its children in the background. Raises ConflictError if the object has changed since."""
        key = key_of(obj)
        preconditions = {name: obj["metadata"][name] for name in ("uid", "resourceVersion")}
        body = {"propagationPolicy": "Background", "preconditions": preconditions}
        await self._call("DELETE", KINDS[key.kind].path(key.namespace, key.name), body)

    async def _call(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        query: Mapping[str, str] | None = None,
        media: str = "application/json",
    ) -> Object:
        data, headers = None if body is None else json.dumps(body).encode(), {"Content-Type": media}
        async with self._request(method, path, params=query, data=data, headers=headers) as response:
            result: Object = await response.json()
        return result

    @asynccontextmanager
    async def _request(self, method: str, path: str, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """A successful response. Raises ApiError, also for errors while it is read."""
        try:
            session = await self._connected()
            async with session.request(method, self._server + path, **options) as response:
                if response.status == 401:
                    self._until = 0.0  # the next call logs in again
                if response.status >= 400:
                    raise _error_of(response.status, await response.text())
                yield response
        except kopf.LoginError as error:
            raise ApiError(401, "Unauthorized", str(error)) from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:  # ValueError: truncated JSON
            raise ApiError(0, "Unreachable", f"the API server does not answer: {type(error).__name__} {error}") from error

    async def _connected(self) -> aiohttp.ClientSession:
        async with self._login:
            if self._session is None or time.monotonic() >= self._until:
                old, self._session = self._session, self._connect()
                self._until = time.monotonic() + LOGIN_SECONDS
                if old is not None:
                    asyncio.get_running_loop().call_later(OLD_SESSION_SECONDS, lambda: asyncio.ensure_future(old.close()))
        return self._session

    def _connect(self) -> aiohttp.ClientSession:
        info = credentials()
        self._server = str(info.server).rstrip("/")
        connector = aiohttp.TCPConnector(ssl=info.as_ssl_context() if self._server.startswith("https") else False, limit=0)
        return aiohttp.ClientSession(
            connector=connector, headers=info.as_http_headers(), timeout=TIMEOUT, read_bufsize=EVENT_BYTES_LIMIT
        )


def _error_of(code: int, text: str) -> ApiError:
    try:
        status = json.loads(text)
    except ValueError:
        status = {}
    reason, message = status.get("reason", ""), status.get("message", text[:500])
    kind = {"AlreadyExists": AlreadyExistsError, "Conflict": ConflictError, "NotFound": NotFoundError}.get(reason, ApiError)
    return kind(code, reason, message)
