"""Fake list endpoints of both providers over real HTTP, as their SDKs call them."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from subterra_testkit.servers.local_server import QuietHandler, in_background

EFFORTS = ("low", "medium", "high", "xhigh", "max")
OTHER_CAPABILITIES = ("batch", "citations", "code_execution", "image_input", "pdf_input", "structured_outputs")
BOTH_TOOLS = {"supported": True, "code_execution": {"supported": True}, "web_search": {"supported": True}}


def _supported(names: Sequence[str], chosen: Sequence[str]) -> dict[str, Any]:
    return {name: {"supported": name in chosen} for name in names}


def anthropic_entry(name: str, lifecycle: str = "active", retires_at: str | None = None, **more: Any) -> dict[str, Any]:
    """A model as Anthropic lists it; `efforts` and `thinking` are those that it accepts."""
    efforts, thinking = more.pop("efforts", ()), more.pop("thinking", ("adaptive",))
    types = _supported(("adaptive", "between_tools", "disabled", "enabled"), thinking)
    capabilities = {
        **_supported(OTHER_CAPABILITIES, OTHER_CAPABILITIES),
        "context_management": {"supported": True},
        "effort": {"supported": bool(efforts), **_supported(EFFORTS, efforts)},
        "server_tools": BOTH_TOOLS,
        "thinking": {"supported": True, "types": types},
    }
    fixed = {"type": "model", "display_name": name, "created_at": "2026-01-01T00:00:00Z"}
    dates = {"lifecycle": lifecycle, "retires_at": retires_at, "deprecated_at": None}
    return {
        "id": name,
        **fixed,
        **dates,
        "max_input_tokens": 1_000_000,
        "max_tokens": 128_000,
        "capabilities": capabilities,
        **more,
    }


def openai_entry(name: str, shutdown_date: str | None = None) -> dict[str, Any]:
    """A model as OpenAI lists it."""
    return {"id": name, "object": "model", "created": 1, "owned_by": "openai", "shutdown_date": shutdown_date}


@dataclass
class ModelLists:
    """What is listed, and what was asked for. OpenAI's list refuses keys that do not begin with `sk-`."""

    anthropic: list[dict[str, Any]] = field(default_factory=list)
    openai: list[dict[str, Any]] = field(default_factory=list)
    page: int = 2
    """Models a page of Anthropic's list, whatever the client asks for."""
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Status and body."""
        self.asked.append(path)
        if "anthropic-version" not in headers:
            return self._openai(headers.get("authorization", ""))
        query = parse_qs(urlsplit(path).query)
        wanted = query.get("lifecycle", query.get("lifecycle[]", ["active", "deprecated"]))
        models = [each for each in self.anthropic if each["lifecycle"] in wanted]
        start = next((i + 1 for i, each in enumerate(models) if each["id"] == query.get("after_id", [""])[0]), 0)
        shown = models[start : start + self.page]
        ends = {"first_id": shown[0]["id"] if shown else None, "last_id": shown[-1]["id"] if shown else None}
        return 200, {"data": shown, "has_more": start + self.page < len(models), **ends}

    def _openai(self, authorization: str) -> tuple[int, dict[str, Any]]:
        if not authorization.startswith("Bearer sk-"):
            return 401, {
                "error": {"message": "Incorrect API key provided", "type": "invalid_request_error", "code": "invalid_api_key"}
            }
        return 200, {"object": "list", "data": self.openai}


@contextmanager
def fake_model_lists() -> Iterator[ModelLists]:
    """Both endpoints on one port."""
    lists = ModelLists()

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            status, body = lists.answer(self.path, {name.lower(): value for name, value in self.headers.items()})
            self.answer(status, json.dumps(body).encode())

    with in_background(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as lists.url:
        yield lists
