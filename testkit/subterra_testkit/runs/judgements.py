"""Responses of LLM judges and labellers for tests: a score per criterion, with a quote that is really in the conversation."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from subterra_jobs.evaluate.judge.rubric import RUBRIC

Body = dict[str, Any]
_TURN = re.compile(r"^\[(\d+)\] (Agent|Customer): (.*)$", re.MULTILINE)


def schema_of(body: Body) -> dict[str, Any] | None:
    """JSON schema that a call of either API asks for; `None` for plain text."""
    if (asked := body.get("output_config", {}).get("format")) is not None:  # it may also have the effort alone
        found: dict[str, Any] = asked["schema"]
        return found
    told = body.get("response_format")
    return told["json_schema"]["schema"] if told else None


def system_of(body: Body) -> str:
    """System prompt of a call of either API."""
    if "system" in body:
        return "".join(block["text"] for block in body["system"])
    return "".join(message["content"] for message in body["messages"] if message["role"] == "system")


def first_user_message(body: Body) -> str:
    """Text of the first user message."""
    return str(next(message["content"] for message in body["messages"] if message["role"] == "user"))


def turns_of(body: Body) -> list[tuple[int, str, str]]:
    """Number, speaker and text of each line of the conversation in a call."""
    text = re.search(r"<conversation>\n(.*)\n</conversation>", first_user_message(body), re.DOTALL)
    return [(int(number), who, line) for number, who, line in _TURN.findall(text.group(1))] if text else []


def is_judging(body: Body) -> bool:
    """Whether a call asks for scores."""
    return bool(set((schema_of(body) or {}).get("properties", ())) & {criterion.name for criterion in RUBRIC})


def judging_answer(body: Body, score: int | Callable[[str, Body], int] = 5) -> str:
    """Response to a judging call; `score` may depend on the criterion and the request."""
    quote = next((line for _, who, line in turns_of(body) if who == "Agent" and line), "")
    names = (schema_of(body) or {})["properties"]
    return json.dumps({name: criterion_answer(score(name, body) if callable(score) else score, quote) for name in names})


def criterion_answer(score: int, quote: str, reason: str = "As described.") -> Mapping[str, Any]:
    """One criterion's part of a judging response."""
    return {"quotes": [quote], "reason": reason, "score": score}


def labelling_answer(body: Body, known: Mapping[str, list[str]]) -> str:
    """Response to a labelling call: the steps of each turn by its words, empty for unknown words."""
    turns = [{"turn": number, "first": known.get(line, []), "second": []} for number, _, line in turns_of(body)]
    return json.dumps({"turns": turns})


def is_labelling(body: Body) -> bool:
    """Whether a call asks for the steps of turns."""
    return "turns" in (schema_of(body) or {}).get("properties", ())
