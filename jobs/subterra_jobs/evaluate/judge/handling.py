"""Whether the agent handled what a robustness customer said. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_api.v1alpha1.scores import RobustnessKind
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.detours import question_of
from subterra_jobs.evaluate.judge.call_conformance import calls_in, with_calls_checked
from subterra_jobs.evaluate.judge.conformance import Replay, replay
from subterra_jobs.evaluate.judge.fabrication import Assertion, ReplyReader
from subterra_jobs.evaluate.judge.free_words.answers import AnswerReader
from subterra_jobs.evaluate.judge.value_forms import contains
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.conversation import Conversation

UNREADABLE_CALL = "<tool_call>"
"""What is left in a reply of a call whose JSON the server cannot parse."""
OtherwiseRecognizer = Callable[[ProcedureSpec, str, str], str | None]
"""Recognizes the author's words for what the flowchart does not have, from the reply and the agent's reply before it."""


@dataclass(frozen=True)
class Handling:
    """A robustness customer's conversation; `handled` is `None` if it did not come to what it tests, `why` says what was wrong."""

    scenario: Scenario
    conversation: Conversation
    assertions: tuple[Assertion, ...]
    handled: bool | None
    why: str = ""

    @property
    def kind(self) -> RobustnessKind:
        """What the customer tests."""
        assert self.scenario.kind is not None, "only robustness customers are examined for handling"
        return self.scenario.kind


@dataclass(frozen=True)
class _Played:
    """A conversation as the checks read it."""

    scenario: Scenario
    replies: Sequence[str]
    assertions: Sequence[Assertion]
    turns: Sequence[Mapping[str, Any]] = ()
    """The agent's messages, with the tool calls in them."""

    @property
    def detour_reply(self) -> int:
        """Index of the reply to the line that the flowchart has no place for."""
        assert self.scenario.detour_at is not None, "customers of this kind take a detour"
        return self.scenario.detour_at + self.scenario.agent_first

    def made_up(self, turns: range) -> str:
        """The first value in these turns that nobody gave, in a sentence; empty if there is none."""
        found = next((each for each in self.assertions if each.turn in turns and not each.given), None)
        return f"asserted “{found.said}” for {found.variable}, which nobody gave" if found else ""

    def called(self, turns: range) -> str:
        """The first tool call in these turns, in which none is due, in a sentence; empty if there is none."""
        made = [call for message in self.turns[turns.start : turns.stop] for call in calls_in(message)]
        if made:
            return f"called {' '.join(made[0])}, and no call was due"
        written = any(UNREADABLE_CALL in reply for reply in self.replies[turns.start : turns.stop])
        return "wrote a call that nobody can read" if written else ""

    def went_beyond(self, turns: range) -> str:
        """The first call, or else value that nobody gave, in these turns; empty if there is none."""
        return self.called(turns) or self.made_up(turns)


class HandlingExaminer:
    """Examines the conversations of robustness customers."""

    def __init__(
        self,
        graph: Graph,
        reader: ReplyReader,
        otherwise_kind: OtherwiseRecognizer | None = None,
        answers: AnswerReader | None = None,
    ) -> None:
        self._graph, self._reader, self._otherwise_kind = graph, reader, otherwise_kind
        self._answers = answers or AnswerReader(graph.spec)
        self._checks: Mapping[RobustnessKind, Callable[[_Played], str | None]] = {
            "phrasings": self._followed_the_procedure,
            "realValues": self._repeated_every_value,
            "corrections": self._repeated_every_value,
            "unknownValues": self._refused_the_value,
            "offTopic": self._came_back,
            "afterEnd": self._stayed_at_the_end,
            "questions": self._answered_and_went_on,
        }

    def examine(self, scenario: Scenario, conversation: Conversation) -> Handling:
        """Whether the agent handled it. A conversation that failed was not handled."""
        assertions = self._reader.assertions(scenario, conversation)
        if conversation.error is not None:
            return Handling(scenario, conversation, assertions, False, f"simulation failed: {conversation.error}")
        assert scenario.kind is not None, "only robustness customers are examined for handling"
        turns = [message for message in conversation.chat if message["role"] == "assistant"]
        played = _Played(scenario, [reply.text for reply in conversation.replies], assertions, turns)
        why = self._checks[scenario.kind](played)
        return Handling(scenario, conversation, assertions, None if why is None else not why, why or "")

    def _followed_the_procedure(self, played: _Played) -> str:
        return _deviation(self._replay(played, range(len(played.replies))))

    def _repeated_every_value(self, played: _Played) -> str:
        replayed = self._replay(played, range(len(played.replies)))
        wrong = next((mention for mention in replayed.mentions if not mention.exact), None)
        said = f"said “{wrong.said}” for {wrong.variable}, not “{wrong.meant}”" if wrong else ""
        return said or _deviation(replayed)

    def _refused_the_value(self, played: _Played) -> str:
        """It asks again, says that it cannot, or repeats the value as the customer said it; it asserts no other one.

        A reply that no rule recognizes asserts nothing unless it names a value.
        """
        at = played.detour_reply
        if beyond := played.called(range(at, at + 1)) or played.made_up(range(at, len(played.replies))):
            return beyond
        if at >= len(played.replies):
            return "did not reply to it"
        steps, last = self._steps(played, at), self._steps(played, at - 1) if at else []
        asks_again = not steps or any({*nodes} <= {node for before in last for node in before} for nodes in steps)
        repeats = contains(played.replies[at], played.scenario.unlisted)
        return "" if asks_again or repeats or self._is_otherwise(played, at) else "went on as if the value were in the list"

    def _came_back(self, played: _Played) -> str:
        at = played.detour_reply
        others = [turn for turn in range(len(played.replies)) if turn != at]
        return played.went_beyond(range(at, at + 1)) or _deviation(self._replay(played, others))

    def _stayed_at_the_end(self, played: _Played) -> str | None:
        """`None` when the agent never came to the end that was due."""
        at = played.detour_reply
        if not self._replay(played, range(min(at, len(played.replies)))).arrived:
            return None
        if beyond := played.went_beyond(range(at, len(played.replies))):
            return beyond
        if at >= len(played.replies):
            return "did not reply after the end"
        steps, end = self._steps(played, at), self._steps(played, at - 1)
        closing = {node for nodes in end for node in nodes}
        stayed = not steps or any({*nodes} <= closing for nodes in steps) or self._is_otherwise(played, at)
        return "" if stayed else f"took the step {' + '.join(steps[0])} after the end"

    def _answered_and_went_on(self, played: _Played) -> str:
        """It gives the answer to this question, asks again what it had asked, and the rest is as if nobody had asked."""
        at, asked = played.detour_reply, played.scenario.asked
        if at >= len(played.replies):
            return f"did not reply to the question {asked}"
        reply, previous = played.replies[at], played.replies[at - 1] if at else ""
        read = self._answers.read(reply, previous)
        if asked not in read.names:
            other = " and ".join(sorted(read.names))
            return f"answered {other}, not {asked}" if other else f"gave no answer to {asked}"
        if not read.takes_up and not self._asks_again(played, at):
            return f"answered {asked}, but did not take up its question again"
        others = [turn for turn in range(len(played.replies)) if turn != at]
        return played.went_beyond(range(at, at + 1)) or _deviation(self._replay(played, others))

    def _asks_again(self, played: _Played, at: int) -> bool:
        """Whether the end of a reply takes the step of the reply before it, in whatever words."""
        last = question_of(played.replies[at])
        before = set(self._steps(played, at - 1)) if at else set()
        steps = [label.nodes for label in self._reader.label_reply(last, played.scenario)]
        return any(any({*nodes} <= {*each} for each in before) for nodes in steps)

    def _is_otherwise(self, played: _Played, at: int) -> bool:
        """Whether a reply is in the author's words for what the flowchart does not have."""
        before = played.replies[at - 1] if at else ""
        return self._otherwise_kind is not None and self._otherwise_kind(self._graph.spec, played.replies[at], before) is not None

    def _steps(self, played: _Played, turn: int) -> list[tuple[str, ...]]:
        """Steps that a reply may take; none if it is not recognized."""
        return [label.nodes for label in self._reader.label_reply(played.replies[turn], played.scenario)]

    def _replay(self, played: _Played, turns: Sequence[int]) -> Replay:
        """The agent's replies with these numbers, checked against the procedure."""
        labels = [self._reader.label_reply(played.replies[turn], played.scenario) for turn in turns]
        path, values = played.scenario.path, played.scenario.values
        replayed = replay(self._graph, path, values, labels)
        return with_calls_checked(self._graph, replayed, values, [played.turns[turn] for turn in turns])


def _deviation(replayed: Replay) -> str:
    """What was wrong with the agent's steps, in a sentence; empty if nothing was."""
    wrong = replayed.violation
    if wrong is not None:
        got = f"took the step {' + '.join(wrong.got)}" if wrong.got else "gave a reply that matches no step of the procedure"
        return f"{got} where {' + '.join(wrong.expected)} was due"
    if replayed.calls.faults:
        fault = replayed.calls.faults[0]
        return f"{fault.kind}: {fault.made or 'nothing'} where {fault.due or 'no call'} was due"
    if replayed.results.invented:
        return "stated a result that no tool had returned"
    return "" if replayed.arrived else "did not come to the right end"
