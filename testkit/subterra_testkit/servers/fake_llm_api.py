"""Fake providers: the Messages API and an OpenAI-compatible one over real HTTP, on one core.

Limits with headers, prompt caches, latency and faults are scripted by the test; every call that a provider would bill is counted.
"""

import asyncio
import hashlib
import json
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from aiohttp import web

from subterra_testkit.servers.fake_batches import FakeBatches
from subterra_testkit.servers.fake_model import (
    ANTHROPIC_STOPS,
    DEARER_TIERS,
    OPENAI_STOPS,
    FakeModel,
    Outcome,
    Tokens,
    anthropic_content,
    anthropic_usage,
    openai_message,
    openai_usage,
    retired_body,
)
from subterra_testkit.servers.fake_prompt_cache import BYTES_PER_TOKEN, PromptCache

AnswerFunction = Callable[[dict[str, Any]], str]
_WORD_LIST = "well thank you then please that sounds good and would like this one now so too"
_WORDS = _WORD_LIST.split()


@dataclass(frozen=True)
class Fault:
    """A fault that one call meets. `cut` drops the connection; `seconds` delays the response."""

    status: int = 200
    kind: str = "api_error"
    message: str = "fault of the test"
    retry_after: float | None = None
    cut: bool = False
    seconds: float = 0.0
    body: str | None = None
    """Sent as it is, instead of an answer or the provider's form of an error."""
    content_type: str = "application/json"

    @property
    def answers(self) -> bool:
        """True if the call is answered, and billed, nevertheless."""
        return self.status == 200 and not self.cut and self.body is None


RATE_LIMITED = Fault(429, "rate_limit_error", "slow down", retry_after=0.05)
OVERLOADED = Fault(529, "overloaded_error", "overloaded")
BROKEN = Fault(500)
CUT = Fault(cut=True)
NO_CREDIT = Fault(400, "invalid_request_error", "Your credit balance is too low to access the API.")
BAD_KEY = Fault(401, "authentication_error", "invalid x-api-key")
FILTERED = Fault(400, "invalid_request_error", "Output blocked by content filtering policy")
HTML_PAGE = Fault(body="<!DOCTYPE html><html><title>Welcome</title><body>Sign in</body></html>", content_type="text/html")
NO_CHOICES = Fault(body='{"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": null, "usage": null}')
NO_CONTENT = Fault(body='{"id": "x", "type": "message", "role": "assistant", "model": "m", "content": null}')
BROKEN_JSON = Fault(body='{"id": "x", "choices": [{"ind')
NO_SUCH_MODEL = Fault(404, "not_found_error", "model: nobody")


def role_of(body: dict[str, Any]) -> str:
    """The role that a generation call asks for: agent, customer or reader."""
    system = json.dumps(body.get("system", body["messages"][0]))
    if "You read a chat" in system:
        return "reader"
    return "agent" if "You play the agent" in system else "customer"


def plain_answer(body: dict[str, Any]) -> str:
    """Text that passes all checks and differs from call to call; the customer states the decision, the reader recognizes it."""
    asked = body["messages"][-1]["content"]
    if role_of(body) == "reader":
        last = asked.partition("</conversation>")[0].splitlines()[-1]
        options = re.findall(r"^(\d+)\. (.*)$", asked, re.MULTILINE)
        return next((number for number, option in options if in_own_words(option) in last), "0")
    if role_of(body) == "agent":
        return f"I see, thank you, {chatter(asked)}."
    decided = re.search(r"<decision>\n(.*)\n</decision>", asked)
    return f"That is fine with me, {chatter(asked)}. {in_own_words(decided.group(1)) if decided else ''}"


def in_own_words(condition: str) -> str:
    """A customer's words for a condition."""
    return condition.replace("The customer", "This person")


def chatter(asked: str, words: int = 4) -> str:
    """At most 32 words that depend on the whole prompt, so that no two conversations are alike."""
    return " ".join(_WORDS[byte % len(_WORDS)] for byte in hashlib.sha256(asked.encode()).digest()[:words])


@dataclass
class RateLimit:
    """A limit per minute, refilled continuously. `others` is the share that other users of the account take."""

    per_minute: float
    others: float = 0.0
    left: float = -1.0
    at: float = 0.0

    def refill(self, now: float) -> None:
        """Refills up to the limit; full at first."""
        rate = self.per_minute * (1 - self.others) / 60
        self.left = self.per_minute if self.left < 0 else min(self.per_minute, self.left + (now - self.at) * rate)
        self.at = now

    def wait(self, needed: float) -> float:
        """Seconds until `needed` is available."""
        return max(0.0, (needed - self.left) * 60 / (self.per_minute * (1 - self.others)))

    def headers(self, name: str, openai: bool) -> dict[str, str]:
        """Headers as the two APIs send them."""
        limit, left, seconds = f"{self.per_minute:.0f}", f"{max(0.0, self.left):.0f}", self.wait(self.per_minute)
        if openai:
            values = {"limit": limit, "remaining": left, "reset": f"{seconds * 1000:.0f}ms"}
            return {f"x-ratelimit-{key}-{name}": value for key, value in values.items()}
        full = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="seconds").replace("+00:00", "Z")
        values = {"limit": limit, "remaining": left, "reset": full}
        return {f"anthropic-ratelimit-{name}-{key}": value for key, value in values.items()}


@dataclass
class FakeLLMApi:
    """A call meets, in this order: `faults` (used up one per call), `script`, `after` (permanent fault after so many paid calls),
    `limits`, a response. Everything can be set before and while calls arrive.
    """

    answer: AnswerFunction = plain_answer
    input_tokens: int | None = 600
    """Input tokens of each call; if `None` they are counted, four bytes each, and split by use of the cache."""
    output_tokens: int | Callable[[dict[str, Any]], int] = 120
    """Output tokens of every response, or of the response to a request body."""
    seconds: float | Callable[[random.Random], float] = 0.0
    stop_reason: str = "end_turn"
    model: FakeModel = field(default_factory=FakeModel)
    retired: set[str] = field(default_factory=set[str])
    """Models that are not served any more."""
    context: int | None = None
    """Most tokens of prompt and response together, as a server with a short context has it."""
    unknown_fields: set[str] = field(default_factory=set[str])
    """Fields of a request that the endpoint refuses, as older servers do."""
    bill: Decimal = Decimal(0)
    """What the provider will charge for all answered calls, by its own prices."""
    faults: deque[Fault] = field(default_factory=deque)
    script: Callable[["FakeLLMApi"], Fault | None] | None = None
    after: tuple[int, Fault] | None = None
    limits: dict[str, RateLimit] = field(default_factory=dict)
    """By `requests`, `input-tokens`, `output-tokens` and `tokens`, which is the sum of both."""
    reports_limits: bool = True
    """True if headers report the limits."""
    calls: int = 0
    paid: int = 0
    limited: int = 0
    """Calls refused because of a limit."""
    in_flight: int = 0
    peak: int = 0
    paid_at: list[float] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    url: str = ""
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    started: float = field(default_factory=time.monotonic)
    cache: PromptCache = field(default_factory=PromptCache)
    batches: FakeBatches = field(default_factory=FakeBatches)

    @property
    def elapsed(self) -> float:
        """Seconds since the server was created."""
        return time.monotonic() - self.started

    def admit(self, body: dict[str, Any], key: str) -> Fault | None:
        """Counts a call; returns the fault that it meets."""
        self.calls += 1
        self.bodies.append(body)
        self.keys.add(key)
        fault = self._fault(body)
        if fault is None or fault.answers:
            self.paid += 1
            self.paid_at.append(time.monotonic())
        return fault

    def _fault(self, body: dict[str, Any]) -> Fault | None:
        if self.faults:
            return self.faults.popleft()
        if (refused := self._refused_request(body)) is not None:
            return refused
        if self.script is not None and (fault := self.script(self)) is not None:
            return fault
        if self.after is not None and self.paid >= self.after[0]:
            return self.after[1]
        return self._limit(body)

    def _refused_request(self, body: dict[str, Any]) -> Fault | None:
        """The refusal of a retired model, with the provider's own body, or of a field."""
        name = body["model"]
        if name in self.retired:
            return Fault(404, body=retired_body(name))
        if unknown := sorted(self.unknown_fields & set(body)):
            detail = [{"type": "extra_forbidden", "loc": ["body", unknown[0]], "msg": "Extra inputs are not permitted"}]
            return Fault(400, body=json.dumps({"detail": detail}))
        limit = body.get("max_completion_tokens", body.get("max_tokens", 0))
        if self.context is not None and limit > self.context:
            # The words of vLLM 0.32
            message = f"max_tokens={limit} cannot be greater than max_model_len={self.context}. Please request fewer output tokens."
            return Fault(400, "BadRequestError", message)
        return None

    def _limit(self, body: dict[str, Any]) -> Fault | None:
        """Takes from every limit, or from none if one has too little left."""
        asked, said = float(self.input_tokens or len(json.dumps(body)) // BYTES_PER_TOKEN), float(self.response_tokens(body))
        needed = {"requests": 1.0, "input-tokens": asked, "output-tokens": said, "tokens": asked + said}
        now = time.monotonic()
        for limit in self.limits.values():
            limit.refill(now)
        wait = max((limit.wait(needed[name]) for name, limit in self.limits.items()), default=0.0)
        if wait > 0:
            self.limited += 1
            return Fault(429, "rate_limit_error", "This request would exceed your rate limit.", retry_after=round(wait + 0.005, 2))
        for name, limit in self.limits.items():
            limit.left -= needed[name]
        return None

    def response_tokens(self, body: dict[str, Any]) -> int:
        """Output tokens of the response to a request body."""
        return self.output_tokens(body) if callable(self.output_tokens) else self.output_tokens

    def pause(self) -> float:
        """Seconds that the next response takes."""
        return self.seconds(self.rng) if callable(self.seconds) else self.seconds

    def headers(self, fault: Fault | None, openai: bool) -> dict[str, str]:
        """Headers of a response."""
        headers = {} if fault is None or fault.retry_after is None else {"retry-after": str(fault.retry_after)}
        for name, limit in self.limits.items() if self.reports_limits else ():
            headers |= limit.headers(name, openai)
        return headers

    def _outcome(self, body: dict[str, Any]) -> Outcome:
        outcome = self.model.outcome(body, self.answer(body), self.response_tokens(body))
        return outcome if self.stop_reason == "end_turn" else replace(outcome, stop="length")

    def _tokens(self, body: dict[str, Any], output: int, openai: bool) -> Tokens:
        """The call's tokens; both providers count an uncached prompt alike."""
        now = time.monotonic()
        plain, written, read = (self.input_tokens, 0, 0) if self.input_tokens else self.cache.count(body, now)
        if openai and not self.input_tokens:
            plain += len(json.dumps(body.get("response_format", {}))) // BYTES_PER_TOKEN
            written, read = self.cache.automatic(body, now)
            plain -= written + read
        plain, written, read = (round(count * self.model.token_factor) for count in (plain, written, read))
        hour = self.model.cached_for_an_hour or self.cache.is_for_an_hour(body)
        return Tokens(plain, output, 0 if hour else written, written if hour else 0, read)

    def reply(self, body: dict[str, Any]) -> dict[str, Any]:
        """Response of the Messages API."""
        outcome = self._outcome(body)
        tokens = self._tokens(body, outcome.output, openai=False)
        self.bill += self.model.prices.bill(tokens)
        return {
            "id": f"msg_{self.calls}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": anthropic_content(outcome),
            "stop_reason": ANTHROPIC_STOPS[outcome.stop],
            "stop_sequence": None,
            "usage": anthropic_usage(tokens, outcome.thinking),
        }

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        """Response of the OpenAI-compatible API."""
        outcome = self._outcome(body)
        tokens = self._tokens(body, outcome.output, openai=True)
        self.bill += self.model.prices.bill(tokens) * (2 if self.model.tier in DEARER_TIERS else 1)
        message = openai_message(outcome, inline=self.model.inline_thinking)
        return {
            "id": f"chatcmpl-{self.calls}",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": OPENAI_STOPS[outcome.stop], "logprobs": None}],
            "usage": openai_usage(tokens, outcome.thinking),
            "service_tier": self.model.tier or body.get("service_tier"),
        }

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Handles one call."""
        body, openai = await request.json(), request.path.endswith("/chat/completions")
        key = request.headers.get("authorization" if openai else "x-api-key", "").removeprefix("Bearer ")
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            fault = self.admit(body, key)
            if fault is not None and fault.cut:
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            if fault is None or fault.answers:
                await asyncio.sleep(self.pause() + (fault.seconds if fault else 0.0))
            if fault is not None and fault.body is not None:
                return web.Response(text=fault.body, status=fault.status, content_type=fault.content_type)
            if fault is not None and fault.status != 200:
                error = {"type": fault.kind, "message": fault.message}
                content = {"error": error | {"code": fault.kind}} if openai else {"type": "error", "error": error}
                return web.json_response(content, status=fault.status, headers=self.headers(fault, openai))
            return web.json_response(self.completion(body) if openai else self.reply(body), headers=self.headers(fault, openai))
        finally:
            self.in_flight -= 1


@contextmanager
def fake_llm_api(api: FakeLLMApi | None = None, host: str = "127.0.0.1", port: int = 0) -> Iterator[FakeLLMApi]:
    """Serves `api` until the end of the block, on a free port by default; `api.url` is the base URL, `api.url/v1` the
    OpenAI-compatible one.
    """
    api = api or FakeLLMApi()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner = asyncio.run_coroutine_threadsafe(_start(api, host, port), loop).result(10)
    try:
        yield api
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _start(api: FakeLLMApi, host: str, port: int) -> web.AppRunner:
    app = web.Application(client_max_size=256 * 1024 * 1024)
    app.router.add_post("/v1/messages", api.serve)
    app.router.add_post("/v1/chat/completions", api.serve)
    app.router.add_routes(api.batches.routes(api))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, host, port, backlog=1024).start()  # as many calls come at once
    api.url = f"http://{host}:{runner.addresses[0][1]}"
    return runner


def random_faults(share: float, *faults: Fault) -> Callable[[FakeLLMApi], Fault | None]:
    """A script: a share of all calls meets one of `faults`."""
    return lambda api: api.rng.choice(faults) if api.rng.random() < share else None


def outage(seconds: float, fault: Fault, after: int = 0) -> Callable[[FakeLLMApi], Fault | None]:
    """A script: only `fault` for `seconds`, once `after` calls were paid."""
    began: list[float] = []

    def script(api: FakeLLMApi) -> Fault | None:
        if api.paid < after:
            return None
        if not began:
            began.append(api.elapsed)
        return fault if api.elapsed - began[0] < seconds else None

    return script


def first_fault(*scripts: Callable[[FakeLLMApi], Fault | None]) -> Callable[[FakeLLMApi], Fault | None]:
    """A script: the first fault of any of `scripts`."""
    return lambda api: next((fault for script in scripts if (fault := script(api)) is not None), None)
