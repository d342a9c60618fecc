"""Which step and outcome a conversation has reached, from its messages alone. Pure but for the encoder.

The labeller is the monitor's: the author's words by their patterns, others by similarity, and the flowchart decides between its
guesses. Where two steps are nearly as likely, or none is, the state is unknown and says why, because clients act on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.tool_calls import marked
from subterra_jobs.evaluate.analysis.served.recorded_chat import MOST_MESSAGES, Chat, chat_of
from subterra_jobs.evaluate.analysis.served.state.chat_values import ValueReader
from subterra_jobs.evaluate.analysis.served.turn_reader import NEAR, TurnReader
from subterra_jobs.evaluate.judge.alignment import LabelledTurn, align, last_step_lead
from subterra_jobs.evaluate.judge.rule_labeller import Labeller

Reason = Literal["NoStep", "ToolCall", "NotRecognized", "Ambiguous", "TooLong", "Busy", "NotReady", "Unreadable"]
"""Why a state is unknown. The last three are about the reader and not about the conversation."""


@dataclass(frozen=True)
class ConversationState:
    """Where a conversation is after the agent's last reply. Without a `node`, `reason` says why."""

    node: str | None = None
    """The last step that the reply took."""
    outcome: str | None = None
    """How the conversation ended: success, abandonment or escalation."""
    ended: bool | None = None
    """Whether it has ended."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Values of the procedure's variables that are known by now."""
    reason: Reason | None = None
    message: str | None = None
    """The reason in words."""

    def to_json(self) -> dict[str, Any]:
        """As clients get it: always the same fields."""
        return {"object": "conversation.state", **asdict(self)}


class StateReader:
    """Reads conversations of one procedure. Raises InvalidInputError for an agent node without examples."""

    def __init__(self, graph: Graph, labeller: Labeller) -> None:
        self._graph, self._reader, self._values = graph, TurnReader(graph, labeller), ValueReader(graph.spec)

    def read(self, messages: Sequence[Mapping[str, Any]]) -> ConversationState:
        """The state after the last reply; what follows it does not count.

        Raises ValueError, LookupError, TypeError or AttributeError for what are no messages of a chat.
        """
        if len(messages) > MOST_MESSAGES:
            return ConversationState(reason="TooLong", message=f"{len(messages)} messages; at most {MOST_MESSAGES} are read")
        spoken = _up_to_last_reply(messages)
        whole = chat_of([_with_mark(message) for message in spoken])
        known = self._known(whole, messages)
        if spoken and spoken[-1].get("tool_calls"):
            return self._calling(spoken[-1]["tool_calls"][-1]["function"]["name"], known)
        chat = self._reader.within_the_procedure(whole)
        if not any(turn["role"] == "assistant" for turn in chat.turns):
            return ConversationState(variables=known, reason="NoStep", message="no reply has taken a step of the procedure yet")
        return self._reached(chat, self._reader.facts(chat) | self._values.facts(spoken), known)

    def _reached(self, chat: Chat, facts: Mapping[str, str], known: Mapping[str, str]) -> ConversationState:
        turns = self._reader.turns(chat)
        steps = [label.nodes if label else () for label in align(self._graph, facts, turns).turns]
        terminal = next((node for nodes in steps for node in nodes if not self._graph.nodes[node].next), None)
        node = terminal or (steps[-1][-1] if steps[-1] else None)
        if node is None:
            return ConversationState(variables=known, reason="NotRecognized", message="the last reply is like no step that is due")
        if self._is_close_call(facts, turns, known_end=terminal is not None and terminal not in steps[-1]):
            text = f"the last reply may be {node}, and another step is nearly as likely"
            return ConversationState(variables=known, reason="Ambiguous", message=text)
        return ConversationState(node, self._graph.nodes[node].outcome, terminal is not None, known)

    def _is_close_call(self, facts: Mapping[str, str], turns: Sequence[LabelledTurn], *, known_end: bool) -> bool:
        """Whether another last step is nearly as likely; after the end there is none to tell from it."""
        return not known_end and last_step_lead(self._graph, facts, turns) < NEAR

    def _calling(self, tool: str, known: Mapping[str, str]) -> ConversationState:
        """A reply that is a call and not yet words: the node of the call, if only one calls that tool."""
        nodes = [node.id for node in self._graph.spec.nodes if node.tool == tool]
        if len(nodes) == 1:
            return ConversationState(nodes[0], None, False, known)
        text = f"the reply calls {tool}, as {len(nodes)} steps do; ask again after the agent's next words"
        return ConversationState(variables=known, reason="ToolCall", message=text)

    def _known(self, chat: Chat, messages: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Values in the order of the procedure; those of calls are exact, so they count more than words."""
        found = self._reader.stated_values(chat) | self._values.of_calls(messages)
        return {variable.name: found[variable.name] for variable in self._graph.spec.variables if variable.name in found}


def _up_to_last_reply(messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The messages without what follows the agent's last one."""
    replies = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    return messages[: replies[-1] + 1] if replies else ()


def _with_mark(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """A call as it stands in the words that the labeller knows."""
    return {**message, "content": marked([message])} if message.get("tool_calls") else message
