"""Recorded requests as conversations."""

import json
from typing import Any

import pytest

from subterra_jobs.evaluate.analysis.served.recorded_chat import MOST_MESSAGES, Chat, chat_of, parse_record

MESSAGES = [
    {"role": "system", "content": "You help.\nplan: Pro"},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": [{"type": "text", "text": "Some"}, {"type": "text", "text": "tea"}]},
]
REPLY = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Here you are."}}]}


def event(**delta: Any) -> str:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta}]})}\n\n"


def record(response: str, messages: object = MESSAGES) -> dict[str, str]:
    return {"request": json.dumps({"messages": messages}), "response": response}


def words(chat: Chat | None) -> list[str]:
    assert chat is not None
    return [turn["content"] for turn in chat.turns]


def test_a_record_is_the_conversation_up_to_its_reply() -> None:
    chat = parse_record(record(json.dumps(REPLY)))
    assert words(chat) == ["Hi", "Hello!", "Some tea", "Here you are."]
    assert chat is not None
    assert chat.context == "You help.\nplan: Pro"


def test_a_streamed_reply_is_put_together() -> None:
    stream = event(role="assistant", content="") + event(content="Here ") + event(content="you are.")
    usage = 'data: {"choices": [], "usage": {"prompt_tokens": 1}}\n\n'
    assert words(parse_record(record(f"{stream}{usage}data: [DONE]\n\n")))[-1] == "Here you are."


def test_any_character_may_stand_in_a_streamed_reply() -> None:
    delta = {"choices": [{"index": 0, "delta": {"content": "one\u2028two\x85three"}}]}
    stream = f"data: {json.dumps(delta, ensure_ascii=False)}\r\n\r\ndata: [DONE]\r\n\r\n"
    assert words(parse_record(record(stream)))[-1] == "one two three"


@pytest.mark.parametrize(
    "response",
    [
        json.dumps({"choices": [{"message": {"content": None, "tool_calls": [{"function": {"name": "book"}}]}}]}),
        event(tool_calls=[{"function": {"name": "book"}}]),
        json.dumps({"choices": [{"message": {"content": ""}}]}),
        json.dumps({"choices": [{"message": {"content": " \n"}}]}),
    ],
)
def test_a_reply_without_words_is_no_turn(response: str) -> None:
    assert parse_record(record(response)) is None


def test_tool_calls_lie_between_the_words_of_one_turn() -> None:
    call = {"role": "assistant", "content": "One moment.", "tool_calls": [{"id": "1"}]}
    chat = chat_of([MESSAGES[1], call, {"role": "tool", "content": "{}"}, {"role": "assistant", "content": "It is booked."}])
    assert words(chat) == ["Hi", "One moment. It is booked."]


def test_before_the_last_reply_the_customer_had_not_asked_yet() -> None:
    chat = chat_of(MESSAGES)
    assert words(chat.before) == ["Hi", "Hello!"]
    assert words(chat_of([*MESSAGES, {"role": "assistant", "content": "Here."}]).before) == ["Hi", "Hello!"]
    assert words(chat_of(MESSAGES[:2]).before) == []


def test_a_conversation_that_would_keep_all_others_waiting_is_not_read() -> None:
    longest = [{"role": "user", "content": "Hi"}] * MOST_MESSAGES
    assert parse_record(record(json.dumps(REPLY), longest)) is not None
    with pytest.raises(ValueError, match="201 messages; at most 200 are read"):
        parse_record(record(json.dumps(REPLY), [*longest, *longest[:1]]))


@pytest.mark.parametrize("damaged", [{"request": "{", "response": "{}"}, {"request": "{}", "response": "{}"}, {}])
def test_a_record_of_anything_else_is_refused(damaged: dict[str, str]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        parse_record(damaged)
