"""What a provider's refusal says, whatever its form, and whether it concerns one conversation only. Pure."""

import json
import re
from collections.abc import Mapping
from typing import Any

REASON_LENGTH = 300
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]")
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)
_MARKUP = re.compile(r"^\s*<(!doctype|html|head|body|\?xml)\b", re.IGNORECASE)
_FILTER_CODES = frozenset(
    {"content_filter", "content_policy_violation", "responsible_ai_policy_violation", "data_inspection_failed"}
)
_FILTER_WORDS = re.compile(
    r"content[ _-](filter|management policy|policy violation|moderation)|blocked by (our )?(content|safety)|"
    r"(flagged|rejected) (by|as a result of) (our |the )?(safety|moderation|content)|responsible ai|"
    r"(violat\w+|against) (our |the )?(usage|content|safety) polic",
    re.IGNORECASE,
)

_LENGTH_CODES = frozenset({"context_length_exceeded", "max_tokens_exceeded"})
_LENGTH_WORDS = re.compile(
    r"max_model_len|(maximum|model's|exceeds?\w*|exceeded) (the )?(maximum )?context|context (length|window|limit|size)|"
    r"prompt is too long|max(_completion|_output)?_tokens\b.{0,80}(too (large|high)|greater than|at most|maximum|exceed|less than)",
    re.IGNORECASE,
)


def reason_in(body: object, fallback: str = "") -> str:
    """The reason in an error's body: text, HTML or JSON of any of the known forms; `fallback` without one."""
    return one_line(_reason(body) or fallback)[:REASON_LENGTH]


def code_in(body: object) -> str:
    """The error's code or type in a body; empty without one."""
    if not isinstance(body, Mapping):
        return ""
    inner = body.get("error")
    if isinstance(inner, Mapping):
        return code_in(inner)
    return next((value for key in ("code", "type") if isinstance(value := body.get(key), str) and value), "")


def is_filtered(status: int | None, code: str, reason: str) -> bool:
    """True when a content filter refused this one conversation, so that others may go on."""
    return status in (400, 403, 422) and (code in _FILTER_CODES or _FILTER_WORDS.search(reason) is not None)


def is_too_long(status: int | None, code: str, reason: str) -> bool:
    """True when a request and the room for its response exceed what the model takes."""
    return status in (400, 413, 422) and (code in _LENGTH_CODES or _LENGTH_WORDS.search(reason) is not None)


def is_markup(text: str) -> bool:
    """True for an HTML page, which comes from a proxy or a wrong address rather than from a model's API."""
    return _MARKUP.match(text) is not None


def one_line(text: str) -> str:
    """The text as one line without terminal codes."""
    return " ".join(_ANSI.sub("", text).split())


def whole_characters(text: str) -> str:
    """The text with U+FFFD for each half of a character, which JSON can escape but no file can hold.

    Models write one when they escape an emoji wrongly, and servers when they cut one in two.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _reason(body: object) -> str:
    if isinstance(body, str):
        return _page(body) if is_markup(body) else body
    if isinstance(body, Mapping):
        parts = (_reason(body.get(key)) for key in ("error", "message", "detail", "msg", "title", "errors"))
        found = next((part for part in parts if part), "")
        return found + _location(body) if found else ""
    if isinstance(body, list):
        return "; ".join(filter(None, map(_reason, body[:3])))
    return ""


def _location(body: Mapping[str, Any]) -> str:
    """Where a validator found the fault, such as ` (at body.max_completion_tokens)`."""
    place = body.get("loc")
    return f" (at {'.'.join(map(str, place))})" if isinstance(place, list | tuple) and place else ""


def _page(page: str) -> str:
    title = _TITLE.search(page)
    return f"an HTML page: {title.group(1) if title else _TAG.sub(' ', page)}"


def quoted(body: object) -> str:
    """A body of unexpected form as a short line, for messages."""
    text = body if isinstance(body, str) else json.dumps(body, default=str)
    return reason_in(body) or one_line(text)[:REASON_LENGTH] or "nothing"
