"""Conversations about a trip to Oslo that leave the flowchart once, for tests of what an examiner says of the agent."""

from collections.abc import Sequence
from typing import Any

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_jobs.evaluate.judge.handling import Handling, HandlingExaminer
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.conversation import Conversation
from subterra_jobs.evaluate.simulate.vllm_client import Reply
from subterra_testkit.procedures import agent, end, procedure, user

PATH = ("ask", "where", "confirm", "answer", "booked")
CONFIRM, BOOKED = "Great, Oslo it is. Shall I book Oslo?", "Your trip to Oslo is booked."


def trip_booking(greeting: str, **more: Any) -> ProcedureSpec:
    """A procedure that books a trip to one of three towns."""
    return procedure(
        agent("ask", "where", examples=[greeting]),
        user("where", "confirm", examples=["{{city}}"]),
        agent("confirm", "answer", examples=["Great, {{city}} it is. Shall I book {{city}}?"]),
        user("answer", "booked", "left", examples=["Yes, please."]),
        end("booked", examples=["Your trip to {{city}} is booked."]),
        end("left", examples=["Goodbye then."]),
        start="ask",
        variables=[{"name": "city", "values": ["Oslo", "Riga", "Sofia"]}],
        **more,
    )


def examined_trip(
    examiner: HandlingExaminer, lines: Sequence[str], replies: Sequence[str], error: str | None = None, **scenario: Any
) -> Handling:
    """What the examiner says of an agent that speaks first and gives these replies."""
    chat = [{"role": "assistant", "content": replies[0]}]
    for line, reply in zip(lines, replies[1:], strict=False):
        chat += [{"role": "user", "content": line}, {"role": "assistant", "content": reply}]
    played = Conversation(tuple(chat), tuple(Reply(text, 0, 0, 0, "stop") for text in replies), error)
    return examiner.examine(Scenario("s", False, PATH, {"city": "Oslo"}, None, tuple(lines), True, **scenario), played)
