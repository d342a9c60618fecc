"""Holds the agent's words in the pilot against the node that was due, by similarity: what leaves the procedure would be trained.

A turn follows its node if the whole turn or one of its sentences is as close to the node's prompt and examples as to any other
node's, within the labeller's margin. So words that merely do more than was asked pass, and a teacher is blamed for a node only by
several turns. The evaluation's labeller has the same encoder and margin (ADR 011).
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.similarity.closest_examples import REPLY_LIMIT, CandidateLabel, ExampleIndex, Similarities, near
from subterra_jobs.dialogue.similarity.mentioned_values import masked
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.generate.written_conversation import Conversation

if TYPE_CHECKING:  # the command line, which has no numpy, reads audits too
    from subterra_jobs.dialogue.similarity.sentence_encoder import Encoder

NEEDED_SHARE = 0.6
"""Share of a node's turns in the pilot that must follow it."""
_FEWEST = 3
"""Turns that leave a node before it is blamed: one or two may be misread."""
_SHOWN_NODES = 4
_SHOWN_LENGTH = 160
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class AgentTurn:
    """What the agent said at a node. `like` is the node that the words are closest to, empty if they are like none."""

    conversation: str
    node: str
    text: str
    followed: bool
    like: str


@dataclass(frozen=True)
class NodeTurns:
    """The agent's turns at one node in the pilot."""

    node: str
    turns: int
    followed: int
    like: str
    """The node that turns which leave this one are closest to most often; empty for words like no node."""
    example: AgentTurn | None
    """A turn that leaves the node, of that kind."""

    @property
    def share(self) -> float:
        """Share of the turns that follow the node, between 0 and 1."""
        return self.followed / self.turns

    @property
    def is_left(self) -> bool:
        """Whether the teacher leaves the procedure here."""
        return self.turns - self.followed >= _FEWEST and self.share < NEEDED_SHARE


@dataclass(frozen=True)
class AgentAudit:
    """All nodes of the agent in the pilot, the worst first."""

    conversations: int
    nodes: tuple[NodeTurns, ...]

    @property
    def message(self) -> str:
        """The audit in one line."""
        turns, followed = sum(node.turns for node in self.nodes), sum(node.followed for node in self.nodes)
        left = [node.node for node in self.nodes if node.is_left]
        summary = f"agent audit: {followed}/{turns} turns of the pilot follow their node"
        return f"{summary}, the teacher leaves the procedure at {', '.join(left)}" if left else summary

    def to_dict(self) -> dict[str, Any]:
        """The content of ``audit.json`` about the agent."""
        return {"conversations": self.conversations, "needed": NEEDED_SHARE, "nodes": [_row(node) for node in self.nodes]}


def audit_agent(graph: Graph, conversations: Iterable[Conversation], encoder: "Encoder") -> AgentAudit:
    """The audit of the pilot conversations that were not dropped."""
    pilot = [conversation for conversation in conversations if conversation.spec.audited and conversation.drop_reason is None]
    turns: defaultdict[str, list[AgentTurn]] = defaultdict(list)
    for turn in _agent_turns(graph, pilot, encoder):
        turns[turn.node].append(turn)
    nodes = [_node_turns(node, found) for node, found in turns.items()]
    return AgentAudit(len(pilot), tuple(sorted(nodes, key=lambda node: (not node.is_left, node.share, node.node))))


def require_followed(audit: AgentAudit) -> None:
    """Raises InvalidInputError naming the nodes that the teacher leaves, with what it says there."""
    left = [node for node in audit.nodes if node.is_left]
    if not left:
        return
    more = [f"{len(left) - _SHOWN_NODES} more nodes"] if len(left) > _SHOWN_NODES else []
    raise InvalidInputError(
        "the teacher leaves the procedure, so the rest is not written: "
        + "; ".join([*map(_problem, left[:_SHOWN_NODES]), *more])
        + ". Make the prompts of these nodes clearer, give them examples, or use another model; to continue anyway, set "
        "generation.audit to Report"
    )


def _agent_turns(graph: Graph, pilot: Sequence[Conversation], encoder: "Encoder") -> Iterator[AgentTurn]:
    index = ExampleIndex(graph, "agent", encoder)
    said = [(each, turn) for each in pilot for turn in each.utterances if turn.role == "agent" and not turn.call]
    parts = [_parts(turn.text, each) for each, turn in said]
    encoder.encode([text for texts in parts for text in texts])  # one batch; the encoder keeps the vectors
    for (conversation, turn), texts in zip(said, parts, strict=True):
        found = [index.similarities(vector) for vector in encoder.encode(texts)] if texts else []
        followed = any(turn.node in label.nodes for similarities in found for label in near(similarities, "agent"))
        yield AgentTurn(conversation.spec.id, turn.node, turn.text, followed, _closest(found))


def _parts(text: str, conversation: Conversation) -> list[str]:
    """The turn without values, whole and by sentences: a long turn is like no single example as a whole."""
    whole = text[:REPLY_LIMIT]
    sentences = _SENTENCE_END.split(whole)
    texts = [whole, *(sentences if len(sentences) > 1 else ())]
    return [plain for each in texts if (plain := masked(each, conversation.spec.values))]


def _closest(found: Sequence[Similarities]) -> str:
    """The last node of the label that is closest to the whole turn."""
    labels: Sequence[CandidateLabel] = near(found[0], "agent") if found else ()
    return labels[0].nodes[-1] if labels else ""


def _node_turns(node: str, turns: Sequence[AgentTurn]) -> NodeTurns:
    wrong = [turn for turn in turns if not turn.followed]
    counts = Counter(turn.like for turn in wrong)
    like = min(counts, key=lambda name: (-counts[name], name)) if counts else ""
    return NodeTurns(node, len(turns), len(turns) - len(wrong), like, next((turn for turn in wrong if turn.like == like), None))


def _row(node: NodeTurns) -> dict[str, Any]:
    row: dict[str, Any] = {"node": node.node, "turns": node.turns, "followed": node.followed, "share": round(node.share, 3)}
    if node.example is not None:
        row |= {"readAs": node.like or None, "example": {"conversation": node.example.conversation, "text": node.example.text}}
    return row


def _problem(node: NodeTurns) -> str:
    assert node.example is not None, "a node that is left has a turn that leaves it"
    text = " ".join(node.example.text.split())
    shown = text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH].rstrip()}…"
    like = f"it reads as {node.like}" if node.like else "it is like no node"
    return (
        f"node {node.node}: {node.followed} of {node.turns} turns follow it ({node.share:.0%}, needed {NEEDED_SHARE:.0%}); "
        f'{like}, for example in {node.example.conversation}: "{shown}"'
    )
