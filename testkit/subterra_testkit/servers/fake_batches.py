"""Batches of the fake providers: Anthropic's Message Batches and OpenAI's Batch API with its files, as unpleasant as the real ones.

Results come in random order, calls fail or expire, batches end late, replies and results are lost on the way.
"""

import asyncio
import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, Protocol

from aiohttp import web

from subterra_testkit.servers.fake_model import request_digest

Fate = Literal["succeeded", "errored", "expired", "canceled"]
Body = dict[str, Any]
_CUSTOM_ID = re.compile(r"^[a-zA-Z0-9_-]{1,64}$")
_OPENAI_STATUS = {"in_progress": "in_progress", "canceling": "cancelling", "ended": "completed"}
_ERROR = {"type": "api_error", "code": "server_error", "message": "Internal server error"}


class Model(Protocol):
    """The provider whose batches these are."""

    bill: Decimal
    paid: int
    bodies: list[Body]
    url: str

    def reply(self, body: Body) -> Body: ...
    def completion(self, body: Body) -> Body: ...


def succeeds(_body: Body, _times: int) -> Fate:
    """Every call is answered."""
    return "succeeded"


@dataclass
class FakeBatch:
    """One batch, of either provider."""

    id: str
    calls: dict[str, Body]
    """Bodies by custom id."""
    openai: bool
    metadata: dict[str, str]
    created: datetime
    status: str = "in_progress"
    fates: dict[str, Fate] = field(default_factory=dict)
    results: dict[str, Body] = field(default_factory=dict)


@dataclass
class FakeBatches:
    """All of it may be set before and while batches are created."""

    factor: Decimal = Decimal("0.5")
    """Price relative to single calls."""
    seconds: float = 0.0
    """From creation to the end."""
    held: bool = False
    """Batches stay in progress, whatever `seconds` says, except canceled ones."""
    fate: Callable[[Body, int], Fate] = succeeds
    """By the body of a call, and how often it was in a batch before."""
    answered_at_cancel: float = 0.5
    """Share of the calls that were answered when a batch is canceled."""
    refusal: tuple[int, Body] | None = None
    """Status and body with which every creation is refused."""
    lost_replies: int = 0
    """The next so many creations succeed, and their replies are lost."""
    cut_results: int = 0
    """Number of downloads of results, from the next one on, that break off in the middle."""
    short_results: int = 0
    """Number of downloads, from the next one on, that end early as if they were complete."""
    unknown: int = 0
    """The next so many requests about a batch get 404, although it exists."""
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    created: list[FakeBatch] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    _times: dict[str, int] = field(default_factory=dict)

    def routes(self, model: Model) -> list[web.RouteDef]:
        """Routes of both APIs."""
        server = _Server(self, model)
        return [
            web.post("/v1/messages/batches", server.create_anthropic),
            web.get("/v1/messages/batches", server.list_all),
            web.get("/v1/messages/batches/{id}", server.retrieve),
            web.get("/v1/messages/batches/{id}/results", server.results),
            web.post("/v1/messages/batches/{id}/cancel", server.cancel),
            web.post("/v1/files", server.upload),
            web.get("/v1/files/{id}/content", server.content),
            web.post("/v1/batches", server.create_openai),
            web.get("/v1/batches", server.list_all),
            web.get("/v1/batches/{id}", server.retrieve),
            web.post("/v1/batches/{id}/cancel", server.cancel),
        ]

    def begin(self, calls: dict[str, Body], openai: bool, metadata: dict[str, str]) -> FakeBatch:
        """A new batch."""
        name = f"{'batch' if openai else 'msgbatch'}_{len(self.created):04d}"
        batch = FakeBatch(name, calls, openai, metadata, self.clock())
        self.created.append(batch)
        return batch

    def progress(self, batch: FakeBatch, model: Model) -> None:
        """Ends the batch if it is time."""
        late = self.clock() >= batch.created + timedelta(seconds=self.seconds) and not self.held
        if batch.status == "canceling":
            answered = round(self.answered_at_cancel * len(batch.calls))
            self._end(batch, model, dict.fromkeys(list(batch.calls)[answered:], "canceled"))
        elif batch.status == "in_progress" and late:
            self._end(batch, model, {})

    def _end(self, batch: FakeBatch, model: Model, fates: dict[str, Fate]) -> None:
        for key, body in batch.calls.items():
            digest = request_digest(body)
            fate = fates.get(key) or self.fate(body, self._times.get(digest, 0))
            self._times[digest] = self._times.get(digest, 0) + 1
            batch.fates[key] = fate
            if fate == "succeeded":
                batch.results[key] = self._answered(batch, body, model)
        batch.status = "ended"

    def _answered(self, batch: FakeBatch, body: Body, model: Model) -> Body:
        """The response, billed at the price of a batch."""
        before = model.bill
        result = model.completion(body) if batch.openai else model.reply(body)
        model.bill = before + (model.bill - before) * self.factor
        model.paid += 1
        model.bodies.append(body)
        return result

    def lines(self, batch: FakeBatch, only: Callable[[Fate], bool]) -> bytes:
        """JSON lines of the results whose fate is `only` these, in random order."""
        rows = [_line(batch, key, fate) for key, fate in batch.fates.items() if only(fate)]
        self.rng.shuffle(rows)
        return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


class _Server:
    """Handlers of both APIs."""

    def __init__(self, batches: FakeBatches, model: Model) -> None:
        self._batches, self._model = batches, model

    async def create_anthropic(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        calls = {each["custom_id"]: each["params"] for each in body["requests"]}
        if len(calls) < len(body["requests"]) or any({"stream", "service_tier"} & set(params) for params in calls.values()):
            error = {"type": "invalid_request_error", "message": "duplicate custom_id or unsupported parameter"}
            return web.json_response({"type": "error", "error": error}, status=400)
        return self._create(request, calls, openai=False, metadata={})

    async def upload(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        file = form["file"]
        assert isinstance(file, web.FileField)
        name = f"file-{len(self._batches.files)}"
        self._batches.files[name] = file.file.read()
        about = {
            "object": "file",
            "bytes": 1,
            "created_at": 0,
            "filename": file.filename,
            "purpose": "batch",
            "status": "processed",
        }
        return web.json_response({"id": name, **about})

    async def create_openai(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        rows = [json.loads(line) for line in self._batches.files[body["input_file_id"]].splitlines()]
        return self._create(request, {row["custom_id"]: row["body"] for row in rows}, openai=True, metadata=body["metadata"])

    def _create(
        self, request: web.Request, calls: dict[str, Body], *, openai: bool, metadata: dict[str, str]
    ) -> web.StreamResponse:
        assert all(_CUSTOM_ID.match(key) for key in calls)
        if self._batches.refusal is not None:
            status, refusal = self._batches.refusal
            return web.json_response(refusal, status=status)
        batch = self._batches.begin(calls, openai, metadata)
        if self._batches.lost_replies > 0:
            self._batches.lost_replies -= 1
            return _cut(request)
        return web.json_response(self._about(batch))

    async def list_all(self, request: web.Request) -> web.StreamResponse:
        openai = "messages" not in request.path
        mine = [batch for batch in reversed(self._batches.created) if batch.openai == openai]
        after = request.query.get("after" if openai else "after_id")
        start = next((index + 1 for index, batch in enumerate(mine) if batch.id == after), 0)
        page = mine[start : start + int(request.query.get("limit", "20"))]
        more = len(mine) > start + len(page)
        ends = {"first_id": page[0].id, "last_id": page[-1].id} if page else {"first_id": None, "last_id": None}
        return web.json_response({"object": "list", "data": [self._about(batch) for batch in page], "has_more": more, **ends})

    async def retrieve(self, request: web.Request) -> web.StreamResponse:
        return self._if_known(request, lambda batch: web.json_response(self._about(batch)))

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        def cancelled(batch: FakeBatch) -> web.StreamResponse:
            batch.status = "canceling" if batch.status == "in_progress" else batch.status
            return web.json_response(_about(batch, self._model.url))

        return self._if_known(request, cancelled)

    async def results(self, request: web.Request) -> web.StreamResponse:
        batch = next(each for each in self._batches.created if each.id == request.match_info["id"])
        return await self._download(request, self._batches.lines(batch, lambda _: True))

    async def content(self, request: web.Request) -> web.StreamResponse:
        which, _, name = request.match_info["id"].partition("-")
        batch = next(each for each in self._batches.created if each.id == name)
        wanted = which == "output"
        return await self._download(request, self._batches.lines(batch, lambda fate: (fate == "succeeded") == wanted))

    async def _download(self, request: web.Request, content: bytes) -> web.StreamResponse:
        rows = content.splitlines(keepends=True)
        if self._batches.short_results > 0:
            self._batches.short_results -= 1
            return web.Response(body=b"".join(rows[: len(rows) // 2]), content_type="application/x-jsonl")
        if self._batches.cut_results > 0:
            self._batches.cut_results -= 1
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(content[: len(content) // 2])
            await asyncio.sleep(0.01)
            _cut(request)
            return response
        return web.Response(body=content, content_type="application/x-jsonl")

    def _if_known(self, request: web.Request, answer: Callable[[FakeBatch], web.StreamResponse]) -> web.StreamResponse:
        found = next((batch for batch in self._batches.created if batch.id == request.match_info["id"]), None)
        if found is None or self._batches.unknown > 0:
            self._batches.unknown -= 1
            error = {"type": "not_found_error", "message": "batch not found"}
            return web.json_response({"type": "error", "error": error}, status=404)
        return answer(found)

    def _about(self, batch: FakeBatch) -> Body:
        self._batches.progress(batch, self._model)
        return _about(batch, self._model.url)


def _about(batch: FakeBatch, url: str) -> Body:
    return _openai_about(batch) if batch.openai else _anthropic_about(batch, url)


def _anthropic_about(batch: FakeBatch, url: str) -> Body:
    fates = [*batch.fates.values()]
    counts = {name: fates.count(name) for name in ("succeeded", "errored", "expired", "canceled")}
    ended = batch.status == "ended"
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": batch.status,
        "request_counts": {"processing": len(batch.calls) - len(fates), **counts},
        "created_at": _rfc(batch.created),
        "expires_at": _rfc(batch.created + timedelta(days=1)),
        "ended_at": _rfc(batch.created) if ended else None,
        "results_url": f"{url}/v1/messages/batches/{batch.id}/results" if ended else None,
        "archived_at": None,
        "cancel_initiated_at": None,
    }


def _openai_about(batch: FakeBatch) -> Body:
    done = sum(fate == "succeeded" for fate in batch.fates.values())
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "input_file_id": "file-0",
        "completion_window": "24h",
        "status": _OPENAI_STATUS[batch.status],
        "output_file_id": f"output-{batch.id}" if done else None,
        "error_file_id": f"error-{batch.id}" if len(batch.fates) > done else None,
        "created_at": int(batch.created.timestamp()),
        "request_counts": {"total": len(batch.calls), "completed": done, "failed": len(batch.fates) - done},
        "metadata": batch.metadata,
    }


def _line(batch: FakeBatch, key: str, fate: Fate) -> Body:
    if batch.openai:
        error = {"code": "batch_expired", "message": "could not be executed before the window expired"}
        row: Body = {"id": f"req_{key}", "custom_id": key, "response": None, "error": None}
        if fate == "succeeded":
            return row | {"response": {"status_code": 200, "request_id": "r", "body": batch.results[key]}}
        if fate == "errored":
            return row | {"response": {"status_code": 500, "request_id": "r", "body": {"error": _ERROR}}}
        return row | {"error": error}
    if fate == "succeeded":
        return {"custom_id": key, "result": {"type": fate, "message": batch.results[key]}}
    if fate == "errored":
        return {"custom_id": key, "result": {"type": fate, "error": {"type": "error", "error": _ERROR}}}
    return {"custom_id": key, "result": {"type": fate}}


def _cut(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def _rfc(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def share_of_fates(shares: dict[Fate, float], seed: int = 1, *, times: int = 1) -> Callable[[Body, int], Fate]:
    """Fates: these shares of calls fail the first `times` that they are in a batch, the same ones for the same seed."""

    def drawn(body: Body) -> Fate:
        at = random.Random(f"{seed}/{request_digest(body)}").random()
        for fate, share in shares.items():
            if at < share:
                return fate
            at -= share
        return "succeeded"

    return lambda body, asked: drawn(body) if asked < times else "succeeded"
