"""Tool calls in conversations: what a scenario's calls hold and return, and conversations with them as an OpenAI client has them.

Where only words are read, a call stands in the agent's words as `⟦name⟧`. A dataset, a request and a template have the messages
instead: the assistant's with `tool_calls`, the `tool` message with the result, then the assistant's next words. Pure.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from subterra_api.unicode_forms import composed
from subterra_api.v1alpha1.procedure import Node, ProcedureSpec, Tool
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.template import render
from subterra_core.procedure.tools import ERROR, SUCCESS, call_mark, json_value, tools_by_name, without_marks
from subterra_jobs.dialogue.phrasing.numbers_and_dates import LARGEST_SPELLED, spelled

ChatMessage = dict[str, Any]
_MARK = re.compile(r"⟦([^⟦⟧]*)⟧")
UNKNOWN_TOOL, INVALID_ARGUMENTS = "unknown_tool", "invalid_arguments"
"""Errors of the mock tools for calls that no node of the procedure makes."""


@dataclass(frozen=True)
class Call:
    """A call: the tool's name and its arguments."""

    name: str
    arguments: Mapping[str, Any]

    def to_json(self) -> str:
        """The arguments as text, in the order of the parameters."""
        return json.dumps(dict(self.arguments), ensure_ascii=False)


@lru_cache(maxsize=1)
def _spelled_numbers() -> dict[str, int]:
    return {spelled(number): number for number in range(LARGEST_SPELLED + 1)}


def call_at(spec: ProcedureSpec, node: Node, values: Mapping[str, str]) -> Call:
    """The call that a tool node makes when the scenario has these values."""
    tool = tools_by_name(spec)[node.tool or ""]
    given = {argument.name: render(argument.value, values) for argument in node.arguments}
    arguments = {
        parameter.name: json_value(parameter.type, given[parameter.name], _spelled_numbers())
        for parameter in tool.parameters
        if parameter.name in given
    }
    return Call(tool.name, arguments)


def result_of(spec: ProcedureSpec, tool: Tool, values: Mapping[str, str]) -> dict[str, Any]:
    """What the tool returns in this scenario: its results, or the name of an error."""
    outcome = values.get(tool.outcome, SUCCESS) if tool.outcome else SUCCESS
    if outcome != SUCCESS:
        return {ERROR: outcome}
    types = {variable.name: "integer" if variable.type == "integer" else "string" for variable in spec.variables}
    return {name: json_value(types[name], values[name], _spelled_numbers()) for name in tool.results}


def result_text(result: Mapping[str, Any]) -> str:
    """A result as the content of a `tool` message."""
    return json.dumps(dict(result), ensure_ascii=False)


def call_in_words(spec: ProcedureSpec, node: Node, values: Mapping[str, str]) -> str:
    """The call of a node and its result in one line, for a teacher that writes what the agent says next."""
    call, tool = call_at(spec, node, values), tools_by_name(spec)[node.tool or ""]
    return f"{call.name} {call.to_json()} returned {result_text(result_of(spec, tool, values))}"


class MockTools:
    """The tools of one scenario. A call that the procedure makes there returns the scenario's results, any other one an error."""

    def __init__(self, spec: ProcedureSpec, values: Mapping[str, str]) -> None:
        self._spec, self._values, self._tools = spec, values, tools_by_name(spec)
        self._calls = [call_at(spec, node, values) for node in spec.nodes if node.role == "tool"]

    def run(self, name: str, arguments: str) -> dict[str, Any]:
        """The result of a call with these arguments, which are JSON."""
        if name not in self._tools:
            return {ERROR: UNKNOWN_TOOL}
        call = parsed_call(name, arguments)
        if call is None or not any(same_call(call, made) for made in self._calls):
            return {ERROR: INVALID_ARGUMENTS}
        return result_of(self._spec, self._tools[name], self._values)


def parsed_call(name: str, arguments: str) -> Call | None:
    """The call; `None` if the arguments are no JSON object."""
    try:
        content = json.loads(arguments)
    except ValueError:
        return None
    return Call(name, content) if isinstance(content, dict) else None


def same_call(one: Call, other: Call) -> bool:
    """Whether name and arguments are equal, numbers by type too: `true` is not 1. Programs compare letters in one Unicode form, if
    any, so other quotes and digits are other arguments.
    """
    return one.name == other.name and _typed(one.arguments) == _typed(other.arguments)


def _typed(arguments: Mapping[str, Any]) -> dict[str, tuple[bool, Any]]:
    plain = {name: composed(value) if isinstance(value, str) else value for name, value in arguments.items()}
    return {name: (isinstance(value, bool), value) for name, value in plain.items()}


def call_message(content: str, calls: Sequence[tuple[str, str]], first: int) -> ChatMessage:
    """The assistant's message with calls, as names and arguments; `first` is the number of the first call."""
    tool_calls = [
        {"id": f"call_{first + index}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for index, (name, arguments) in enumerate(calls)
    ]
    return {"role": "assistant", "content": content, "tool_calls": tool_calls}


def result_message(result: Mapping[str, Any], number: int) -> ChatMessage:
    """The `tool` message with the result of call `number`."""
    return {"role": "tool", "tool_call_id": f"call_{number}", "content": result_text(result)}


def spoken(text: str) -> str:
    """Words of a reply without the marks of calls."""
    return " ".join(_MARK.sub(" ", text).split()) if "⟦" in text else text


def marked(messages: Sequence[Mapping[str, Any]]) -> str:
    """The words of the messages of one reply, with a mark for each call."""
    parts: list[str] = []
    for message in messages:
        if message["role"] == "assistant":
            calls = [call_mark(call["function"]["name"]) for call in message.get("tool_calls") or ()]
            parts += [without_marks(str(message.get("content") or "")).strip(), *calls]
    return " ".join(filter(None, parts))


def words_only(chat: Sequence[Mapping[str, Any]]) -> list[ChatMessage]:
    """A chat as its customer reads it, who sees no calls."""
    return [{"role": message["role"], "content": spoken(message["content"])} for message in chat]


def with_details(chat: Sequence[Mapping[str, Any]]) -> list[ChatMessage]:
    """A chat for a judge: calls in brackets in their place, with arguments and results."""
    return [{"role": message["role"], "content": _detailed(message)} for message in chat]


def _detailed(message: Mapping[str, Any]) -> str:
    parts: list[str] = []
    results = {each["tool_call_id"]: each["content"] for each in message.get("messages") or () if each["role"] == "tool"}
    for each in message.get("messages") or ():
        if each["role"] == "assistant":
            parts.append(str(each.get("content") or "").strip())
            for call in each.get("tool_calls") or ():
                called = f"{call['function']['name']} {call['function']['arguments']}"
                parts.append(f"(tool call {called} returned {results.get(call['id'], 'nothing')})")
    return " ".join(filter(None, parts)) or str(message["content"])


def with_messages(chat: Sequence[Mapping[str, Any]]) -> list[ChatMessage]:
    """A chat as a client sends it: each reply of the agent that called tools as its messages."""
    sent: list[ChatMessage] = []
    for message in chat:
        sent += [dict(each) for each in message["messages"]] if message.get("messages") else [dict(message)]
    return sent


def merged(messages: Sequence[Mapping[str, Any]], nodes: Sequence[Sequence[str]]) -> tuple[list[ChatMessage], list[list[str]]]:
    """The inverse of `with_calls`: a message for each turn, with marks for calls and all its nodes; without the system's."""
    chat, behind = list[ChatMessage](), list[list[str]]()
    for message, of_message in zip(messages, nodes, strict=True):
        goes_on = message["role"] == "tool" or (chat and chat[-1]["role"] == message["role"] == "assistant")
        if goes_on:
            chat[-1]["content"] = " ".join(filter(None, (chat[-1]["content"], marked([message]))))
            behind[-1] += of_message
        else:
            calls = message.get("tool_calls")
            chat.append({"role": message["role"], "content": marked([message]) if calls else message["content"]})
            behind.append([*of_message])
    return chat, behind


def with_calls(
    graph: Graph, chat: Sequence[Mapping[str, str]], turns: Sequence[Sequence[str]], values: Mapping[str, str]
) -> tuple[list[ChatMessage], list[list[str]]]:
    """A chat of words as messages with calls and results, and the nodes behind each; the first message is the system's.

    `turns` has the nodes behind each message after that.
    """
    messages: list[ChatMessage] = [dict(chat[0])]
    nodes: list[list[str]] = []
    for message, behind in zip(chat[1:], turns, strict=True):
        called = [graph.nodes[node] for node in behind if graph.nodes[node].role == "tool"]
        if not called:
            messages.append(dict(message))
            nodes.append([*behind])
            continue
        for part, of_part in _reply_parts(graph.spec, message["content"], called, behind, values, _calls_in(messages)):
            messages.append(part)
            nodes.append(of_part)
    return messages, nodes


def _calls_in(messages: Sequence[Mapping[str, Any]]) -> int:
    return sum(message["role"] == "tool" for message in messages)


def _reply_parts(
    spec: ProcedureSpec, text: str, called: Sequence[Node], behind: Sequence[str], values: Mapping[str, str], before: int
) -> list[tuple[ChatMessage, list[str]]]:
    """The messages of one reply with the nodes behind each: words with a call, its result, and so on."""
    names = "|".join(re.escape(call_mark(name)) for name in tools_by_name(spec))
    words, parts, rest = [part.strip() for part in re.split(names, text)], list[tuple[ChatMessage, list[str]]](), [*behind]
    for number, (said, node) in enumerate(zip(words, called, strict=False), start=before + 1):
        cut = rest.index(node.id) + 1
        call = call_at(spec, node, values)
        parts.append((call_message(said, [(call.name, call.to_json())], number), rest[:cut]))
        parts.append((result_message(result_of(spec, tools_by_name(spec)[call.name], values), number), []))
        rest = rest[cut:]
    parts.append(({"role": "assistant", "content": words[-1]}, rest))
    return parts
