"""Judged conversations as rows of the report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from subterra_jobs.evaluate.judge.results import CRITERIA, Judgement, Result


def transcript_row(result: Result) -> dict[str, Any]:
    """A row of `transcripts.jsonl`: the conversation with label and prescription of each agent turn, and the judgements."""
    return result_row(result) | {
        "path": list(result.replay.path),
        "values": result.scenario.values,
        "error": result.conversation.error,
        "fault": result.conversation.fault,
        "turns": _turns(result),
        "judgements": [each and _judgement_row(each) for each in result.judgements],
    }


def _judgement_row(given: Judgement) -> dict[str, Any]:
    evidence = {name: asdict(each) for name, each in given.evidence.items()}
    return {"judge": given.judge, "scores": dict(given.scores), "evidence": evidence}


def _turns(result: Result) -> list[dict[str, Any]]:
    turns, at = [], 0
    for message in result.conversation.chat:
        turn: dict[str, Any] = {"role": message["role"], "text": message["content"]}
        if message["role"] == "assistant":
            if message.get("messages"):
                turn["calls"] = called(message["messages"])
            turn["madeUp"] = [
                {"variable": each.variable, "said": each.said} for each in result.assertions if each.turn == at and not each.given
            ]
            if at < len(result.replay.turns):
                turn |= _checked_turn(result, at)
            at += 1
        turns.append(turn)
    return turns


def called(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The tool calls of a turn with what they returned, as texts."""
    results = {each["tool_call_id"]: str(each["content"]) for each in messages if each["role"] == "tool"}
    return [
        {
            "tool": str(call["function"]["name"]),
            "arguments": str(call["function"]["arguments"]),
            "result": results.get(call["id"], ""),
        }
        for message in messages
        for call in message.get("tool_calls") or ()
    ]


def _checked_turn(result: Result, at: int) -> dict[str, Any]:
    turn = result.replay.turns[at]
    wrong = [mention for mention in result.replay.mentions if mention.turn == at and not mention.exact]
    return {
        "expected": list(turn.prescribed.nodes),
        "got": list(turn.label.nodes) if turn.label else [],
        "right": turn.right,
        "slots": [{"variable": m.variable, "said": m.said, "meant": m.meant} for m in wrong],
    }


def _tool_faults(result: Result) -> dict[str, Any]:
    """Wrong calls and the number of invented results; nothing for a conversation in which no call was due or made."""
    calls, stated = result.replay.calls, result.replay.results
    if not calls.due and not calls.faults:
        return {}
    return {"wrongCalls": [asdict(fault) for fault in calls.faults], "inventedResults": stated.invented}


def result_row(result: Result) -> dict[str, Any]:
    wrong = result.replay.violation
    return {
        "id": result.scenario.id,
        "unseen": result.scenario.unseen,
        "played": result.conversation.error is None,
        "challenged": result.challenged,
        "conformant": result.conformant,
        "leftOut": result.left_out,
        "terminal": result.replay.path[-1],
        "reached": result.replay.reached,
        "violation": asdict(wrong) if wrong else None,
        **_tool_faults(result),
        "scores": {name: result.score(name) for name in CRITERIA},
    }
