"""A client of the Kubernetes API: JSON in, JSON out, typed errors.

`kubernetes.aio` connects and authenticates; its models are not used, because decisions, cache and golden tests all work on plain
dicts. Credentials are read again every few minutes, because tokens rotate.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import aiohttp
from kubernetes.aio.client.api_client import ApiClient

from subterra_operator.kube.credentials import CredentialsError, load_configuration
from subterra_operator.labels import MANAGER
from subterra_operator.resources import KINDS, Key, Kind, Object, Version, key_of, kind_of

LOGIN_SECONDS = 300.0
TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=10)
OLD_CLIENT_SECONDS = 60.0
"""When a client with old credentials is closed: its last request has ended by then."""
PAGE_SIZE = 100
"""Objects per page of a list. The process keeps the memory of its largest page; 500 take 90 MiB more for a thousand agents."""
VERSIONS_PAGE_SIZE = 250
"""The same where only metadata is transferred, which is a fraction of an object."""
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


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


class NotLeaderError(ApiError):
    """The fence refused a write: nothing was sent."""

    def __init__(self, method: str, path: str) -> None:
        super().__init__(0, "NotLeader", f"{method} {path} was not sent: another replica may be the leader; this one decides again")


class Page(NamedTuple):
    """Part of a list, and the resourceVersion of the whole list."""

    items: list[Object]
    version: str


class KubernetesApi:
    """Client of one API server.

    ``fence`` is asked immediately before each write, if given: while it returns `False`, writes raise NotLeaderError.
    ``on_answer`` gets the verb and status of each request, 0 for no answer.
    """

    def __init__(self, fence: Callable[[], bool] | None = None, on_answer: Callable[[str, int], object] | None = None) -> None:
        self._fence = fence
        self._on_answer = on_answer or (lambda verb, code: None)
        self._client: ApiClient | None = None
        self._until = 0.0
        self._login = asyncio.Lock()

    async def close(self) -> None:
        """Ends all connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def get(self, key: Key) -> Object:
        """One object. Raises NotFoundError."""
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
        type_meta = {"apiVersion": kind.api_version, "kind": kind.name}
        async for page in self._raw_pages(kind, namespace, selector):
            yield Page([{**type_meta, **item} for item in page.items], page.version)

    async def versions(self, kind: Kind, namespace: str | None = None) -> tuple[dict[Key, Version], int]:
        """Which objects of a kind exist and in which version, and the list's resourceVersion. Only metadata is transferred."""
        found, version = dict[Key, Version](), "0"
        async for page in self._raw_pages(kind, namespace, accept=METADATA_ONLY, size=VERSIONS_PAGE_SIZE):
            version = page.version
            for metadata in (item["metadata"] for item in page.items):
                key = Key(kind.name, metadata.get("namespace", ""), metadata["name"])
                found[key] = Version(metadata["uid"], int(metadata["resourceVersion"]))
        return found, int(version)

    async def _raw_pages(
        self, kind: Kind, namespace: str | None, selector: str = "", accept: str = "application/json", size: int = PAGE_SIZE
    ) -> AsyncIterator[Page]:
        selector = selector or kind.selector
        query = {"limit": str(size)} | ({"labelSelector": selector} if selector else {})
        while True:
            page = await self._call("GET", kind.path(namespace), query=query, accept=accept)
            yield Page(page["items"] or [], page["metadata"]["resourceVersion"])
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

    async def create(self, obj: Object) -> Object:
        """Creates an object. Raises AlreadyExistsError."""
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
        path = kind_of(obj).path(key.namespace, key.name) + (f"/{subresource}" if subresource else "")
        return await self._call("PATCH", path, obj, query={"fieldManager": MANAGER}, media="application/merge-patch+json")

    async def replace(self, obj: Object) -> Object:
        """Replaces an object as it was read. Raises ConflictError if the object has changed since."""
        key = key_of(obj)
        return await self._call("PUT", KINDS[key.kind].path(key.namespace, key.name), obj, query={"fieldManager": MANAGER})

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
        accept: str = "application/json",
    ) -> Object:
        """The parsed body of a successful response. Raises ApiError, also for errors while it is read."""
        headers = {"Content-Type": media, "Accept": accept}
        try:
            client = await self._connected()
            request = await client.param_serialize(
                method, path, query_params=dict(query or {}), header_params=headers, body=body, auth_settings=["BearerToken"]
            )
            if method != "GET" and self._fence is not None and not self._fence():
                raise NotLeaderError(method, path)
            response = await client.call_api(*request, _request_timeout=TIMEOUT)
            text = await response.read()
            self._on_answer(method, response.status)
            if response.status == 401:
                self._until = 0.0  # the next call logs in again
            if response.status >= 400:
                raise _error_of(response.status, text.decode(errors="replace"))
            result: Object = json.loads(text)
        except CredentialsError as error:
            raise ApiError(401, "Unauthorized", str(error)) from error
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:  # ValueError: truncated JSON
            self._on_answer(method, 0)
            raise ApiError(0, "Unreachable", f"the API server does not answer: {type(error).__name__} {error}") from error
        return result

    async def _connected(self) -> ApiClient:
        async with self._login:
            if self._client is None or time.monotonic() >= self._until:
                old, self._client = self._client, ApiClient(await load_configuration())
                self._until = time.monotonic() + LOGIN_SECONDS
                if old is not None:
                    asyncio.get_running_loop().call_later(OLD_CLIENT_SECONDS, lambda: asyncio.ensure_future(old.close()))
        return self._client


def _error_of(code: int, text: str) -> ApiError:
    try:
        status = json.loads(text)
    except ValueError:
        status = {}
    reason, message = status.get("reason", ""), status.get("message", text[:500])
    kind = {"AlreadyExists": AlreadyExistsError, "Conflict": ConflictError, "NotFound": NotFoundError}.get(reason, ApiError)
    return kind(code, reason, message)
