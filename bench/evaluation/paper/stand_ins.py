"""Agents that follow a procedure except for one flaw of a known kind in a share of their conversations, and judges that see it."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Step
from subterra_core.procedure.template import render, split, variables_of
from subterra_jobs.evaluate.analysis.paper_tables.failure_modes import FailureMode, is_hub
from subterra_jobs.evaluate.judge.results import ACCURACY, CONSISTENCY, NATURAL, TASK
from subterra_jobs.evaluate.simulate.agents import AWAITING_GREETING
from subterra_testkit.runs import judgements
from subterra_testkit.runs.evaluation_runs import TURN, FaultlessProvider, last_message
from subterra_testkit.servers.fake_chat_server import Chat, Oracle

FLAWS: tuple[FailureMode, ...] = (
    "noReply",
    "routingError",
    "endedEarly",
    "skippedStep",
    "repeatedQuestion",
    "unrecognized",
    "lostFact",
)
SETTLED = 2
"""Customer's turns before the first flaw: by them a conversation is known again."""
NONSENSE = "One moment, my other screen has just gone dark."
Line = tuple[str, str]
"""Speaker, `Agent` or `Customer`, and words."""


@dataclass
class KnownFlaws:
    """Flaws that were made, by the conversation up to and including the flawed reply."""

    modes: dict[str, FailureMode] = field(default_factory=dict)

    def add(self, lines: Sequence[Line], mode: FailureMode) -> None:
        """Notes that the last line is flawed; without one where nothing was said."""
        self.modes[_key(lines)] = mode

    def first(self, lines: Sequence[Line]) -> FailureMode | None:
        """The first flaw of a conversation; `None` for one without."""
        found = ((end, self.modes.get(_key(lines[:end]))) for end in range(1, len(lines) + 1))
        # Other agents had a reply to the very words that one had none for: only a conversation that ends there is flawed.
        return next((mode for end, mode in found if mode and (mode != "noReply" or end == len(lines))), None)


def _key(lines: Sequence[Line]) -> str:
    return hashlib.sha256(json.dumps([list(line) for line in lines]).encode()).hexdigest()


def lines_of(chat: Chat) -> list[Line]:
    """A chat's turns."""
    return [("Agent" if turn["role"] == "assistant" else "Customer", turn["content"]) for turn in chat]


@dataclass(frozen=True)
class _Turn:
    """Where an agent is: the customer's node and step before the last line, what is due now, and the values so far."""

    before: Step
    after: Step
    said: list[str]
    previous: list[str]
    values: dict[str, str]


class FlawedAgent(Oracle):
    """An oracle with one of `flaws` in a `share` of the conversations, at the first turn that allows it."""

    def __init__(self, spec: ProcedureSpec, share: float, known: KnownFlaws, flaws: Sequence[FailureMode] = FLAWS) -> None:
        super().__init__(spec)
        self._share, self._known, self._flaws = share, known, flaws
        self._agent_first = self.graph.nodes[spec.start].role == "agent"

    def respond(self, chat: Chat) -> str | None:
        """The agent's next turn; `None` where it has no reply."""
        lines = [turn["content"] for turn in chat if turn["role"] == "user"]
        lines = lines[1:] if lines and chat[0]["role"] == "user" and self._agent_first else lines
        mode = self._drawn(lines)
        if mode is None:
            return self.reply(chat)
        for count in range(SETTLED, len(lines) + 1):
            turn = self._turn(lines[:count])
            flawed = None if turn is None else self._flawed(mode, turn)
            if flawed is not None:
                return self._made(mode, flawed, chat) if count == len(lines) else self.reply(chat)
        return self.reply(chat)

    def _made(self, mode: FailureMode, flawed: str, chat: Chat) -> str | None:
        self._known.add([*lines_of(chat), *([("Agent", flawed)] if flawed else [])], mode)
        return flawed or None

    def _drawn(self, lines: Sequence[str]) -> FailureMode | None:
        if len(lines) < SETTLED or not self._flaws:
            return None
        return draw(lines[:SETTLED], self._share, self._flaws)

    def _turn(self, lines: Sequence[str]) -> _Turn | None:
        """The agent's turn after these lines; `None` if it does not understand one."""
        values: dict[str, str] = {}
        step, said = self._speak(self.graph.begin())
        before, after, previous = step, step, said
        for line in lines:
            following = self._follow(step, line, values)
            if following is None:
                return None
            before, after, previous = step, following, said
            step, said = self._speak(following)
        return _Turn(before, after, said, previous, values)

    def _flawed(self, mode: FailureMode, turn: _Turn) -> str | None:
        """The flawed reply, empty for none at all; `None` where the turn does not allow this flaw."""
        if mode == "noReply":
            return ""
        if mode == "unrecognized":
            return NONSENSE
        if mode == "lostFact":
            return self._with_another_value(turn)
        nodes = next((nodes for nodes in self._wrong_steps(mode, turn) if nodes and nodes != turn.said), None)
        return None if nodes is None else self._words(nodes, turn.values)

    def _wrong_steps(self, mode: FailureMode, turn: _Turn) -> Iterator[list[str]]:
        hub = turn.before.node
        if mode == "routingError" and is_hub(self.graph, hub):
            edges = [edge for edge in self.graph.open_edges(turn.before) if edge.to != turn.after.node]
            yield from (self._speak(self.graph.take(turn.before, edge))[1] for edge in edges)
        if mode == "repeatedQuestion" and not self._leads(hub, turn.previous):
            yield turn.previous
        if mode == "endedEarly" and self.graph.nodes[turn.said[-1]].next:
            ends = [node.id for node in self.graph.nodes.values() if node.role == "agent" and not node.next]
            yield from ([node] for node in ends if not self._leads(hub, [node]))
        if mode == "skippedStep":
            yield from self._next_steps(turn)

    def _leads(self, hub: str, nodes: Sequence[str]) -> bool:
        return not nodes or self.graph.edge(hub, nodes[0]) is not None

    def _next_steps(self, turn: _Turn) -> Iterator[list[str]]:
        """What would come after the customer's next turn, where that leaves no choice."""
        step, _ = self._speak(turn.after)
        edges = self.graph.open_edges(step)
        if self.graph.nodes[step.node].role == "user" and len(edges) == 1:
            following = self._speak(self.graph.take(step, edges[0]))[1]
            if not self._leads(turn.before.node, following) and self.graph.nodes[following[-1]].next:
                yield following

    def _with_another_value(self, turn: _Turn) -> str | None:
        said = self._words(turn.said, turn.values)
        for variable in self.graph.spec.variables:
            value = turn.values.get(variable.name)
            other = next((each for each in variable.values if each != value), None)
            if value and other and f"{{{{{variable.name}}}}}" in "".join(self._templates(turn.said)):
                return said.replace(value, other)
        return None

    def _templates(self, nodes: Sequence[str]) -> list[str]:
        return [self.graph.nodes[node].examples[0] for node in nodes]

    def _words(self, nodes: Sequence[str], values: Mapping[str, str]) -> str:
        return " ".join(rendered(text, values) for text in self._templates(nodes))


def rendered(text: str, values: Mapping[str, str]) -> str:
    """`text` with the values filled in; an unknown one shows as the variable's name."""
    return render(text, {name: values.get(name, name) for name in variables_of(text)})


def draw(lines: Sequence[str], share: float, flaws: Sequence[FailureMode] = FLAWS) -> FailureMode | None:
    """A flaw for a share of all conversations, by their first lines alone; `None` for the others."""
    number = int.from_bytes(hashlib.sha256("\n".join(lines).encode()).digest()[:4], "big")
    chosen, rest = divmod(number, 1000)
    return flaws[chosen % len(flaws)] if rest < 1000 * share else None


class FlawedCompany(FaultlessProvider):
    """Plays every role as `FaultlessProvider` does, except that `agents` play in context, by model, and that the router takes a
    wrong way in a share of the orchestrated conversations. Judges score what went wrong.
    """

    def __init__(self, spec: ProcedureSpec, agents: Mapping[str, FlawedAgent], misrouted: float, known: KnownFlaws) -> None:
        super().__init__(spec)
        self._agents, self._misrouted, self._known = agents, misrouted, known
        self._wrong_turns: set[str] = set()
        """Conversations up to the customer's line after which the router took a wrong way."""
        words = [text for each in self._own_words() for text in each.examples]
        self._patterns = [(split(text), re.compile("(.+?)".join(map(re.escape, split(text)[::2])))) for text in words]

    def __call__(self, body: dict[str, Any]) -> str:
        if judgements.is_judging(body):
            return judgements.judging_answer(body, self._criterion_score)
        return super().__call__(body)

    def _criterion_score(self, criterion: str, body: dict[str, Any]) -> int:
        mode = self._known.first([(who, line) for _, who, line in judgements.turns_of(body)])
        worse = {"lostFact": ACCURACY, "repeatedQuestion": CONSISTENCY}.get(mode or "")
        if mode and criterion in {TASK, worse}:
            return 2
        return 4 if criterion == NATURAL and str(body["model"]).startswith("gpt") else 5

    def _agent(self, body: dict[str, Any]) -> str:
        if "<instruction>" in last_message(body):
            return self._orchestrated(body)
        chat = [{**message} for message in body["messages"] if message["role"] != "system"]
        chat[0]["content"] = chat[0]["content"].rpartition("</known>\n\n")[2]
        chat = chat[1:] if chat[0]["content"] == AWAITING_GREETING else chat
        return self._agents[body["model"]].respond(chat) or ""

    def _orchestrated(self, body: dict[str, Any]) -> str:
        lines = _conversation(body)
        text = super()._agent(body)
        values = self._values([line for who, line in lines if who == "Customer"])
        words = rendered(text, values)
        last = max((at for at, (who, _) in enumerate(lines) if who == "Customer"), default=-1) + 1
        if _key(lines[:last]) in self._wrong_turns:
            reply = " ".join([*(line for _, line in lines[last:]), words])
            self._known.add([*lines[:last], ("Agent", reply)], "routingError")
        return words

    def _values(self, said: Sequence[str]) -> dict[str, str]:
        """Values in the customer's lines, by the phrasing with the most fixed text; later ones replace earlier ones."""
        found: dict[str, str] = {}
        for line in said:
            matches = [(sum(map(len, parts[::2])), parts, match) for parts, p in self._patterns if (match := p.fullmatch(line))]
            if matches:
                _, parts, match = max(matches, key=lambda each: each[0])
                found |= dict(zip(parts[1::2], match.groups(), strict=True))
        return found

    def _router(self, body: dict[str, Any]) -> str:
        right = int(json.loads(super()._router(body))["option"])
        lines = _conversation(body)
        said = [line for who, line in lines if who == "Customer" and line not in self._openers]
        if len(said) < SETTLED or draw(said[:SETTLED], self._misrouted) is None:
            return json.dumps({"option": right})
        self._wrong_turns.add(_key(lines[: max(at for at, (who, _) in enumerate(lines) if who == "Customer") + 1]))
        return json.dumps({"option": 2 if right == 1 else 1})


def _conversation(body: dict[str, Any]) -> list[Line]:
    return re.findall(rf"^{TURN}(Agent|Customer): (.*)$", last_message(body), re.MULTILINE)
