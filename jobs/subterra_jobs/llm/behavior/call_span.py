"""The span of a call to a model, by OpenTelemetry's conventions for generative AI (0.1.0). It has no word of prompt or reply."""

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from subterra_jobs.llm.account import Account
from subterra_jobs.llm.client import RefusedError, Request, Response
from subterra_jobs.stage.span import Span
from subterra_jobs.stage.tracing import tracing

_OWN_SERVERS = {
    "anthropic": ("ANTHROPIC_BASE_URL", "https://api.anthropic.com"),
    "openai": ("OPENAI_BASE_URL", "https://api.openai.com"),
}
"""Where a provider's SDK looks for another address, and the provider's own."""


@contextmanager
def call_span(account: Account, request: Request, labels: Mapping[str, str]) -> Iterator[Span]:
    """The span of one call with all of its tries. It counts from `Span.begin`; a call that was never sent has none.

    ``labels`` are those of the ledger: names of nodes, conversations and criteria, never what is said.
    """
    span = Span(f"chat {account.model}", _asked(account, request, labels), client=True, began=None)
    try:
        yield span
    except BaseException as error:
        if span.error is None or isinstance(error, asyncio.CancelledError):
            _fail(span, type(error).__name__)
        raise
    finally:
        tracing().end(span)


def refused(span: Span, error: RefusedError) -> None:
    """Notes a try without a response. The error's words are left out: some providers quote the prompt, or a reply, in them."""
    kind = error.kind if error.status is None else str(error.status)
    waited = {} if error.retry_after is None else {"subterra.retry_after_seconds": error.retry_after}
    span.add_event("subterra.refused", {"error.type": kind, **waited})
    _fail(span, kind)


def answered(span: Span, response: Response, usd: str) -> None:
    """Notes the response: what was used, what it cost and why it ended."""
    span.error = None
    span.attributes.pop("error.type", None)
    span.attributes |= {"gen_ai.response.finish_reasons": [response.cut or "stop"], "subterra.usd": float(usd)}
    if (usage := response.usage) is not None:
        parts = {
            "cache_read.input_tokens": usage.cache_read,
            "cache_write.input_tokens": usage.cache_write + usage.cache_write_1h,
            "reasoning.output_tokens": usage.thinking,
        }
        counts = {"input_tokens": usage.sent, "output_tokens": usage.output, **{name: n for name, n in parts.items() if n}}
        span.attributes |= {f"gen_ai.usage.{name}": count for name, count in counts.items()}


def _fail(span: Span, kind: str) -> None:
    span.error = span.attributes["error.type"] = kind


def _asked(account: Account, request: Request, labels: Mapping[str, str]) -> dict[str, Any]:
    variable, own = _OWN_SERVERS[account.provider]
    server = urlsplit(account.base_url or os.environ.get(variable) or own)
    effort = account.thinking.effort
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": account.provider,
        "gen_ai.request.model": account.model,
        "gen_ai.request.max_tokens": request.output_limit,
        "gen_ai.output.type": "text" if request.schema is None else "json",
        "server.address": server.hostname or "",
        "server.port": server.port or (80 if server.scheme == "http" else 443),
        **({"gen_ai.request.reasoning.level": effort} if effort else {}),
        **{f"subterra.{name}": value for name, value in labels.items()},
    }
