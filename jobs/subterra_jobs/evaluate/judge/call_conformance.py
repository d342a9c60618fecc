"""Whether the agent called the tools that the procedure prescribes, in their place, with the values that were said. Pure.

Calls are compared turn by turn along the scenario's path: which tool, with which arguments, in which order, and none elsewhere.
What the agent says of results is read from its words: a value of a result that no tool has returned by then is invented.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from typing import Any

from subterra_core.procedure.graph import Graph
from subterra_core.procedure.tools import ERROR
from subterra_jobs.dialogue.tool_calls import Call, call_at, parsed_call, same_call
from subterra_jobs.evaluate.judge.conformance import CallCheck, CallFault, PrescribedTurn, Replay, StatedResults


def check_calls(
    graph: Graph, turns: Sequence[PrescribedTurn], values: Mapping[str, str], chat: Sequence[Mapping[str, Any]]
) -> CallCheck:
    """The calls in `chat` held against those that are due in the prescribed `turns` of the agent."""
    if not graph.spec.tools:
        return CallCheck()
    prescribed = [
        [call_at(graph.spec, graph.nodes[node], values) for node in turn.nodes if graph.nodes[node].role == "tool"]
        for turn in turns
    ]
    made = [calls_in(message) for message in chat if message["role"] == "assistant"]
    due, right, faults = sum(map(len, prescribed)), 0, list[CallFault]()
    for turn in range(max(len(prescribed), len(made))):
        expected, found = prescribed[turn : turn + 1], made[turn : turn + 1]
        pairs = [*zip_longest(chain(*expected), chain(*found))]
        right += sum(one is not None and two is not None and _same(one, two) for one, two in pairs)
        faults += [fault for pair in pairs if (fault := _fault(turn, *pair)) is not None][:1]
    return CallCheck(due, right, tuple(faults))


def calls_in(message: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and arguments of the calls of one turn of the agent."""
    return [
        (str(call["function"]["name"]), str(call["function"]["arguments"]))
        for part in message.get("messages") or ()
        for call in part.get("tool_calls") or ()
    ]


def _same(due: Call, made: tuple[str, str]) -> bool:
    call = parsed_call(*made)
    return call is not None and same_call(due, call)


def _fault(turn: int, due: Call | None, made: tuple[str, str] | None) -> CallFault | None:
    prescribed = "" if due is None else f"{due.name} {due.to_json()}"
    found = "" if made is None else " ".join(made)
    if due is None:
        return CallFault(turn, "unexpected call", "", found)
    if made is None:
        return CallFault(turn, "missing call", prescribed, "")
    if _same(due, made):
        return None
    return CallFault(turn, "wrong tool" if due.name != made[0] else "wrong arguments", prescribed, found)


def with_calls_checked(
    graph: Graph, replayed: Replay, values: Mapping[str, str], chat: Sequence[Mapping[str, Any]], *, in_place: bool = True
) -> Replay:
    """The replay with the calls of `chat`, and with the results that the agent stated although no tool had returned them.

    Without `in_place` only the order of the calls counts: a labeller of free words leaves turns out.
    """
    if not graph.spec.tools:
        return replayed
    turns = [turn.prescribed for turn in replayed.turns]
    known, results = returned_by_turn(chat), _result_names(graph)
    if not in_place:
        turns = [PrescribedTurn(tuple(node for turn in turns for node in turn.nodes), "", ())]
        whole = {"role": "assistant", "messages": [part for message in chat for part in message.get("messages") or ()]}
        chat, known = [whole], [frozenset().union(*known)] * len(replayed.turns)
    checked = check_calls(graph, turns, values, chat)
    stated = [mention for mention in replayed.mentions if mention.variable in results]
    invented = [mention for mention in stated if not mention.exact or mention.variable not in known[mention.turn]]
    return replace(replayed, calls=checked, results=StatedResults(len(stated), len(invented)))


def _result_names(graph: Graph) -> frozenset[str]:
    return frozenset(variable.name for variable in graph.spec.variables if variable.visibility == "result")


def returned_by_turn(chat: Sequence[Mapping[str, Any]]) -> list[frozenset[str]]:
    """For each turn of the agent, the names of the results that tools have returned before its last words."""
    names, found = set[str](), list[frozenset[str]]()
    for message in chat:
        if message["role"] == "assistant":
            names |= {
                name for part in message.get("messages") or () if part["role"] == "tool" for name in json.loads(part["content"])
            }
            found.append(frozenset(names - {ERROR}))
    return found
